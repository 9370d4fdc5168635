/* A tap of four channels of a depthwise convolution, a lane each, of one pixel or of two. */
#ifndef TAPS_H
#define TAPS_H
#include "kernel.h"

#include <arm_mve.h>

enum { REACH = 4096 };

struct four {
    int32x4_t codes;
};

INLINE struct four load_four(const uint8_t *from, int bits) {
    if (bits == 8) return (struct four){vreinterpretq_s32_u32(vldrbq_u32(from))};
    const uint32_t codes = bits == 4 ? (uint32_t)from[0] | (uint32_t)from[1] << 8 : from[0];
    const int32x4_t shift = vmulq_n_s32(vreinterpretq_s32_u32(vidupq_n_u32(0, 1)), -bits);
    const uint32x4_t each = vandq_u32(vshlq_u32(vdupq_n_u32(codes), shift), vdupq_n_u32((1u << bits) - 1));
    return (struct four){vreinterpretq_s32_u32(each)};
}

INLINE void add_product(struct four x, int32x4_t w, int32_t sums[4]) {
    int32x4_t sum;
    __builtin_memcpy(&sum, sums, sizeof sum);
    sum += x.codes * w;
    __asm__ volatile("" : "+w"(sum) : : "memory"); /* else all taps are loaded first, and kept on the stack */
    __builtin_memcpy(sums, &sum, sizeof sum);
}

/* One tap of one pixel. */
INLINE void multiply(struct four x, const uint32_t *w, int32_t sums[4]) {
    add_product(x, vldrbq_s32((const int8_t *)w), sums);
}

/* One tap of two pixels, whose codes are at x + first and x + second. Returns the next tap's weights. */
INLINE const uint32_t *multiply_pair(int bits, const uint8_t *x, const int first, const int second, const uint32_t *w,
                                     int32_t sums[2][4]) {
    const int32x4_t weights = vldrbq_s32((const int8_t *)w);
    add_product(load_four(x + first, bits), weights, sums[0]);
    add_product(load_four(x + second, bits), weights, sums[1]);
    return w + 1;
}
#endif
