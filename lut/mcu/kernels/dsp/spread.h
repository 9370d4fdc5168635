/* A patch's codes become halfword pairs in a column, which two pixels share, and their sum where weights have an offset.

   A word of n = 32 / bits codes becomes n / 2 words: codes j and j + n / 2, low half first. Pair k of pixel p is at place
   2 k + p; one pixel alone has them side by side. With 8 bits that is what SXTB16 makes of four consecutive weights;
   below, lut/mcu/pack.py orders the weights alike. */
#ifndef SPREAD_H
#define SPREAD_H
#include "shape.h"

/* Whether weights have an offset when they are multiplied. */
#define OFFSET(s) ((s).bits < 8)
/* Words of a column that so many codes of one pixel take. */
#define COLUMN_WORDS(s, codes) ((codes) / 2)

/* Where a patch is being written, and the sum of its elements where weights are stored with an offset. */
struct place {
    uint32_t *column, sum;
};

INLINE uint32_t patch_sum(const struct conv s, const struct place *from) {
    (void)s;
    return from->sum;
}

INLINE void spread_word(const struct conv s, const int bits, struct place *to, uint32_t word) {
    const int summed = OFFSET(s);
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
        if (OFFSET(s))
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
        if (bits == 4 && OFFSET(s))
            NARROW("ldmia %[from]!, {r4, r5}\n" SUM_4("r4") SUM_4("r5") SPREAD_4("r4") SPREAD_4("r5"),
                   [none] "r"(0), [low4] "r"(0x0f0f0f0f));
        else if (bits == 4)
            NARROW("ldmia %[from]!, {r4, r5}\n" SPREAD_4("r4") SPREAD_4("r5"), [none] "r"(0));
        else if (OFFSET(s))
            NARROW("ldmia %[from]!, {r4, r5}\n" SUM_2("r4") SUM_2("r5") SPREAD_2("r4") SPREAD_2("r5"),
                   [none] "r"(0), [low4] "r"(0x0f0f0f0f), [low2] "r"(0x33333333));
        else
            NARROW("ldmia %[from]!, {r4, r5}\n" SPREAD_2("r4") SPREAD_2("r5"), [none] "r"(0));
    }
    for (; i < bytes; i += 4, from += 4) spread_word(s, bits, to, load32(from));
}
#endif
