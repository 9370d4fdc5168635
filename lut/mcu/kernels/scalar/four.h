/* The inner loop of one output pixel: four channels at once. Weights below 8 bits are multiplied in pairs (block.h). */
#ifndef FOUR_H
#define FOUR_H
#include "block.h"

INLINE const uint32_t *four_channels(const struct conv s, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
    if (!PAIRED(s)) {
        do {
            const int8_t *w = (const int8_t *)weights;
            const uint8_t *x = (const uint8_t *)column;
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                for (int channel = 0; channel < 4; channel++) sums[channel] += x[i] * w[4 * channel + i];
            weights += 4, column++;
        } while (column != end);
        return weights;
    }
    const int pairs = 16 / s.bits, most = MOST_WORDS(s);
    for (int left = s.words; left > 0; left -= most) {
        uint32_t halves[4] = {0};
        const uint32_t *stop = left < most ? end : column + most * pairs;
        do {
#pragma GCC unroll 8
            for (int j = 0; j < pairs; j++)
                for (int channel = 0; channel < 4; channel++)
                    halves[channel] += (weights[channel] >> (j * s.bits) & PAIR_MASK(s)) * column[j];
            weights += 4, column += pairs;
        } while (column != stop);
        for (int channel = 0; channel < 4; channel++) sums[channel] += (int32_t)(halves[channel] >> 16);
    }
    return weights;
}
#endif
