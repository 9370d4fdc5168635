/* The inner loop of convolutions: two output channels of four pixels at once, sixteen products in an instruction. */
#ifndef BLOCK_H
#define BLOCK_H
#include "dot.h"
#include "words.h"

/* Channel 0 of pixels 0 and 1 is added to sums[0][0] and [1], channel 1 to [2] and [3], pixels 2 and 3 to sums[1]. Returns
   what comes behind the weights. */
INLINE const uint32_t *block(const struct conv s, const uint32_t *weights, const uint32_t *column, const uint32_t *end,
                             int32_t sums[][4]) {
    const struct parts to = parts_of(s, 2);
    const int step = 8 / PARTS(s), left = s.words * PARTS(s) % 4;
    const uint32_t *w = weights, *x = column, *whole = end - 4 * left;
    uint32_t a = sums[0][0], b = sums[0][1], c = sums[0][2], d = sums[0][3];
    uint32_t e = sums[1][0], f = sums[1][1], g = sums[1][2], h = sums[1][3];
    for (; x < whole; x += 16, w += step) {
        const uint32x4x4_t codes = vld4q_u32(x);
        uint32x4x2_t bytes;
        if (s.bits == 8) bytes = vld2q_u32(w); /* in order, which is faster than a gather */
        const uint32x4_t first = s.bits == 8 ? unsigned_bytes(s, to, bytes.val[0]) : weights_of(s, to, w);
        a = dot(a, codes.val[0], first), b = dot(b, codes.val[1], first);
        e = dot(e, codes.val[2], first), f = dot(f, codes.val[3], first);
        const uint32x4_t second = s.bits == 8 ? unsigned_bytes(s, to, bytes.val[1]) : weights_of(s, to, w + 1);
        c = dot(c, codes.val[0], second), d = dot(d, codes.val[1], second);
        g = dot(g, codes.val[2], second), h = dot(h, codes.val[3], second);
    }
    if (left) {
        const mve_pred16_t some = vctp32q(left);
        const uint32x4_t first = last_weights(s, to, w, some), second = last_weights(s, to, w + 1, some);
        const uint32x4_t place = vidupq_n_u32(0, 4);
        uint32x4_t codes[4];
        for (int pixel = 0; pixel < 4; pixel++)
            codes[pixel] = vldrwq_gather_shifted_offset_z_u32(x + pixel, place, some);
        a = dot(a, codes[0], first), b = dot(b, codes[1], first);
        e = dot(e, codes[2], first), f = dot(f, codes[3], first);
        c = dot(c, codes[0], second), d = dot(d, codes[1], second);
        g = dot(g, codes[2], second), h = dot(h, codes[3], second);
    }
    sums[0][0] = a, sums[0][1] = b, sums[0][2] = c, sums[0][3] = d;
    sums[1][0] = e, sums[1][1] = f, sums[1][2] = g, sums[1][3] = h;
    return weights + 2 * s.words;
}
#endif
