/* sum + the four products of the bytes of two words: cv.sdotup.b, both unsigned, and cv.sdotusp.b, the second signed
   (CV32E40P's manual, CORE-V instruction set extensions). Debian's compiler does not know their names. */
#ifndef DOT_H
#define DOT_H
#include "shape.h"

#define SDOTUP(sum, a, b) ".insn r 0x7b, 1, 0x4c, " sum ", " a ", " b "\n"
#define SDOTUSP(sum, a, b) ".insn r 0x7b, 1, 0x50, " sum ", " a ", " b "\n"

/* Whether weights are multiplied as they are stored: unsigned, with an offset. */
#define OFFSET(s) ((s).bits < 8)

INLINE uint32_t sum_bytes(uint32_t word, uint32_t sum) {
    __asm__(SDOTUP("%0", "%1", "%2") : "+r"(sum) : "r"(word), "r"(0x01010101));
    return sum;
}
#endif
