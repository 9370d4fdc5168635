// OpenHW's CV32E40P, with Xpulp where XPULP is 1. Its clock is never gated, which saves time in simulation.
module core(
    input logic clk, rst_n,
    output logic instr_req, output logic [31:0] instr_addr, input logic instr_gnt, instr_rvalid, input logic [31:0] instr_rdata,
    output logic data_req, data_we, output logic [3:0] data_be, output logic [31:0] data_addr, data_wdata,
    input logic data_gnt, data_rvalid, input logic [31:0] data_rdata
);
    cv32e40p_top #(.COREV_PULP(`XPULP)) top(
        .clk_i(clk), .rst_ni(rst_n), .pulp_clock_en_i(1'b1), .scan_cg_en_i(1'b0), .fetch_enable_i(1'b1),
        .boot_addr_i(32'h80), .mtvec_addr_i(32'h0), .dm_halt_addr_i(32'h0), .dm_exception_addr_i(32'h0),
        .hart_id_i(32'h0),
        .instr_req_o(instr_req), .instr_gnt_i(instr_gnt), .instr_rvalid_i(instr_rvalid), .instr_addr_o(instr_addr),
        .instr_rdata_i(instr_rdata),
        .data_req_o(data_req), .data_gnt_i(data_gnt), .data_rvalid_i(data_rvalid), .data_we_o(data_we),
        .data_be_o(data_be), .data_addr_o(data_addr), .data_wdata_o(data_wdata), .data_rdata_i(data_rdata),
        .irq_i(32'h0), .irq_ack_o(), .irq_id_o(), .debug_req_i(1'b0), .debug_havereset_o(), .debug_running_o(),
        .debug_halted_o(), .core_sleep_o()
    );
endmodule

module cv32e40p_clock_gate(input logic clk_i, en_i, scan_cg_en_i, output logic clk_o);
    assign clk_o = clk_i;
endmodule
