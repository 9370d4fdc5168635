/* conv2d, conv2d_add and linear: the patches of two output pixels are staged, then all channels run over them in pairs.

   weights: for every two channels, words of one and of the other in turn, then both biases and both multipliers
   (lut/mcu/pack.py): one pointer runs through all that a block reads. workspace: the column, then a line of bytes where channels are no multiple of 4. */
#ifndef CONV_H
#define CONV_H
#include "block.h"
#include "stage.h"
#include "store.h"

INLINE void conv(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                 const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int column_words = s.words * 32 / s.bits;
    const int out_pitch = PITCH(s.c_out, s.out_bits), in2_pitch = PITCH(s.c_out, s.in2_bits);
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = ROUND4(PATCH(s)); i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    struct target first = {in2, out, out_pitch, in2_pitch, 0};
    int y = 0, x = 0;
    for (int left = s.rows * s.cols; left > 0; left -= 2) {
        int32_t start[2] = {0, 0};
        for (int pixel = 0; pixel < 2; pixel++) { /* an odd last one is computed twice */
            uint32_t sum = stage(s, in, y, x, p.z_in, column + pixel, line);
            if (OFFSET(s)) start[pixel] = -(int32_t)(sum << (s.bits - 1));
            if (left == 1) continue;
            if (++x == s.cols) x = 0, y++;
        }
        if (left == 1) first.next = 0, first.next2 = 0;
        struct target to = first;
        const uint32_t *w = weights, *const stop = w + s.c_out / 2 * (2 * s.words + 4);
        for (int channel = 0; w != stop; channel += 2) { /* a pointer that is at hand anyway counts */
            int32_t sums[4] = {start[0], start[1], start[0], start[1]};
            w = block(s.bits, s.unroll, w, column, end, sums);
            w = (const uint32_t *)store_block(s, &p, sums, (const int32_t *)w, &to, channel, 2);
        }
        if (s.c_out % 2) {
            int32_t sums[4] = {start[0], start[1], 0, 0};
            w = block(s.bits, s.unroll, w, column, end, sums);
            store_block(s, &p, sums, (const int32_t *)w, &to, s.c_out - 1, 1);
        }
        first.out += 2 * out_pitch;
        if (s.residual) first.in2 += 2 * in2_pitch;
    }
}
#endif
