/* The inner loop of convolutions: two output channels of two or four pixels at once, by 32-bit multiplication.

   Weights of 8 bits: bytes are loaded one by one, and serve four pixels.
   Weights below: one multiplication makes two products. Halfwords w0, w1 of unsigned weights (an AND with a shift unpacks
   them: pair j of a word is at bits j b and 16 + j b) and x1, x0 of codes give
       (w0 + 2^16 w1) (x1 + 2^16 x0) = w0 x1 + 2^16 (w0 x0 + w1 x1) + 2^32 ..
   Sums of these keep w0 x0 + w1 x1 in the upper half as long as it and the sum of w0 x1 are below 2^16; before that the
   upper half is added up (MOST_WORDS). */
#ifndef BLOCK_H
#define BLOCK_H
#include "shape.h"
#include "spread.h"

#define PAIR_MASK(s) ((s).bits == 4 ? 0x000f000fu : 0x00030003u)
/* Words of weights whose products fit into a half. */
#define MOST_WORDS(s) (65535 / (2 * ((1 << (s).bits) - 1) * ((1 << (s).in_bits) - 1)) / (16 / (s).bits))

/* One word of both channels by four pixels. */
INLINE void multiply_bytes(const int8_t *w, const uint8_t *x, int32_t sums[][4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int32_t first = w[i], second = w[4 + i];
#pragma GCC unroll 4
        for (int pixel = 0; pixel < 4; pixel++) {
            const int32_t code = x[4 * pixel + i];
            sums[pixel / 2][pixel % 2] += first * code;
            sums[pixel / 2][2 + pixel % 2] += second * code;
        }
    }
}

/* One word of both channels by two pixels. */
INLINE void multiply_pairs(const struct conv s, const uint32_t *w, const uint32_t *x, uint32_t halves[4]) {
    const uint32_t mask = PAIR_MASK(s), first = w[0], second = w[1];
#pragma GCC unroll 8
    for (int j = 0; j < 16 / s.bits; j++) {
        const uint32_t a = first >> (j * s.bits) & mask, b = second >> (j * s.bits) & mask;
        halves[0] += a * x[2 * j];
        halves[1] += a * x[2 * j + 1];
        halves[2] += b * x[2 * j];
        halves[3] += b * x[2 * j + 1];
    }
}

/* `words` words, in steps of `unroll`. */
INLINE void multiply_words(const struct conv s, int words, const int unroll, const uint32_t **w, const uint32_t **x,
                           int32_t sums[4]) {
    const int each = 32 / s.bits;
    uint32_t halves[4] = {0};
    const uint32_t *end = *w + 2 * words;
    do {
#pragma GCC unroll 2
        for (int i = 0; i < unroll; i++) multiply_pairs(s, *w + 2 * i, *x + each * i, halves);
        *w += 2 * unroll, *x += each * unroll;
    } while (*w != end);
    for (int i = 0; i < 4; i++) sums[i] += (int32_t)(halves[i] >> 16);
}

/* Channel 0 of pixels 0 and 1 is added to sums[0][0] and [1], channel 1 to [2] and [3], pixels 2 and 3 to sums[1]. Returns
   what comes behind the weights. */
INLINE const uint32_t *block(const struct conv s, const uint32_t *weights, const uint32_t *column, const uint32_t *end,
                             int32_t sums[][4]) {
    if (!PAIRED(s)) {
        do {
            multiply_bytes((const int8_t *)weights, (const uint8_t *)column, sums);
            weights += 2, column += 4;
        } while (column != end);
        return weights;
    }
    const int unroll = s.bits == 4 && s.words > 1 ? 2 : 1, most = MOST_WORDS(s) / unroll * unroll;
    const int odd = s.words % unroll, group = s.words - odd < most ? s.words - odd : most;
    if (odd) multiply_words(s, odd, 1, &weights, &column, sums[0]);
    for (int left = s.words - odd; left > 0; left -= group)
        multiply_words(s, left < group ? left : group, unroll, &weights, &column, sums[0]);
    return weights;
}
#endif
