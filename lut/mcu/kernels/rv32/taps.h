/* A tap of four channels of a depthwise convolution, of one pixel or of two. */
#ifndef TAPS_H
#define TAPS_H
#include "codes.h"

#include "products.h"

enum { REACH = 2048 }; /* offsets that loads have are smaller */

struct four {
    int32_t codes[4];
};

INLINE struct four load_four(const uint8_t *from, int bits) {
    struct four x;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) x.codes[i] = (int32_t)get_code(from, bits, i);
    return x;
}

/* One tap of one pixel. */
INLINE void multiply(struct four x, const uint32_t *w, int32_t sums[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sums[i] += x.codes[i] * ((const int8_t *)w)[i];
}

/* Two channels of both pixels at a time, so that no load is waited for. */
#define CODES_OF_8(first, second)                                                                                    \
    "lbu t3, (%c[at] + " first ")(%[x])\n lbu t4, (%c[at] + " second ")(%[x])\n"                                     \
    "lbu t5, (%c[next] + " first ")(%[x])\n lbu t6, (%c[next] + " second ")(%[x])\n"
#define FIELD(to, from, shift, mask) ".if " shift "\n srli " to ", " from ", " shift "\n andi " to ", " to ", " mask "\n .else\n andi " to ", " from ", " mask "\n .endif\n"
#define CODES_BELOW_8(byte, first, second, mask)                                                        \
    "lbu t4, (%c[at] + " byte ")(%[x])\n lbu t6, (%c[next] + " byte ")(%[x])\n" FIELD("t3", "t4", first, mask) \
        FIELD("t4", "t4", second, mask) FIELD("t5", "t6", first, mask) FIELD("t6", "t6", second, mask)
#define TWO_CHANNELS(place, codes, a, b, e, f)                                                                    \
    "lb t1, (" place ")(%[w])\n lb t2, (" place " + 1)(%[w])\n" codes                                              \
        PRODUCT("t3", "t1", "t3") PRODUCT("t4", "t2", "t4") PRODUCT("t1", "t1", "t5") ADDED(a, "t3")                 \
        PRODUCT("t2", "t2", "t6") ADDED(b, "t4") ADDED(e, "t1") ADDED(f, "t2")
#define TWO_PIXELS(low, high)                                                                                        \
    __asm__ volatile(TWO_CHANNELS("0", low, "a", "b", "e", "f") TWO_CHANNELS("2", high, "c", "d", "g", "h")           \
                     : [a] "+r"(sums[0][0]), [b] "+r"(sums[0][1]), [c] "+r"(sums[0][2]), [d] "+r"(sums[0][3]),         \
                       [e] "+r"(sums[1][0]), [f] "+r"(sums[1][1]), [g] "+r"(sums[1][2]), [h] "+r"(sums[1][3])          \
                     : [w] "r"(w), [x] "r"(x), [at] "i"(first), [next] "i"(second)                                    \
                     : "t1", "t2", "t3", "t4", "t5", "t6", "memory")

/* One tap of two pixels, whose codes are at x + first and x + second. Returns the next tap's weights. */
INLINE const uint32_t *multiply_pair(int bits, const uint8_t *x, const int first, const int second, const uint32_t *w,
                                     int32_t sums[2][4]) {
    if (bits == 8)
        TWO_PIXELS(CODES_OF_8("0", "1"), CODES_OF_8("2", "3"));
    else if (bits == 4)
        TWO_PIXELS(CODES_BELOW_8("0", "0", "4", "15"), CODES_BELOW_8("1", "0", "4", "15"));
    else
        TWO_PIXELS(CODES_BELOW_8("0", "0", "2", "3"), CODES_BELOW_8("0", "4", "6", "3"));
    return w + 1;
}
#endif
