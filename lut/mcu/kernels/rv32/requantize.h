/* Four sums become four bytes of a word: clamp(z + R((acc << l) + bias)). */
#ifndef REQUANTIZE_H
#define REQUANTIZE_H
#include "bounded.h"

INLINE uint32_t requantized(const struct params *p, int32_t sum, int32_t bias, int32_t mult) {
    const int32_t above = rescale((int32_t)((uint32_t)sum << p->shift) + bias, mult, p->z_out - p->low);
    return (uint32_t)(held(above, p->high - p->low) + p->high);
}

/* Two channels of two pixels: sums of channel 0, then of channel 1; scale: two biases, two multipliers, and then what
   comes next. The word holds pixel 0's channels, then pixel 1's. */
INLINE uint32_t requantize_block(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    uint32_t word = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int channel = i / 2, place = i % 2 * 2 + channel;
        word |= requantized(p, sums[i], (*scale)[channel], (*scale)[2 + channel]) << (8 * place);
    }
    *scale += 4;
    return word;
}

/* Four channels of a pixel; scale: four biases, four multipliers, and then what comes next. */
INLINE uint32_t requantize_channels(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    uint32_t word = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) word |= requantized(p, sums[i], (*scale)[i], (*scale)[4 + i]) << (8 * i);
    *scale += 8;
    return word;
}
#endif
