/* A patch's codes in a column, and their sum where weights have an offset.

   Weights of 8 bits: a word holds four bytes in the order of the weights, and four pixels share a column, word k of pixel
   p at 4 k + p. Weights below 8 bits: a word holds a pair of codes as halfwords, the one that meets the weight in the
   low half in the high half (block.h says why), and two pixels share a column. One pixel alone has its words side by
   side. Codes below 8 bits are in the order of lut/mcu/pack.py: pair j of a word of n is codes j and j + n / 2. */
#ifndef SPREAD_H
#define SPREAD_H
#include "shape.h"

#define PAIRED(s) ((s).bits < 8)
/* Whether weights have an offset when they are multiplied. */
#define OFFSET(s) PAIRED(s)
/* Pixels that a block computes; of all shapes, the most. */
#define BLOCK_PIXELS(s) (PAIRED(s) ? 2 : 4)
enum { MOST_PIXELS = 4 };
/* Words of a column that so many codes of one pixel take. */
#define COLUMN_WORDS(s, codes) ((codes) / (PAIRED(s) ? 2 : 4))
#define STEP(s) ((s).pixels == 1 ? 1 : BLOCK_PIXELS(s))
/* Whether the sum of a patch stays in two halfwords. */
#define HALVED(s) (PATCH(s) * ((1 << (s).in_bits) - 1) < 1 << 16)

/* Where a patch is being written, and the sum of its elements where weights are stored with an offset. */
struct place {
    uint32_t *column, sum;
};

INLINE uint32_t folded(uint32_t halves) { return (halves & 0xffff) + (halves >> 16); }

INLINE uint32_t patch_sum(const struct conv s, const struct place *from) {
    return HALVED(s) ? folded(from->sum) : from->sum;
}

INLINE void put_pair(const struct conv s, struct place *to, uint32_t pair) {
    *to->column = pair;
    to->column += STEP(s);
    to->sum += HALVED(s) ? pair : folded(pair);
}

INLINE void spread_word(const struct conv s, const int bits, struct place *to, uint32_t word) {
    if (PAIRED(s)) {
        const uint32_t turned = word << 16 | word >> 16, mask = bits == 8 ? 0x00ff00ff : bits == 4 ? 0x000f000f : 0x00030003;
#pragma GCC unroll 8
        for (int j = 0; j < 16 / bits; j++) put_pair(s, to, turned >> (j * bits) & mask);
    } else if (bits == 8) {
        *to->column = word;
        to->column += STEP(s);
    } else {
        const uint32_t two = bits == 4 ? 0x00ff00ff : 0x000f000f, one = bits == 4 ? 0x0f0f0f0f : 0x03030303;
#pragma GCC unroll 4
        for (int j = 0; j < 16 / bits; j += 2) {
            const uint32_t codes = word >> (j * bits) & two;
            *to->column = (codes | codes << (8 - bits)) & one;
            to->column += STEP(s);
        }
    }
}

/* from: at a multiple of 4; bytes: a multiple of 4 */
INLINE void spread(const struct conv s, const int bits, struct place *to, const uint8_t *from, int bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < bytes; i += 4) spread_word(s, bits, to, load32(from + i));
}
#endif
