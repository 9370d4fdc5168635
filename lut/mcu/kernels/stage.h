/* The input patch of one output pixel, spread to halfwords in a column that two pixels share.

   Patches are in the order ky, kx, channel. A word of n = 32 / bits codes becomes n / 2 words: codes j and j + n / 2, low
   half first. Pair k of pixel p is at place 2 k + p; one pixel alone has them side by side. With 8 bits that is what
   SXTB16 makes of four consecutive weights; below, lut/mcu/pack.py orders the weights alike. Where the channels of a
   pixel are no whole words, a patch is first laid out as bytes in a line. */
#ifndef STAGE_H
#define STAGE_H
#include "codes.h"
#include "kernel.h"

struct conv {
    int height, width, c_in, c_out, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left;
    int rows, cols;   /* of the output */
    int bits, words;  /* of a weight; 32-bit words of weights per output channel */
    int unroll;       /* words per step of the inner loop */
    int pixels;       /* that share a column: 2, or 1 */
    int scores;       /* whether the output is int16 */
    int groups, residual; /* residual: whether a second input is added */
    int by_channel;   /* whether a product's second input is one value per channel */
    int in_bits, in2_bits, out_bits; /* of a stored code */
};

#define PATCH(s) ((s).kernel_h * (s).kernel_w * (s).c_in)
#define ROUND4(n) (((n) + 3) / 4 * 4)
#define LINED(s) ((s).c_in * (s).in_bits % 32 != 0)

/* Where a patch is being written, and the sum of its elements where weights are stored with an offset. */
struct place {
    uint32_t *column, sum;
};

INLINE void spread_word(const struct conv s, const int bits, struct place *to, uint32_t word) {
    const int summed = s.bits < 8;
    if (bits == 8) {
        to->column[0] = even_bytes(word);
        to->column[s.pixels] = odd_bytes(word);
        to->column += 2 * s.pixels;
        if (summed) to->sum = add_bytes(word, to->sum);
        return;
    }
#pragma GCC unroll 8
    for (int j = 0; j < 16 / bits; j++) {
        const uint32_t pair = word >> (j * bits) & (bits == 4 ? 0x000f000f : 0x00030003);
        *to->column = pair;
        to->column += s.pixels;
        if (summed) to->sum += (pair & 0xffff) + (pair >> 16);
    }
}

#define SPREAD(word)                                                                    \
    "uxtb16 r8, " word "\n str r8, [%[to]], #%c[step]\n uxtb16 r8, " word ", ror #8\n"  \
    "str r8, [%[to]], #%c[step]\n"
#define SUM(word) "usada8 %[sum], " word ", %[none], %[sum]\n"
#define PAIR_OF(word, shift) "and r8, %[mask], " word shift "\n str r8, [%[to]], #%c[step]\n"
#define SPREAD_4(word) PAIR_OF(word, "") PAIR_OF(word, ", lsr #4") PAIR_OF(word, ", lsr #8") PAIR_OF(word, ", lsr #12")
#define SPREAD_2(word)                                                                                          \
    PAIR_OF(word, "") PAIR_OF(word, ", lsr #2") PAIR_OF(word, ", lsr #4") PAIR_OF(word, ", lsr #6")             \
        PAIR_OF(word, ", lsr #8") PAIR_OF(word, ", lsr #10") PAIR_OF(word, ", lsr #12") PAIR_OF(word, ", lsr #14")
/* Sums of neighbouring codes, until every byte is one. A sum that is still 0 must not share the register of `none`, hence
   its &. */
#define FOLD(word, field, shift) \
    "and r9, %[" field "], " word ", lsr #" shift "\n and r8, %[" field "], " word "\n add r8, r8, r9\n"
#define SUM_4(word) FOLD(word, "low4", "4") SUM("r8")
#define SUM_2(word) FOLD(word, "low2", "2") FOLD("r8", "low4", "4") SUM("r8")

#define NARROW(body, ...)                                                                                       \
    __asm__ volatile(body : [from] "+r"(from), [to] "+r"(to->column), [sum] "+&r"(to->sum)                       \
                     : [step] "i"(step), [mask] "r"(bits == 4 ? 0x000f000f : 0x00030003), __VA_ARGS__           \
                     : "r4", "r5", "r8", "r9", "memory")

/* from: at a multiple of 4; bytes: a multiple of 4 */
INLINE void spread(const struct conv s, const int bits, struct place *to, const uint8_t *from, int bytes) {
    const int step = 4 * s.pixels;
    int i = 0;
    for (; bits == 8 && i + 16 <= bytes; i += 16) {
        if (s.bits < 8)
            __asm__ volatile("ldmia %[from]!, {r4, r5, r6, r7}\n" SUM("r4") SUM("r5") SUM("r6") SUM("r7")
                                 SPREAD("r4") SPREAD("r5") SPREAD("r6") SPREAD("r7")
                             : [from] "+r"(from), [to] "+r"(to->column), [sum] "+&r"(to->sum)
                             : [none] "r"(0), [step] "i"(step)
                             : "r4", "r5", "r6", "r7", "r8", "memory");
        else
            __asm__ volatile("ldmia %[from]!, {r4, r5, r6, r7}\n" SPREAD("r4") SPREAD("r5") SPREAD("r6") SPREAD("r7")
                             : [from] "+r"(from), [to] "+r"(to->column)
                             : [step] "i"(step)
                             : "r4", "r5", "r6", "r7", "r8", "memory");
    }
    for (; bits < 8 && i + 8 <= bytes; i += 8) {
        if (bits == 4 && s.bits < 8)
            NARROW("ldmia %[from]!, {r4, r5}\n" SUM_4("r4") SUM_4("r5") SPREAD_4("r4") SPREAD_4("r5"),
                   [none] "r"(0), [low4] "r"(0x0f0f0f0f));
        else if (bits == 4)
            NARROW("ldmia %[from]!, {r4, r5}\n" SPREAD_4("r4") SPREAD_4("r5"), [none] "r"(0));
        else if (s.bits < 8)
            NARROW("ldmia %[from]!, {r4, r5}\n" SUM_2("r4") SUM_2("r5") SPREAD_2("r4") SPREAD_2("r5"),
                   [none] "r"(0), [low4] "r"(0x0f0f0f0f), [low2] "r"(0x33333333));
        else
            NARROW("ldmia %[from]!, {r4, r5}\n" SPREAD_2("r4") SPREAD_2("r5"), [none] "r"(0));
    }
    for (; i < bytes; i += 4, from += 4) spread_word(s, bits, to, load32(from));
}

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
    return to.sum;
}
#endif
