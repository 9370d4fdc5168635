/* RV32IM has no instructions for parts of a word. Nothing here branches on data: cycles must not depend on them. */
#ifndef LANES_H
#define LANES_H
#include <stdint.h>

/* zero + ((acc mult + 2^31) >> 32) */
INLINE int32_t rescale(int32_t acc, int32_t mult, int32_t zero) {
    const int64_t product = (int64_t)acc * mult;
    return zero + (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
}

/* Between 0 and `range`, less `range`. */
INLINE int32_t held(int32_t code, int32_t range) {
    code &= ~(code >> 31);
    code -= range;
    return code & code >> 31;
}

INLINE int32_t clamp(int32_t code, int32_t low, int32_t high) { return held(code - low, high - low) + high; }

/* Of codes. */
INLINE uint32_t larger(uint32_t a, uint32_t b) {
    const int32_t more = (int32_t)(a - b);
    return b + (uint32_t)(more & ~(more >> 31));
}

/* Stores the low half of a word; what is behind it. */
INLINE char *put_half(char *to, uint32_t word) {
    store16(to, (uint16_t)word);
    return to + 2;
}

/* Byte by byte a - b. */
INLINE uint32_t subtract_bytes(uint32_t a, uint32_t b) {
    const uint32_t top = 0x80808080;
    return ((a | top) - (b & ~top)) ^ ((a ^ ~b) & top);
}
#endif
