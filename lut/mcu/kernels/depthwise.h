/* Depthwise conv2d and conv2d_add: four channels at once, their taps unrolled.

   weights: for every four channels a word per tap; below 8 bits with an offset of half their range, word k of every
   8 / bits in bits k b of the packed word's bytes; they are unpacked into the workspace first. bias: for every four
   channels their biases, then their multipliers. The rest of the workspace is where taps are, and a pixel outside of the input. */
#ifndef DEPTHWISE_H
#define DEPTHWISE_H
#include "requantize.h"
#include "stage.h"

INLINE const uint32_t *unpacked(const struct conv s, const uint32_t *packed, uint32_t *to) {
    const int share = 8 / s.bits, words = s.kernel_h * s.kernel_w * ROUND4(s.c_out) / 4;
    const uint32_t mask = repeat((1 << s.bits) - 1), half = repeat(1 << (s.bits - 1));
    for (int i = 0; i < words; i += share, packed++)
        for (int k = 0; k < share && i + k < words; k++) {
            uint32_t codes = *packed >> (k * s.bits) & mask;
            __asm__("ssub8 %0, %0, %1" : "+r"(codes) : "r"(half));
            to[i + k] = codes;
        }
    return to;
}

INLINE void multiply(uint32_t x, uint32_t w, int32_t sums[4]) {
    const uint32_t x_even = even_bytes(x), x_odd = odd_bytes(x), w_even = even_signed(w), w_odd = odd_signed(w);
    sums[0] = add_low(x_even, w_even, sums[0]);
    sums[1] = add_low(x_odd, w_odd, sums[1]);
    sums[2] = add_high(x_even, w_even, sums[2]);
    sums[3] = add_high(x_odd, w_odd, sums[3]);
}

/* Four channels, or the last one to three, from their sums. Returns the next channels' scale. */
INLINE const int32_t *store_channels(const struct conv s, const struct params *p, const int32_t sums[4], const int32_t *scale,
                           const uint8_t *in2, char *out, int count) {
    if (count == 4 && !s.scores && !s.residual) {
        store32(out, requantize_channels(p, sums, &scale));
        return scale;
    }
    int32_t codes[4];
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) codes[i] = finish(p, sums[i], scale[i], scale[4 + i], s.residual, s.residual ? in2[i] : 0);
    if (s.scores) {
        for (int i = 0; i < count; i++) store16(out + 2 * i, (uint16_t)clamp(codes[i], p->low, p->high));
        return scale + 8;
    }
    uint32_t word = 0;
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) word |= saturate8(codes[i]) << (8 * i);
    word = clamp_bytes(word, repeat(p->low), repeat(p->high));
    if (count == 4)
        store32(out, word);
    else
        for (int i = 0; i < count; i++) out[i] = (char)(word >> (8 * i));
    return scale + 8;
}

/* One output pixel, its taps by their offsets from `from` where the whole patch lies in the input, else by `taps`. */
INLINE void depthwise_pixel(const struct conv s, const struct params *p, const uint8_t *from,
                            const uint8_t *const *taps, const uint32_t *w, const int32_t *scale, const uint8_t *in2,
                            char *out) {
    const int size = s.scores ? 2 : 1, count = s.kernel_h * s.kernel_w;
    for (int c = 0; c < s.c_out; c += 4, w += count) {
        int32_t sums[4] = {0, 0, 0, 0};
        if (taps) {
            for (int tap = 0; tap < count; tap++) multiply(load32(taps[tap] + c), w[tap], sums);
        } else {
#pragma GCC unroll 7
            for (int ky = 0; ky < s.kernel_h; ky++)
#pragma GCC unroll 7
                for (int kx = 0; kx < s.kernel_w; kx++) {
                    const int tap = (ky * s.dilation_h * s.width + kx * s.dilation_w) * s.c_in;
                    multiply(load32(from + tap + c), w[ky * s.kernel_w + kx], sums);
                }
        }
        const uint8_t *second = s.residual ? in2 + c : 0;
        if (s.c_out % 4 == 0 || c + 4 <= s.c_out)
            scale = store_channels(s, p, sums, scale, second, out + c * size, 4);
        else
            scale = store_channels(s, p, sums, scale, second, out + c * size, s.c_out % 4);
    }
}

INLINE void depthwise(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                      const void *bias, const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int taps = s.kernel_h * s.kernel_w, pitch = ROUND4(s.c_out), size = s.scores ? 2 : 1;
    const int high = (s.kernel_h - 1) * s.dilation_h + 1, wide = (s.kernel_w - 1) * s.dilation_w + 1;
    const int fits = s.height >= high && s.width >= wide;
    const uint32_t *w = s.bits == 8 ? weights : unpacked(s, weights, workspace);
    const uint8_t **places = (const uint8_t **)((uint8_t *)workspace + (s.bits == 8 ? 0 : taps * pitch));
    uint8_t *outside = (uint8_t *)(places + taps);
    for (int c = 0; c < pitch; c++) outside[c] = (uint8_t)p.z_in;
    const uint8_t *residual = in2;
    char *to = out;
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++, residual += s.c_out, to += s.c_out * size) {
            const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left;
            const uint8_t *from = (const uint8_t *)in + (row * s.width + col) * s.c_in;
            if (fits && (unsigned)row <= (unsigned)(s.height - high) && (unsigned)col <= (unsigned)(s.width - wide)) {
                depthwise_pixel(s, &p, from, 0, w, bias, residual, to);
                continue;
            }
            for (int ky = 0; ky < s.kernel_h; ky++)
                for (int kx = 0; kx < s.kernel_w; kx++) {
                    const int at_y = row + ky * s.dilation_h, at_x = col + kx * s.dilation_w;
                    const int inside = (unsigned)at_y < (unsigned)s.height && (unsigned)at_x < (unsigned)s.width;
                    places[ky * s.kernel_w + kx] =
                        inside ? (const uint8_t *)in + (at_y * s.width + at_x) * s.c_in : outside;
                }
            depthwise_pixel(s, &p, from, places, w, bias, residual, to);
        }
}
#endif
