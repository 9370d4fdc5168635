/* conv2d, conv2d_add and linear: the patches of a block's pixels are staged, then all channels run over them in pairs.

   `block` is the instruction set's. weights: for every two channels, words of one and of the other in turn, then both biases and both multipliers
   (lut/mcu/pack.py): one pointer runs through all that a block reads. workspace: the column, then a line of bytes where
   channels are no multiple of 4. */
#ifndef BLOCKS_H
#define BLOCKS_H
#include "stage.h"
#include "store.h"

/* Two channels of a block's pixels, or a last one. Returns the next channels' weights. */
INLINE const uint32_t *block_channels(const struct conv s, const struct params *p, const uint32_t *weights,
                                      const uint32_t *column, const uint32_t *end, const int32_t *start,
                                      struct target *to, int channel, int count, int left) {
    int32_t sums[MOST_PIXELS / 2][4];
    for (int pair = 0; pair < BLOCK_PIXELS(s) / 2; pair++)
        for (int i = 0; i < 4; i++) sums[pair][i] = start[2 * pair + i % 2];
    const int32_t *scale = (const int32_t *)block(s, weights, column, end, sums), *behind = scale;
    for (int pair = 0; pair < BLOCK_PIXELS(s) / 2; pair++)
        if (left > 2 * pair) behind = store_block(s, p, sums[pair], scale, to + pair, channel, count);
    return (const uint32_t *)behind;
}

INLINE void conv(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                 const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int pixels = BLOCK_PIXELS(s), column_words = pixels * COLUMN_WORDS(s, s.words * 32 / s.bits);
    const int out_pitch = PITCH(s.c_out, s.out_bits), in2_pitch = PITCH(s.c_out, s.in2_bits);
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = pixels * COLUMN_WORDS(s, ROUND4(PATCH(s))); i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    struct target first = {in2, out, out_pitch, in2_pitch, 0};
    int y = 0, x = 0;
    for (int left = s.rows * s.cols; left > 0; left -= pixels) {
        int32_t start[MOST_PIXELS] = {0};
        for (int pixel = 0; pixel < pixels; pixel++) { /* the last one is staged again where there is no other */
            uint32_t sum = stage(s, in, y, x, p.z_in, column + pixel, line);
            if (OFFSET(s)) start[pixel] = -(int32_t)(sum << (s.bits - 1));
            if (left <= pixel + 1) continue;
            if (++x == s.cols) x = 0, y++;
        }
        struct target to[MOST_PIXELS / 2];
        for (int pair = 0; pair < pixels / 2; pair++) {
            to[pair] = first;
            if (left == 2 * pair + 1) to[pair].next = 0, to[pair].next2 = 0;
            first.out += 2 * out_pitch;
            if (s.residual) first.in2 += 2 * in2_pitch;
        }
        const uint32_t *w = weights;
        for (int channel = 0; channel < s.c_out / 2 * 2; channel += 2)
            w = block_channels(s, &p, w, column, end, start, to, channel, 2, left);
        if (s.c_out % 2) block_channels(s, &p, w, column, end, start, to, s.c_out - 1, 1, left);
    }
}
#endif
