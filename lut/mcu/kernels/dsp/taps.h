/* A tap of four channels of a depthwise convolution, of one pixel or of two. */
#ifndef TAPS_H
#define TAPS_H
#include "kernel.h"

enum { REACH = 4096 }; /* offsets that LDR has are smaller */

/* Channels 0 and 2, 1 and 3 of four, as halfwords. */
struct four {
    uint32_t even, odd;
};

INLINE struct four load_four(const uint8_t *from, int bits) {
    if (bits == 8) {
        const uint32_t x = load32(from);
        return (struct four){even_bytes(x), odd_bytes(x)};
    }
    const uint32_t mask = bits == 4 ? 0x000f000f : 0x00030003;
    const uint32_t codes = bits == 4 ? (uint32_t)from[0] | (uint32_t)from[1] << 8 : from[0];
    const uint32_t x = codes | codes << (bits == 4 ? 8 : 12);
    return (struct four){x & mask, x >> bits & mask};
}

/* One tap of one pixel. */
INLINE void multiply(struct four x, const uint32_t *w, int32_t sums[4]) {
    const uint32_t x_even = x.even, x_odd = x.odd, w_even = even_signed(*w), w_odd = odd_signed(*w);
    sums[0] = add_low(x_even, w_even, sums[0]);
    sums[1] = add_low(x_odd, w_odd, sums[1]);
    sums[2] = add_high(x_even, w_even, sums[2]);
    sums[3] = add_high(x_odd, w_odd, sums[3]);
}

/* One tap of two pixels, whose codes are at x + first and x + second; w points to the next tap's weights afterwards. */
#define FOUR_OF_8(at) "ldr r4, [%[x], #%c[" at "]]\n uxtb16 r5, r4\n uxtb16 r4, r4, ror #8\n"
#define FOUR_BELOW_8(load, at, gap, bits, mask)                                                          \
    load " r4, [%[x], #%c[" at "]]\n orr r4, r4, r4, lsl #" gap "\n and r5, r4, #" mask "\n lsr r4, r4, #" bits \
    "\n and r4, r4, #" mask "\n"
#define FOUR_OF_4(at) FOUR_BELOW_8("ldrh", at, "8", "4", "0x000f000f")
#define FOUR_OF_2(at) FOUR_BELOW_8("ldrb", at, "12", "2", "0x00030003")
#define ONE_PIXEL(codes, a, b, c, d) codes                                               \
    "smlabb %[" a "], r5, r7, %[" a "]\n smlabb %[" b "], r4, r6, %[" b "]\n"             \
    "smlatt %[" c "], r5, r7, %[" c "]\n smlatt %[" d "], r4, r6, %[" d "]\n"

#define BOTH_PIXELS(load)                                                                                           \
    __asm__ volatile("ldr r6, [%[w]], #4\n sxtb16 r7, r6\n sxtb16 r6, r6, ror #8\n"                                 \
                     ONE_PIXEL(load("first"), "a", "b", "c", "d") ONE_PIXEL(load("second"), "e", "f", "g", "h")      \
                     : [w] "+r"(w), [a] "+r"(sums[0][0]), [b] "+r"(sums[0][1]), [c] "+r"(sums[0][2]),               \
                       [d] "+r"(sums[0][3]), [e] "+r"(sums[1][0]), [f] "+r"(sums[1][1]), [g] "+r"(sums[1][2]),      \
                       [h] "+r"(sums[1][3])                                                                         \
                     : [x] "r"(x), [first] "i"(first), [second] "i"(second)                                         \
                     : "r4", "r5", "r6", "r7", "memory")

INLINE const uint32_t *multiply_pair(int bits, const uint8_t *x, const int first, const int second, const uint32_t *w,
                                     int32_t sums[2][4]) {
    if (bits == 8)
        BOTH_PIXELS(FOUR_OF_8);
    else if (bits == 4)
        BOTH_PIXELS(FOUR_OF_4);
    else
        BOTH_PIXELS(FOUR_OF_2);
    return w;
}
#endif
