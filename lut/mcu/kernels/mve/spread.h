/* A patch's codes in a column (words.h), four words at once where codes are bytes. */
#ifndef SPREAD_H
#define SPREAD_H
#include "words.h"

/* from: at a multiple of 4; bytes: a multiple of 4 */
INLINE void spread(const struct conv s, const int bits, struct place *to, const uint8_t *from, int bytes) {
    const uint32x4_t place = vidupq_n_u32(0, STEP(s));
    int i = 0;
    for (; bits == 8 && i + 16 <= bytes; i += 16) {
        const uint32x4_t codes = vldrwq_u32((const uint32_t *)(from + i));
        vstrwq_scatter_shifted_offset_u32(to->column, place, codes);
        to->column += 4 * STEP(s);
        to->sum = vaddvaq_u8(to->sum, vreinterpretq_u8_u32(codes));
    }
    for (; i < bytes; i += 4) spread_word(s, bits, to, load32(from + i));
}
#endif
