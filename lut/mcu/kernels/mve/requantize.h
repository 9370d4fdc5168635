/* Four sums become four bytes of a word: clamp(z + R((acc << l) + bias)), a lane each, by VRMULH. */
#ifndef REQUANTIZE_H
#define REQUANTIZE_H
#include "bounded.h"

#include <arm_mve.h>

INLINE uint32_t requantized(const struct params *p, int32x4_t sums, int32x4_t bias, int32x4_t mult) {
    const int32x4_t above = vrmulhq_s32(vaddq_s32(vshlq_r_s32(sums, p->shift), bias), mult);
    const int32x4_t codes = vaddq_n_s32(above, p->z_out);
    const int32x4_t bound = vminq_s32(vmaxq_s32(codes, vdupq_n_s32(p->low)), vdupq_n_s32(p->high));
    uint32_t word;
    vstrbq_s32((int8_t *)&word, bound);
    return word;
}

/* Two channels of two pixels: sums of channel 0, then of channel 1; scale: two biases, two multipliers, and then what
   comes next. The word holds pixel 0's channels, then pixel 1's. */
INLINE uint32_t requantize_block(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    const int32x4_t by_pixel = {sums[0], sums[2], sums[1], sums[3]};
    const uint32x4_t channel = vandq_u32(vidupq_n_u32(0, 1), vdupq_n_u32(1));
    const int32x4_t bias = vldrwq_gather_shifted_offset_s32(*scale, channel);
    const int32x4_t mult = vldrwq_gather_shifted_offset_s32(*scale + 2, channel);
    *scale += 4;
    return requantized(p, by_pixel, bias, mult);
}

/* Four channels of a pixel; scale: four biases, four multipliers, and then what comes next. */
INLINE uint32_t requantize_channels(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    const int32x4_t by_channel = {sums[0], sums[1], sums[2], sums[3]};
    const int32x4_t bias = vldrwq_s32(*scale), mult = vldrwq_s32(*scale + 4);
    *scale += 8;
    return requantized(p, by_channel, bias, mult);
}
#endif
