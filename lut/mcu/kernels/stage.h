/* The input patch of one output pixel, spread to halfwords in a column that two pixels share.

   Four patch elements 0 1 2 3 of pixel p become the words (0, 2) and (1, 3), low half first, at places p and p + 2 of
   every four words: what SXTB16 makes of four consecutive weights. One pixel alone has them at 0 and 1 of every two.
   Patches are in the order ky, kx, channel. */
#ifndef STAGE_H
#define STAGE_H
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
};

#define PATCH(s) ((s).kernel_h * (s).kernel_w * (s).c_in)
#define ROUND4(n) (((n) + 3) / 4 * 4)

/* Where a patch is being written, and the sum of its elements where weights are stored with an offset. */
struct place {
    uint32_t *column, sum;
};

INLINE void spread_word(const struct conv s, struct place *to, uint32_t word) {
    const int summed = s.bits < 8;
    to->column[0] = even_bytes(word);
    to->column[s.pixels] = odd_bytes(word);
    to->column += 2 * s.pixels;
    if (summed) to->sum = add_bytes(word, to->sum);
}

#define SPREAD(word)                                                                    \
    "uxtb16 r8, " word "\n str r8, [%[to]], #%c[step]\n uxtb16 r8, " word ", ror #8\n"  \
    "str r8, [%[to]], #%c[step]\n"
#define SUM(word) "usada8 %[sum], " word ", %[none], %[sum]\n"

/* from: at a multiple of 4 */
INLINE void spread(const struct conv s, struct place *to, const uint8_t *from, int bytes) {
    const int step = 4 * s.pixels;
    int i = 0;
    for (; i + 16 <= bytes; i += 16) {
        if (s.bits < 8)
            __asm__ volatile("ldmia %[from]!, {r4, r5, r6, r7}\n" SUM("r4") SUM("r5") SUM("r6") SUM("r7")
                                 SPREAD("r4") SPREAD("r5") SPREAD("r6") SPREAD("r7")
                             : [from] "+r"(from), [to] "+r"(to->column), [sum] "+r"(to->sum)
                             : [none] "r"(0), [step] "i"(step)
                             : "r4", "r5", "r6", "r7", "r8", "memory");
        else
            __asm__ volatile("ldmia %[from]!, {r4, r5, r6, r7}\n" SPREAD("r4") SPREAD("r5") SPREAD("r6") SPREAD("r7")
                             : [from] "+r"(from), [to] "+r"(to->column)
                             : [step] "i"(step)
                             : "r4", "r5", "r6", "r7", "r8", "memory");
    }
    for (; i < bytes; i += 4, from += 4) spread_word(s, to, load32(from));
}

INLINE void copy_bytes(uint8_t *to, const uint8_t *from, int bytes) {
    int i = 0;
    for (; i + 4 <= bytes; i += 4) store32(to + i, load32(from + i));
    for (; i < bytes; i++) to[i] = from[i];
}

/* Channels of one tap: from the input, or its zero point outside of it. */
INLINE void stage_tap(const struct conv s, const uint8_t *from, int inside, uint32_t zero, struct place *to, uint8_t **line) {
    if (s.c_in % 4) {
        if (inside)
            copy_bytes(*line, from, s.c_in);
        else
            for (int c = 0; c < s.c_in; c++) (*line)[c] = (uint8_t)zero;
        *line += s.c_in;
    } else if (inside) {
        spread(s, to, from, s.c_in);
    } else {
        for (int c = 0; c < s.c_in; c += 4) spread_word(s, to, zero);
    }
}

/* line: ROUND4(PATCH) bytes, used where channels are no multiple of 4; its end beyond the patch is zero. */
INLINE uint32_t stage(const struct conv s, const uint8_t *in, int y, int x, uint32_t zero, uint32_t *column, uint8_t *line) {
    const int high = (s.kernel_h - 1) * s.dilation_h + 1, wide = (s.kernel_w - 1) * s.dilation_w + 1;
    const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left;
    struct place to = {column, 0};
    uint8_t *at = line;
    const uint8_t *from = in + (row * s.width + col) * s.c_in;
    const int fits = s.height >= high && s.width >= wide;
    if (fits && s.dilation_w == 1 && (unsigned)row <= (unsigned)(s.height - high) &&
        (unsigned)col <= (unsigned)(s.width - wide)) {
        for (int ky = 0; ky < s.kernel_h; ky++, from += s.dilation_h * s.width * s.c_in) {
            if (s.c_in % 4) {
                copy_bytes(at, from, s.kernel_w * s.c_in);
                at += s.kernel_w * s.c_in;
            } else {
                spread(s, &to, from, s.kernel_w * s.c_in);
            }
        }
    } else {
        for (int ky = 0; ky < s.kernel_h; ky++) {
            const int in_row = (unsigned)(row + ky * s.dilation_h) < (unsigned)s.height;
            for (int kx = 0; kx < s.kernel_w; kx++) {
                const int inside = in_row && (unsigned)(col + kx * s.dilation_w) < (unsigned)s.width;
                const uint8_t *tap = from + (ky * s.dilation_h * s.width + kx * s.dilation_w) * s.c_in;
                stage_tap(s, tap, inside, zero, &to, &at);
            }
        }
    }
    if (s.c_in % 4) spread(s, &to, line, ROUND4(PATCH(s)));
    return to.sum;
}
#endif
