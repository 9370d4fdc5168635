/* Codes that become bytes in one step, where `requantize.h` holds each within the bounds: nothing is left to do for a word
   of four. */
#ifndef BOUNDED_H
#define BOUNDED_H
#include "kernel.h"

INLINE uint32_t code_byte(const struct params *p, int32_t code) { return (uint32_t)clamp(code, p->low, p->high); }
INLINE uint32_t bound_bytes(const struct params *p, uint32_t word) {
    (void)p;
    return word;
}
#endif
