// Runs an image on a core: IMAGE MARKS. Both buses have memories that answer in the next cycle. The cycles between two marks
// are written to the file MARKS, a line each.
#include <sys/resource.h>

#include "Vcore.h"
#include "memory.h"
#include "verilated.h"

int main(int count, char **words) {
    if (count != 3) fail("arguments are IMAGE MARKS, not", static_cast<uint32_t>(count - 1));
    const rlimit most = {1u << 30, 1u << 30};
    setrlimit(RLIMIT_AS, &most);
    Memory memory(words[2]);
    memory.load(words[1]);
    auto *core = new Vcore;
    core->clk = 0, core->rst_n = 1, core->eval();
    core->rst_n = 0, core->eval(); // flops behind a gated clock need a falling edge of reset
    core->instr_gnt = 1, core->data_gnt = 1;
    for (;; memory.cycle++) {
        core->rst_n = memory.cycle >= 10;
        core->clk = 0, core->eval();
        const bool fetches = core->rst_n && core->instr_req, accesses = core->rst_n && core->data_req;
        const uint32_t instruction = fetches ? memory.fetch(core->instr_addr) : 0;
        const uint32_t data = accesses && !core->data_we ? memory.read(core->data_addr) : 0;
        if (accesses && core->data_we) memory.write(core->data_addr, core->data_wdata, core->data_be);
        core->clk = 1, core->eval();
        core->instr_rvalid = fetches, core->instr_rdata = instruction;
        core->data_rvalid = accesses, core->data_rdata = data;
    }
}
