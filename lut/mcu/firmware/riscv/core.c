/* The first instructions of an RV32 core. In QEMU a trap ends the program and says so; RTL ends at one by itself. */
#include "core.h"

#include "port.h"

void image_start(void);

#define CSR(instruction) ".option push\n.option arch, +zicsr\n" instruction "\n.option pop"

__attribute__((used, aligned(4))) static void fault(void) {
    char words[] = "fault: status 0x........\n";
    uint32_t cause;
    __asm__ volatile(CSR("csrr %0, mcause") : "=r"(cause));
    for (int i = 0; i < 8; i++) words[16 + i] = "0123456789abcdef"[cause >> (28 - 4 * i) & 15];
    port_print(words);
    port_exit(99);
}

/* At the start of flash. RTL keeps its own vector: Ibex wants another alignment. */
__attribute__((naked, section(".vectors"), used)) void image_entry(void) {
    __asm__ volatile(".option push\n.option norelax\nla gp, __global_pointer$\n.option pop\nla sp, image_stack_top\n"
                     "lui t0, %hi(0x87fff000)\nlw t0, 0(t0)\nbnez t0, 1f\n"
                     "la t0, fault\n" CSR("csrw mtvec, t0") "\n1: j image_start");
}
