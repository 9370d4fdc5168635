/* The inner loop of one output pixel: four channels at once, sixteen products in an instruction. */
#ifndef FOUR_H
#define FOUR_H
#include "dot.h"

INLINE const uint32_t *four_channels(const struct conv s, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
    const struct parts to = parts_of(s, 4);
    const int step = 16 / PARTS(s), left = s.words * PARTS(s) % 4;
    const uint32_t *w = weights, *x = column, *whole = end - left;
    uint32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (; x < whole; x += 4, w += step) {
        const uint32x4_t codes = vldrwq_u32(x);
        a = dot(a, codes, weights_of(s, to, w)), b = dot(b, codes, weights_of(s, to, w + 1));
        c = dot(c, codes, weights_of(s, to, w + 2)), d = dot(d, codes, weights_of(s, to, w + 3));
    }
    if (left) {
        const mve_pred16_t some = vctp32q(left);
        const uint32x4_t codes = vldrwq_z_u32(x, some);
        a = dot(a, codes, last_weights(s, to, w, some)), b = dot(b, codes, last_weights(s, to, w + 1, some));
        c = dot(c, codes, last_weights(s, to, w + 2, some)), d = dot(d, codes, last_weights(s, to, w + 3, some));
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
    return weights + 4 * s.words;
}
#endif
