/* Depthwise conv2d and conv2d_add: four channels of two neighbours at once, their taps unrolled; at borders of one.

   weights: for every four channels a word per tap; below 8 bits with an offset of half their range, word k of every
   8 / bits in bits k b of the packed word's bytes; they are unpacked into the workspace first. bias: for every four
   channels their biases, then their multipliers. The rest of the workspace is where taps are, and a pixel outside of the input. */
#ifndef DEPTHWISE_H
#define DEPTHWISE_H
#include "channels.h"
#include "taps.h"

enum { PAIR = 2 };

INLINE const uint32_t *unpacked(const struct conv s, const uint32_t *packed, uint32_t *to) {
    const int share = 8 / s.bits, words = s.kernel_h * s.kernel_w * ROUND4(s.c_out) / 4;
    const uint32_t mask = repeat((1 << s.bits) - 1), half = repeat(1 << (s.bits - 1));
    for (int i = 0; i < words; i += share, packed++)
        for (int k = 0; k < share && i + k < words; k++) to[i + k] = subtract_bytes(*packed >> (k * s.bits) & mask, half);
    return to;
}

/* `pixels` neighbours in a row, four channels at a time; a weight is unpacked once for all of them. The taps of one
   pixel are at `taps`; those of several at fixed offsets from `from`, their patches lie in the input. */
INLINE void depthwise_pixels(const struct conv s, const struct params *p, const int pixels, const uint8_t *from,
                             const uint8_t *const *taps, const uint32_t *w, const int32_t *scale, const uint8_t *in2,
                             char *out) {
    const int count = s.kernel_h * s.kernel_w, pitch = PITCH(s.c_in, s.in_bits);
    const int in2_pitch = PITCH(s.c_out, s.in2_bits), out_pitch = PITCH(s.c_out, s.out_bits);
    for (int c = 0; c < s.c_out; c += 4, scale += 8) {
        int32_t sums[PAIR][4] = {{0}};
        if (pixels == 1) {
#pragma GCC unroll 3
            for (int tap = 0; tap < count; tap++) multiply(load_four(taps[tap] + c * s.in_bits / 8, s.in_bits), w++, sums[0]);
        } else {
            const uint8_t *x = from + c * s.in_bits / 8;
#pragma GCC unroll 7
            for (int ky = 0; ky < s.kernel_h; ky++) {
#pragma GCC unroll 7
                for (int kx = 0; kx < s.kernel_w; kx++) {
                    const int tap = kx * s.dilation_w * pitch;
                    w = multiply_pair(s.in_bits, x, tap, tap + s.stride_w * pitch, w, sums);
                }
                x += s.dilation_h * s.width * pitch;
                __asm__("" : "+r"(x)); /* else every row's address is kept in memory */
            }
        }
        const int left = s.c_out % 4 && c + 4 > s.c_out ? s.c_out % 4 : 4;
#pragma GCC unroll 2
        for (int pixel = 0; pixel < pixels; pixel++) {
            const uint8_t *second = s.residual ? in2 + pixel * in2_pitch + c * s.in2_bits / 8 : 0;
            char *to = out + pixel * out_pitch + c * s.out_bits / 8;
            if (left == 4)
                store_channels(s, p, sums[pixel], scale, second, to, 4);
            else
                store_channels(s, p, sums[pixel], scale, second, to, s.c_out % 4);
        }
    }
}

INLINE void depthwise(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                      const void *bias, const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int taps = s.kernel_h * s.kernel_w, pitch = PITCH(s.c_in, s.in_bits), quads = ROUND4(s.c_out);
    const int in2_pitch = PITCH(s.c_out, s.in2_bits), out_pitch = PITCH(s.c_out, s.out_bits);
    const int near = ((s.kernel_w - 1) * s.dilation_w + s.stride_w) * pitch < REACH;
    const int high = (s.kernel_h - 1) * s.dilation_h + 1, wide = (s.kernel_w - 1) * s.dilation_w + 1;
    const uint32_t *w = s.bits == 8 ? weights : unpacked(s, weights, workspace);
    const uint8_t **places = (const uint8_t **)((uint8_t *)workspace + (s.bits == 8 ? 0 : taps * quads));
    uint8_t *outside = (uint8_t *)(places + taps);
    for (int i = 0; i < PITCH(quads, s.in_bits); i++) outside[i] = (uint8_t)repeat_code(p.z_in, s.in_bits);
    const uint8_t *residual = in2;
    char *to = out;
    for (int y = 0; y < s.rows; y++)
        for (int x = 0, pixels; x < s.cols; x += pixels, residual += pixels * in2_pitch, to += pixels * out_pitch) {
            const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left;
            const uint8_t *from = (const uint8_t *)in + (row * s.width + col) * pitch;
            const int last = s.width - wide - s.stride_w; /* column of a pair whose second patch ends with the input */
            if (near && s.height >= high && last >= 0 && x + 1 < s.cols && (unsigned)row <= (unsigned)(s.height - high) &&
                (unsigned)col <= (unsigned)last) {
                pixels = PAIR;
                depthwise_pixels(s, &p, PAIR, from, 0, w, bias, residual, to);
                continue;
            }
            pixels = 1;
            for (int ky = 0; ky < s.kernel_h; ky++)
                for (int kx = 0; kx < s.kernel_w; kx++) {
                    const int at_y = row + ky * s.dilation_h, at_x = col + kx * s.dilation_w;
                    const int inside = (unsigned)at_y < (unsigned)s.height && (unsigned)at_x < (unsigned)s.width;
                    places[ky * s.kernel_w + kx] =
                        inside ? (const uint8_t *)in + (at_y * s.width + at_x) * pitch : outside;
                }
            depthwise_pixels(s, &p, 1, from, places, w, bias, residual, to);
        }
}
#endif
