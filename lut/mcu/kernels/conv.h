/* conv2d, conv2d_add and linear: the patches of two output pixels are staged, then all channels run over them in pairs.

   weights: for every two channels, words of one and of the other in turn (lut/mcu/pack.py). bias, mult: int32 per
   channel, an even number. workspace: the column, then a line of bytes where channels are no multiple of 4. */
#ifndef CONV_H
#define CONV_H
#include "block.h"
#include "stage.h"

/* Two channels of two pixels, from their sums. out, in2: of both pixels; with `one` there is no second channel. */
INLINE void store_block(const struct conv s, const struct params *p, const int32_t sums[4], const int32_t *bias,
                        const int32_t *mult, const uint8_t *const in2[2], char *const out[2], int one) {
    int32_t codes[4];
    for (int i = 0; i < 4; i++) {
        if (one && i > 1) break;
        int32_t residual = s.residual ? in2[i & 1][i >> 1] : 0;
        codes[i] = finish(p, sums[i], bias[i >> 1], mult[i >> 1], s.residual, residual);
    }
    if (s.scores) {
        for (int i = 0; i < 4; i++) {
            if (one && i > 1) break;
            store16(out[i & 1] + 2 * (i >> 1), (uint16_t)clamp(codes[i], p->low, p->high));
        }
        return;
    }
    uint32_t low = repeat(p->low), high = repeat(p->high);
    uint32_t word = saturate8(codes[0]) | saturate8(codes[1]) << 16;
    if (!one) word |= saturate8(codes[2]) << 8 | saturate8(codes[3]) << 24;
    word = clamp_bytes(word, low, high);
    for (int pixel = 0; pixel < 2; pixel++) {
        uint32_t pair = word >> (16 * pixel);
        if (!one && s.c_out % 2 == 0) {
            store16(out[pixel], (uint16_t)pair);
        } else {
            out[pixel][0] = (char)pair;
            if (!one) out[pixel][1] = (char)(pair >> 8);
        }
    }
}

INLINE void conv(const struct conv s, const void *in, const void *in2, void *out, const void *weights, const void *bias,
                 const void *mult, const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int column_words = s.words * 32 / s.bits, size = s.scores ? 2 : 1;
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = ROUND4(PATCH(s)); i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    const uint32_t zero = repeat(p.z_in);
    const uint8_t *residual = in2;
    char *to = out;
    int y = 0, x = 0;
    for (int left = s.rows * s.cols; left > 0; left -= 2) {
        int32_t start[2] = {0, 0};
        for (int pixel = 0; pixel < 2; pixel++) { /* an odd last one is computed twice */
            uint32_t sum = stage(s, in, y, x, zero, column + pixel, line);
            if (s.bits < 8) start[pixel] = -(int32_t)(sum << (s.bits - 1));
            if (left == 1) continue;
            if (++x == s.cols) x = 0, y++;
        }
        const int next = left > 1 ? s.c_out : 0;
        const uint32_t *w = weights;
        const int32_t *b = bias, *m = mult;
        for (int channel = 0; channel < s.c_out / 2 * 2; channel += 2, b += 2, m += 2) {
            int32_t sums[4] = {start[0], start[1], start[0], start[1]};
            w = block(s.bits, s.unroll, w, column, end, sums);
            const uint8_t *const seconds[2] = {residual + channel, residual + channel + next};
            char *const places[2] = {to + channel * size, to + (channel + next) * size};
            store_block(s, &p, sums, b, m, seconds, places, 0);
        }
        if (s.c_out % 2) {
            const int channel = s.c_out - 1;
            int32_t sums[4] = {start[0], start[1], 0, 0};
            block(s.bits, s.unroll, w, column, end, sums);
            const uint8_t *const seconds[2] = {residual + channel, residual + channel + next};
            char *const places[2] = {to + channel * size, to + (channel + next) * size};
            store_block(s, &p, sums, b, m, seconds, places, 1);
        }
        residual += 2 * s.c_out;
        to += 2 * s.c_out * size;
    }
}
#endif
