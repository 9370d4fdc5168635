/* Where a patch's codes lie that are multiplied four to a word, in the order of the weights, and their sum where weights
   have an offset. Four pixels share a column, word k of pixel p at 4 k + p; one pixel alone has its words side by side. */
#ifndef WORDS_H
#define WORDS_H
#include "dot.h"

#define BLOCK_PIXELS(s) ((void)(s), 4)
enum { MOST_PIXELS = 4 };
/* Words of a column that so many codes of one pixel take. */
#define COLUMN_WORDS(s, codes) ((void)(s), (codes) / 4)
#define STEP(s) ((s).pixels == 1 ? 1 : MOST_PIXELS)

/* Where a patch is being written, and the sum of its elements where weights have an offset. */
struct place {
    uint32_t *column, sum;
};

INLINE uint32_t patch_sum(const struct conv s, const struct place *from) {
    (void)s;
    return from->sum;
}

INLINE void put_word(const struct conv s, struct place *to, uint32_t codes) {
    *to->column = codes;
    to->column += STEP(s);
    if (OFFSET(s)) to->sum = sum_bytes(codes, to->sum);
}

/* Codes below 8 bits become bytes in the order of lut/mcu/pack.py: pair j of a word of n is codes j and j + n / 2. */
INLINE void spread_word(const struct conv s, const int bits, struct place *to, uint32_t word) {
    if (bits == 8) {
        put_word(s, to, word);
    } else {
        const uint32_t two = bits == 4 ? 0x00ff00ff : 0x000f000f, one = bits == 4 ? 0x0f0f0f0f : 0x03030303;
#pragma GCC unroll 4
        for (int j = 0; j < 16 / bits; j += 2) {
            const uint32_t codes = word >> (j * bits) & two;
            put_word(s, to, (codes | codes << (8 - bits)) & one);
        }
    }
}
#endif
