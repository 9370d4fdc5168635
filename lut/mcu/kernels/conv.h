/* conv2d, conv2d_add and linear: the patches of two output pixels are staged, then all channels run over them in pairs.

   weights: for every two channels, words of one and of the other in turn, then both biases and both multipliers
   (lut/mcu/pack.py): one pointer runs through all that a block reads. workspace: the column, then a line of bytes where channels are no multiple of 4. */
#ifndef CONV_H
#define CONV_H
#include "block.h"
#include "requantize.h"
#include "stage.h"

/* Where two channels of two pixels go. out, in2: of the first pixel; next: elements to the second. */
struct target {
    const uint8_t *in2;
    char *out;
    int next;
};

/* `count` channels of two pixels, from their sums (of channel 0, then of channel 1) and scale: two biases, two
   multipliers. Returns what comes behind the scale. */
INLINE const int32_t *store_block(const struct conv s, const struct params *p, const int32_t sums[4], const int32_t scale[4],
                        const struct target to, int count) {
    int32_t codes[4] = {0, 0, 0, 0};
    char *second = to.out + to.next * (s.scores ? 2 : 1);
    if (count == 2 && s.c_out % 2 == 0 && !s.scores && !s.residual) {
        const uint32_t word = requantize_block(p, sums, &scale);
        store16(to.out, (uint16_t)word);
        store16(second, (uint16_t)(word >> 16));
        return scale;
    }
#pragma GCC unroll 2
    for (int channel = 0; channel < count; channel++) {
        const int32_t bias = scale[channel], mult = scale[2 + channel];
#pragma GCC unroll 2
        for (int pixel = 0; pixel < 2; pixel++) {
            const int32_t residual = s.residual ? to.in2[pixel * to.next + channel] : 0;
            codes[2 * channel + pixel] = finish(p, sums[2 * channel + pixel], bias, mult, s.residual, residual);
        }
    }
    if (s.scores) {
        for (int channel = 0; channel < count; channel++) {
            store16(to.out + 2 * channel, (uint16_t)clamp(codes[2 * channel], p->low, p->high));
            store16(second + 2 * channel, (uint16_t)clamp(codes[2 * channel + 1], p->low, p->high));
        }
        return scale + 4;
    }
    uint32_t word = saturate8(codes[0]) | saturate8(codes[1]) << 16;
    if (count == 2) word |= saturate8(codes[2]) << 8 | saturate8(codes[3]) << 24;
    word = clamp_bytes(word, repeat(p->low), repeat(p->high));
    if (count == 2 && s.c_out % 2 == 0) {
        store16(to.out, (uint16_t)word);
        store16(second, (uint16_t)(word >> 16));
        return scale + 4;
    }
    for (int channel = 0; channel < count; channel++) {
        to.out[channel] = (char)(word >> (8 * channel));
        second[channel] = (char)(word >> (8 * channel + 16));
    }
    return scale + 4;
}

INLINE void conv(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                 const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int column_words = s.words * 32 / s.bits, size = s.scores ? 2 : 1;
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = ROUND4(PATCH(s)); i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    const uint32_t zero = repeat(p.z_in);
    int y = 0, x = 0, at = 0;
    for (int left = s.rows * s.cols; left > 0; left -= 2) {
        int32_t start[2] = {0, 0};
        for (int pixel = 0; pixel < 2; pixel++) { /* an odd last one is computed twice */
            uint32_t sum = stage(s, in, y, x, zero, column + pixel, line);
            if (s.bits < 8) start[pixel] = -(int32_t)(sum << (s.bits - 1));
            if (left == 1) continue;
            if (++x == s.cols) x = 0, y++;
        }
        struct target to = {in2 ? (const uint8_t *)in2 + at : 0, (char *)out + at * size, left > 1 ? s.c_out : 0};
        const uint32_t *w = weights;
        for (int channel = 0; channel < s.c_out / 2 * 2; channel += 2) {
            int32_t sums[4] = {start[0], start[1], start[0], start[1]};
            w = block(s.bits, s.unroll, w, column, end, sums);
            w = (const uint32_t *)store_block(s, &p, sums, (const int32_t *)w, to, 2);
            to.out += 2 * size;
            if (s.residual) to.in2 += 2;
        }
        if (s.c_out % 2) {
            int32_t sums[4] = {start[0], start[1], 0, 0};
            w = block(s.bits, s.unroll, w, column, end, sums);
            store_block(s, &p, sums, (const int32_t *)w, to, 1);
        }
        at += 2 * s.c_out;
    }
}
#endif
