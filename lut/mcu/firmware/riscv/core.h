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

int semihosting_call(int operation, const void *argument);

/* With caches, what is measured begins with empty ones (VexRiscv's instruction, FENCE.I): it depends on nothing before it. */
static inline void mark(int begins) {
#ifdef DATA_CACHE
    if (begins) __asm__ volatile(".word 0x500f\n.word 0x100f" ::: "memory");
#endif
    __asm__ volatile("" ::: "memory");
    HOST->mark = (uint32_t)begins;
    __asm__ volatile("" ::: "memory");
}
#endif
