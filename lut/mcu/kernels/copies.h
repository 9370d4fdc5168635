/* Operators that move codes: parts of channels, shuffled channels, zero-filled pads and shortcuts. */
#ifndef COPIES_H
#define COPIES_H
#include "stage.h"

/* One part of a concat or of a split: the fewer channels of every pixel, at the first that `in` and `out` point to. */
INLINE void copy_part(const struct conv s, const uint8_t *in, uint8_t *out) {
    const int count = s.c_in < s.c_out ? s.c_in : s.c_out;
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += s.c_in, out += s.c_out)
        copy_bytes(out, in, count);
}

/* Channel (group, i) of the input becomes channel (i, group). */
INLINE void shuffle(const struct conv s, const uint8_t *in, uint8_t *out) {
    const int each = s.c_in / s.groups;
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += s.c_in)
        for (int i = 0; i < each; i++)
            for (int group = 0; group < s.groups; group++) *out++ = in[group * each + i];
}

INLINE void pad(const struct conv s, const uint8_t *in, uint8_t *out, const struct params *params) {
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++, out += s.c_in) {
            const int row = y - s.top, col = x - s.left;
            if ((unsigned)row < (unsigned)s.height && (unsigned)col < (unsigned)s.width)
                copy_bytes(out, in + (row * s.width + col) * s.c_in, s.c_in);
            else
                for (int c = 0; c < s.c_in; c++) out[c] = (uint8_t)params->z_in;
        }
}

/* weights: the source of every output channel, -1 for zero */
INLINE void resample(const struct conv s, const uint8_t *in, uint8_t *out, const int32_t *weights,
                     const struct params *params) {
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++) {
            const uint8_t *from = in + (y * s.stride_h * s.width + x * s.stride_w) * s.c_in;
            for (int c = 0; c < s.c_out; c++) *out++ = weights[c] < 0 ? (uint8_t)params->z_in : from[weights[c]];
        }
}
#endif
