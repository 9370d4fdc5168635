/* The input patch of one output pixel, spread in a column that the pixels of a block share.

   Patches are in the order ky, kx, channel; how codes lie in the column is the instruction set's (spread.h). Where the
   channels of a pixel are no whole words, a patch is first laid out as bytes in a line. */
#ifndef STAGE_H
#define STAGE_H
#include "codes.h"
#include "spread.h"

INLINE void copy_bytes(uint8_t *to, const uint8_t *from, int bytes) {
    int i = 0;
    for (; i + 4 <= bytes; i += 4) store32(to + i, load32(from + i));
    for (; i < bytes; i++) to[i] = from[i];
}

/* Codes of one pixel as bytes. */
INLINE void copy_codes(uint8_t *to, const uint8_t *from, int bits, int count) {
    if (bits == 8)
        copy_bytes(to, from, count);
    else
        for (int c = 0; c < count; c++) to[c] = (uint8_t)get_code(from, bits, c);
}

/* Channels of one tap: from the input, or its zero point outside of it. */
INLINE void stage_tap(const struct conv s, const uint8_t *from, int inside, int32_t zero, struct place *to, uint8_t **line) {
    const int pitch = PITCH(s.c_in, s.in_bits);
    if (LINED(s)) {
        if (inside)
            copy_codes(*line, from, s.in_bits, s.c_in);
        else
            for (int c = 0; c < s.c_in; c++) (*line)[c] = (uint8_t)zero;
        *line += s.c_in;
    } else if (inside) {
        spread(s, s.in_bits, to, from, pitch);
    } else {
        const uint32_t word = repeat_code(zero, s.in_bits);
        for (int i = 0; i < pitch; i += 4) spread_word(s, s.in_bits, to, word);
    }
}

/* zero: the input's. line: ROUND4(PATCH) bytes, used where LINED; its end beyond the patch is zero. */
INLINE uint32_t stage(const struct conv s, const uint8_t *in, int y, int x, int32_t zero, uint32_t *column, uint8_t *line) {
    const int high = (s.kernel_h - 1) * s.dilation_h + 1, wide = (s.kernel_w - 1) * s.dilation_w + 1;
    const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left, pitch = PITCH(s.c_in, s.in_bits);
    struct place to = {column, 0};
    uint8_t *at = line;
    const uint8_t *from = in + (row * s.width + col) * pitch;
    const int fits = s.height >= high && s.width >= wide, whole = s.in_bits == 8 || !LINED(s);
    if (whole && fits && s.dilation_w == 1 && (unsigned)row <= (unsigned)(s.height - high) &&
        (unsigned)col <= (unsigned)(s.width - wide)) {
        for (int ky = 0; ky < s.kernel_h; ky++, from += s.dilation_h * s.width * pitch) {
            if (LINED(s)) {
                copy_bytes(at, from, s.kernel_w * s.c_in);
                at += s.kernel_w * s.c_in;
            } else {
                spread(s, s.in_bits, &to, from, s.kernel_w * pitch);
            }
        }
    } else {
        for (int ky = 0; ky < s.kernel_h; ky++) {
            const int in_row = (unsigned)(row + ky * s.dilation_h) < (unsigned)s.height;
            for (int kx = 0; kx < s.kernel_w; kx++) {
                const int inside = in_row && (unsigned)(col + kx * s.dilation_w) < (unsigned)s.width;
                const uint8_t *tap = from + (ky * s.dilation_h * s.width + kx * s.dilation_w) * pitch;
                stage_tap(s, tap, inside, zero, &to, &at);
            }
        }
    }
    if (LINED(s)) spread(s, 8, &to, line, ROUND4(PATCH(s)));
    return patch_sum(s, &to);
}
#endif
