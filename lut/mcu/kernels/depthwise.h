/* Depthwise conv2d and conv2d_add: four channels of two neighbours at once, their taps unrolled; at borders of one.

   weights: for every four channels a word per tap; below 8 bits with an offset of half their range, word k of every
   8 / bits in bits k b of the packed word's bytes; they are unpacked into the workspace first. bias: for every four
   channels their biases, then their multipliers. The rest of the workspace is where taps are, and a pixel outside of the input. */
#ifndef DEPTHWISE_H
#define DEPTHWISE_H
#include "channels.h"

enum { PAIR = 2 };

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

/* Channels 0 and 2, 1 and 3 of four, as halfwords. */
struct four {
    uint32_t even, odd;
};

INLINE struct four load_four(const uint8_t *from, int bits) {
    if (bits == 8) {
        const uint32_t x = load32(from);
        return (struct four){even_bytes(x), odd_bytes(x)};
    }
    const uint32_t mask = bits == 4 ? 0x000f000f : 0x00030003;
    const uint32_t codes = bits == 4 ? (uint32_t)from[0] | (uint32_t)from[1] << 8 : from[0];
    const uint32_t x = codes | codes << (bits == 4 ? 8 : 12);
    return (struct four){x & mask, x >> bits & mask};
}

INLINE void multiply(struct four x, uint32_t w, int32_t sums[4]) {
    const uint32_t x_even = x.even, x_odd = x.odd, w_even = even_signed(w), w_odd = odd_signed(w);
    sums[0] = add_low(x_even, w_even, sums[0]);
    sums[1] = add_low(x_odd, w_odd, sums[1]);
    sums[2] = add_high(x_even, w_even, sums[2]);
    sums[3] = add_high(x_odd, w_odd, sums[3]);
}

/* One tap of two pixels, whose codes are at x + first and x + second; w points to the next tap's weights afterwards. */
#define FOUR_OF_8(at) "ldr r4, [%[x], #%c[" at "]]\n uxtb16 r5, r4\n uxtb16 r4, r4, ror #8\n"
#define FOUR_BELOW_8(load, at, gap, bits, mask)                                                          \
    load " r4, [%[x], #%c[" at "]]\n orr r4, r4, r4, lsl #" gap "\n and r5, r4, #" mask "\n lsr r4, r4, #" bits \
    "\n and r4, r4, #" mask "\n"
#define FOUR_OF_4(at) FOUR_BELOW_8("ldrh", at, "8", "4", "0x000f000f")
#define FOUR_OF_2(at) FOUR_BELOW_8("ldrb", at, "12", "2", "0x00030003")
#define ONE_PIXEL(codes, a, b, c, d) codes                                               \
    "smlabb %[" a "], r5, r7, %[" a "]\n smlabb %[" b "], r4, r6, %[" b "]\n"             \
    "smlatt %[" c "], r5, r7, %[" c "]\n smlatt %[" d "], r4, r6, %[" d "]\n"

#define BOTH_PIXELS(load)                                                                                           \
    __asm__ volatile("ldr r6, [%[w]], #4\n sxtb16 r7, r6\n sxtb16 r6, r6, ror #8\n"                                 \
                     ONE_PIXEL(load("first"), "a", "b", "c", "d") ONE_PIXEL(load("second"), "e", "f", "g", "h")      \
                     : [w] "+r"(w), [a] "+r"(sums[0][0]), [b] "+r"(sums[0][1]), [c] "+r"(sums[0][2]),               \
                       [d] "+r"(sums[0][3]), [e] "+r"(sums[1][0]), [f] "+r"(sums[1][1]), [g] "+r"(sums[1][2]),      \
                       [h] "+r"(sums[1][3])                                                                         \
                     : [x] "r"(x), [first] "i"(first), [second] "i"(second)                                         \
                     : "r4", "r5", "r6", "r7", "memory")

INLINE const uint32_t *multiply_pair(int bits, const uint8_t *x, const int first, const int second, const uint32_t *w,
                                     int32_t sums[2][4]) {
    if (bits == 8)
        BOTH_PIXELS(FOUR_OF_8);
    else if (bits == 4)
        BOTH_PIXELS(FOUR_OF_4);
    else
        BOTH_PIXELS(FOUR_OF_2);
    return w;
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
            for (int tap = 0; tap < count; tap++) multiply(load_four(taps[tap] + c * s.in_bits / 8, s.in_bits), *w++, sums[0]);
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
    const int near = ((s.kernel_w - 1) * s.dilation_w + s.stride_w) * pitch < 4096; /* an offset that LDR has */
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
