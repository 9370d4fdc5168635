/* An RV32 core: semihosting by the RISC-V sequence around EBREAK in QEMU. Where `host.here` is not 0 the image runs in RTL
   (lut/mcu/rtl/), whose memory acts on what is written into this window; elsewhere it is RAM that nothing else uses. */
#ifndef CORE_H
#define CORE_H
#include <stdint.h>

#define READ_STACK_POINTER "mv %0, sp"

struct host {
    uint32_t here, operation, argument, result, mark;
};
#define HOST ((volatile struct host *)0x87fff000)

static inline int semihosting_call(int operation, const void *argument) {
    if (HOST->here) {
        __asm__ volatile("" ::: "memory");
        HOST->argument = (uint32_t)argument;
        HOST->operation = (uint32_t)operation;
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

static inline void mark(int begins) {
    __asm__ volatile("" ::: "memory");
    HOST->mark = (uint32_t)begins;
    __asm__ volatile("" ::: "memory");
}
#endif
