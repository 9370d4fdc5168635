/* Bytes and halfwords of a word by the DSP extension's instructions (Cortex-M4, M7, M33). */
#ifndef LANES_H
#define LANES_H
#include <stdint.h>

/* Bytes 0 and 2 of a word as two unsigned halfwords, or 1 and 3; the same for signed bytes. */
INLINE uint32_t even_bytes(uint32_t word) {
    uint32_t pair;
    __asm__("uxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}
INLINE uint32_t odd_bytes(uint32_t word) {
    uint32_t pair;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}
INLINE uint32_t even_signed(uint32_t word) {
    uint32_t pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}
INLINE uint32_t odd_signed(uint32_t word) {
    uint32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}
/* sum + the product of the low (high) halfwords. */
INLINE int32_t add_low(uint32_t a, uint32_t b, int32_t sum) {
    __asm__("smlabb %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}
INLINE int32_t add_high(uint32_t a, uint32_t b, int32_t sum) {
    __asm__("smlatt %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}
/* sum + the four bytes of a word. */
INLINE uint32_t add_bytes(uint32_t word, uint32_t sum) {
    __asm__("usada8 %0, %1, %2, %0" : "+r"(sum) : "r"(word), "r"(0));
    return sum;
}
/* zero + ((acc mult + 2^31) >> 32) */
INLINE int32_t rescale(int32_t acc, int32_t mult, int32_t zero) {
    int32_t code;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(code) : "r"(acc), "r"(mult), "r"(zero));
    return code;
}
INLINE uint32_t saturate8(int32_t code) {
    uint32_t byte;
    __asm__("usat %0, #8, %1" : "=r"(byte) : "r"(code));
    return byte;
}
/* Byte by byte a - b. */
INLINE uint32_t subtract_bytes(uint32_t a, uint32_t b) {
    __asm__("ssub8 %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}
/* Byte by byte max(a - b, 0). */
INLINE uint32_t saturating_subtract(uint32_t a, uint32_t b) {
    uint32_t word;
    __asm__("uqsub8 %0, %1, %2" : "=r"(word) : "r"(a), "r"(b));
    return word;
}

/* Stores the low half of a word; what is behind it. */
INLINE char *put_half(char *to, uint32_t word) {
    __asm__ volatile("strh %1, [%0], #2" : "+r"(to) : "r"(word) : "memory");
    return to;
}

INLINE int32_t clamp(int32_t code, int32_t low, int32_t high) {
    code = code < low ? low : code;
    return code > high ? high : code;
}

INLINE uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
#endif
