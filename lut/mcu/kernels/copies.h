/* Operators that move codes: parts of channels, shuffled channels, zero-filled pads and shortcuts. */
#ifndef COPIES_H
#define COPIES_H
#include "stage.h"

/* One part of a concat or of a split: the fewer channels of every pixel. `in` or `out`, which has more, points to the
   byte of the part's first channel; params->shift: that channel's place in the byte. */
INLINE void copy_part(const struct conv s, const uint8_t *in, uint8_t *out, const struct params *params) {
    const int joins = s.c_in < s.c_out, count = joins ? s.c_in : s.c_out, first = params->shift;
    const int in_pitch = PITCH(s.c_in, s.in_bits), out_pitch = PITCH(s.c_out, s.in_bits);
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += in_pitch, out += out_pitch) {
        if (count * s.in_bits % 8 == 0 && (s.in_bits == 8 || first == 0)) {
            copy_bytes(out, in, count * s.in_bits / 8);
            continue;
        }
        for (int c = 0; c < count; c++)
            set_code(out, s.in_bits, c + (joins ? first : 0), get_code(in, s.in_bits, c + (joins ? 0 : first)));
    }
}

/* Channel (group, i) of the input becomes channel (i, group). */
INLINE void shuffle(const struct conv s, const uint8_t *in, char *out) {
    const int each = s.c_in / s.groups;
    struct writer to = {out, 0, 0};
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += PITCH(s.c_in, s.in_bits)) {
        for (int i = 0; i < each; i++)
            for (int group = 0; group < s.groups; group++)
                write_code(&to, s.in_bits, (int32_t)get_code(in, s.in_bits, group * each + i));
        end_pixel(&to, s.in_bits);
    }
}

INLINE void pad(const struct conv s, const uint8_t *in, uint8_t *out, const struct params *params) {
    const int pitch = PITCH(s.c_in, s.in_bits);
    const uint8_t zeros = (uint8_t)repeat_code(params->z_in, s.in_bits);
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++, out += pitch) {
            const int row = y - s.top, col = x - s.left;
            if ((unsigned)row < (unsigned)s.height && (unsigned)col < (unsigned)s.width)
                copy_bytes(out, in + (row * s.width + col) * pitch, pitch);
            else
                for (int i = 0; i < pitch; i++) out[i] = zeros;
        }
}

/* weights: the source of every output channel, -1 for zero */
INLINE void resample(const struct conv s, const uint8_t *in, char *out, const int32_t *weights,
                     const struct params *params) {
    struct writer to = {out, 0, 0};
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++) {
            const uint8_t *from = in + (y * s.stride_h * s.width + x * s.stride_w) * PITCH(s.c_in, s.in_bits);
            for (int c = 0; c < s.c_out; c++)
                write_code(&to, s.out_bits, weights[c] < 0 ? params->z_in : (int32_t)get_code(from, s.in_bits, weights[c]));
            end_pixel(&to, s.out_bits);
        }
}
#endif
