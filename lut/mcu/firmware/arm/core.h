/* A Cortex-M: semihosting by BKPT 0xAB, marks that only the simulator sees. */
#ifndef CORE_H
#define CORE_H
#include <stdint.h>

#define READ_STACK_POINTER "mov %0, sp"

static inline int semihosting_call(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static inline void mark(int begins) {
    (void)begins;
    __asm__ volatile("" ::: "memory");
}
#endif
