// VexRiscv as LiteX's variant `standard` has it: caches of 4 KB for instructions and for data, lines of 8 words, one way.
// Both Wishbone buses answer in the next cycle, in a burst with a word per cycle. Addresses from 0x80000000 on are not cached:
// the window to the host is there, the memory below.
module core(
    input logic clk, rst_n,
    output logic instr_req, output logic [31:0] instr_addr, input logic instr_gnt, instr_rvalid, input logic [31:0] instr_rdata,
    output logic data_req, data_we, output logic [3:0] data_be, output logic [31:0] data_addr, data_wdata,
    input logic data_gnt, data_rvalid, input logic [31:0] data_rdata
);
    logic i_cyc, i_stb, d_cyc, d_stb;
    logic [29:0] i_adr, d_adr;
    logic [2:0] i_cti, d_cti;

    VexRiscv top(
        .externalResetVector(32'h40000000), .timerInterrupt(1'b0), .softwareInterrupt(1'b0), .externalInterruptArray(32'h0),
        .iBusWishbone_CYC(i_cyc), .iBusWishbone_STB(i_stb), .iBusWishbone_ACK(instr_rvalid), .iBusWishbone_WE(),
        .iBusWishbone_ADR(i_adr), .iBusWishbone_DAT_MISO(instr_rdata), .iBusWishbone_DAT_MOSI(), .iBusWishbone_SEL(),
        .iBusWishbone_ERR(1'b0), .iBusWishbone_CTI(i_cti), .iBusWishbone_BTE(),
        .dBusWishbone_CYC(d_cyc), .dBusWishbone_STB(d_stb), .dBusWishbone_ACK(data_rvalid), .dBusWishbone_WE(data_we),
        .dBusWishbone_ADR(d_adr), .dBusWishbone_DAT_MISO(data_rdata), .dBusWishbone_DAT_MOSI(data_wdata),
        .dBusWishbone_SEL(data_be), .dBusWishbone_ERR(1'b0), .dBusWishbone_CTI(d_cti), .dBusWishbone_BTE(),
        .clk(clk), .reset(!rst_n)
    );

    // An answer in a burst that goes on (CTI 2) asks for the next word.
    assign instr_req = i_cyc && i_stb && (!instr_rvalid || i_cti == 3'b010);
    assign instr_addr = {instr_rvalid ? i_adr + 30'd1 : i_adr, 2'b00};
    assign data_req = d_cyc && d_stb && (!data_rvalid || d_cti == 3'b010);
    assign data_addr = {data_rvalid ? d_adr + 30'd1 : d_adr, 2'b00};
endmodule
