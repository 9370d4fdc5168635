/* The first instructions of an RV32 core, and its calls of the host. In QEMU a trap ends the program and says so; RTL ends
   at one by itself. */
#include "core.h"

#include "port.h"

void image_start(void);

int semihosting_call(int operation, const void *argument) {
    if (HOST->here) {
        __asm__ volatile("" ::: "memory");
        HOST->argument = (uint32_t)argument;
        HOST->operation = (uint32_t)operation;
#ifdef DATA_CACHE /* what the host wrote is behind it: VexRiscv's instruction empties it */
        __asm__ volatile(".word 0x500f" ::: "memory");
#endif
        __asm__ volatile("" ::: "memory");
        return (int)HOST->result;
    }
    register int a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

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
