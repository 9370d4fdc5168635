/* conv2d, conv2d_add and linear with one output pixel: four channels at once, which share what is loaded of the patch.

   weights: for every four channels words of each in turn, then four biases and four multipliers. The column holds one
   pixel; workspace otherwise as in conv.h. */
#ifndef PIXEL_H
#define PIXEL_H
#include "channels.h"
#include "four.h"

INLINE void conv_pixel(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                       const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int column_words = COLUMN_WORDS(s, s.words * 32 / s.bits);
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = COLUMN_WORDS(s, ROUND4(PATCH(s))); i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    const uint32_t sum = stage(s, in, 0, 0, p.z_in, column, line);
    const int32_t start = OFFSET(s) ? -(int32_t)(sum << (s.bits - 1)) : 0;
    const uint32_t *w = weights;
    for (int channel = 0; channel < s.c_out; channel += 4, w += 8) {
        int32_t sums[4] = {start, start, start, start};
        w = four_channels(s, w, column, end, sums);
        const uint8_t *second = s.residual ? (const uint8_t *)in2 + channel * s.in2_bits / 8 : 0;
        char *to = (char *)out + channel * s.out_bits / 8;
        if (s.c_out % 4 == 0 || channel + 4 <= s.c_out)
            store_channels(s, &p, sums, (const int32_t *)w, second, to, 4);
        else
            store_channels(s, &p, sums, (const int32_t *)w, second, to, s.c_out % 4);
    }
}
#endif
