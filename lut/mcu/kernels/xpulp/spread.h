/* A patch's codes in a column (words.h), word by word. */
#ifndef SPREAD_H
#define SPREAD_H
#include "words.h"

/* from: at a multiple of 4; bytes: a multiple of 4 */
INLINE void spread(const struct conv s, const int bits, struct place *to, const uint8_t *from, int bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < bytes; i += 4) spread_word(s, bits, to, load32(from + i));
}
#endif
