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

/* The folder of an instruction set's own headers is on the compiler's path. */
#include "lanes.h"

/* zero + ((a m + b n + 2^31) >> 32), the sum in 64 bits */
INLINE int32_t rescale_sum(int32_t a, int32_t m, int32_t b, int32_t n, int32_t zero) {
    int64_t sum = (int64_t)(((uint64_t)(uint32_t)zero << 32) | 0x80000000u);
    sum += (int64_t)a * m;
    sum += (int64_t)b * n;
    return (int32_t)(sum >> 32);
}

INLINE uint32_t repeat(int32_t byte) { return (uint32_t)byte * 0x01010101u; }

/* clamp(z + R(acc)), by the kind of kernel with the second input's share. */
INLINE int32_t finish(const struct params *p, int32_t acc, int32_t bias, int32_t mult, int residual, int32_t code) {
    acc = (int32_t)((uint32_t)acc << p->shift) + bias;
    if (!residual) return rescale(acc, mult, p->z_out);
    return rescale_sum(acc, mult, (code - p->z_res) << p->res_shift, p->res_mult, p->z_out);
}
#endif
