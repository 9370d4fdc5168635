/* The one signature of every kernel, and the arithmetic that they share (deploy/program.py states it).

   Activations are unsigned codes, NHWC, as codes.h has them; scores are int16. Unused pointers are NULL. Every
   buffer starts at a multiple of 4 bytes and is readable 3 bytes past its end. */
#ifndef KERNEL_H
#define KERNEL_H
#include <stdint.h>

typedef void kernel(const void *in, const void *in2, void *out, const void *weights, const void *bias, const void *mult,
                    const void *params, void *workspace);
#define KERNEL(name)                                                                                               \
    void name(const void *in, const void *in2, void *out, const void *weights, const void *bias, const void *mult, \
              const void *params, void *workspace)
/* Shapes are constants of the caller, so that a kernel is compiled for one shape. */
#define INLINE static inline __attribute__((always_inline))

struct params { /* lut/kernels/requantize.py: PARAMS */
    int32_t low, high, z_out, shift, z_in, z_res, res_mult, res_shift, mult;
};

INLINE uint32_t load32(const void *from) {
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

INLINE void store32(void *to, uint32_t word) { __builtin_memcpy(to, &word, sizeof word); }
INLINE void store16(void *to, uint16_t half) { __builtin_memcpy(to, &half, sizeof half); }

#ifdef __ARM_FEATURE_DSP
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
/* Byte by byte max(a - b, 0). */
INLINE uint32_t subtract_bytes(uint32_t a, uint32_t b) {
    uint32_t word;
    __asm__("uqsub8 %0, %1, %2" : "=r"(word) : "r"(a), "r"(b));
    return word;
}
#else
#error "these kernels need a core with the DSP extension (Cortex-M4, M7, M33)"
#endif

/* zero + ((a m + b n + 2^31) >> 32), the sum in 64 bits */
INLINE int32_t rescale_sum(int32_t a, int32_t m, int32_t b, int32_t n, int32_t zero) {
    int64_t sum = (int64_t)(((uint64_t)(uint32_t)zero << 32) | 0x80000000u);
    sum += (int64_t)a * m;
    sum += (int64_t)b * n;
    return (int32_t)(sum >> 32);
}

INLINE int32_t clamp(int32_t code, int32_t low, int32_t high) {
    code = code < low ? low : code;
    return code > high ? high : code;
}

/* Four bytes at once; the bounds repeat theirs in every byte. */
INLINE uint32_t clamp_bytes(uint32_t codes, uint32_t low, uint32_t high) {
    codes -= subtract_bytes(codes, high);
    return codes + subtract_bytes(low, codes);
}

INLINE uint32_t repeat(int32_t byte) { return (uint32_t)byte * 0x01010101u; }

/* clamp(z + R(acc)), by the kind of kernel with the second input's share. */
INLINE int32_t finish(const struct params *p, int32_t acc, int32_t bias, int32_t mult, int residual, int32_t code) {
    acc = (int32_t)((uint32_t)acc << p->shift) + bias;
    if (!residual) return rescale(acc, mult, p->z_out);
    return rescale_sum(acc, mult, (code - p->z_res) << p->res_shift, p->res_mult, p->z_out);
}
#endif
