/* A tap of four channels of a depthwise convolution, of one pixel or of two. */
#ifndef TAPS_H
#define TAPS_H
#include "codes.h"

enum { REACH = 1 << 30 }; /* any offset will do */

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

/* One tap of two pixels, whose codes are at x + first and x + second. Returns the next tap's weights. */
INLINE const uint32_t *multiply_pair(int bits, const uint8_t *x, const int first, const int second, const uint32_t *w,
                                     int32_t sums[2][4]) {
    multiply(load_four(x + first, bits), w, sums[0]);
    multiply(load_four(x + second, bits), w, sums[1]);
    return w + 1;
}
#endif
