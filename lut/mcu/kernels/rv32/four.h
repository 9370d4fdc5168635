/* The inner loop of one output pixel: four channels at once. Weights below 8 bits are multiplied in pairs (block.h). */
#ifndef FOUR_H
#define FOUR_H
#include "block.h"

#define FOUR_BYTES                                                                                              \
    "lbu t1, (\\i)(%[x])\n lb t2, (\\i)(%[w])\n lb t3, (\\i + 4)(%[w])\n lb t4, (\\i + 8)(%[w])\n"                 \
    "lb t5, (\\i + 12)(%[w])\n"                                                                                 \
    PRODUCT("t2", "t2", "t1") PRODUCT("t3", "t3", "t1") PRODUCT("t4", "t4", "t1") ADDED("a", "t2")                 \
    PRODUCT("t5", "t5", "t1") ADDED("b", "t3") ADDED("c", "t4") ADDED("d", "t5")
#define PAIR_OF(word, to)                                                                                       \
    ".if \\j\n srli " to ", " word ", \\j * %c[bits]\n and " to ", " to ", %[mask]\n .else\n and " to ", " word ", %[mask]\n .endif\n"
#define FOUR_PAIRS                                                                                              \
    ".irp j, 0, 1, 2, 3, 4, 5, 6, 7\n .if \\j < 16 / %c[bits]\n lw t1, (4 * \\j)(%[x])\n"                          \
    PAIR_OF("t2", "t0") PRODUCT("t0", "t0", "t1") PAIR_OF("t3", "t6") PRODUCT("t6", "t6", "t1") ADDED("a", "t0")    \
    PAIR_OF("t4", "t0") PRODUCT("t0", "t0", "t1") ADDED("b", "t6") PAIR_OF("t5", "t6")                            \
    PRODUCT("t6", "t6", "t1") ADDED("c", "t0") ADDED("d", "t6") ".endif\n .endr\n"
#define FOUR_SUMS [w] "+r"(weights), [x] "+r"(column), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)

INLINE const uint32_t *four_channels(const struct conv s, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
    if (!PAIRED(s)) {
        int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
        __asm__ volatile("1:\n .irp i, 0, 1, 2, 3\n" FOUR_BYTES ".endr\n"
                         "addi %[w], %[w], 16\n addi %[x], %[x], 4\n bne %[x], %[end], 1b\n"
                         : FOUR_SUMS
                         : [end] "r"(end)
                         : "t1", "t2", "t3", "t4", "t5", "memory");
        sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
        return weights;
    }
    const int pairs = 16 / s.bits, most = MOST_WORDS(s);
    for (int left = s.words; left > 0; left -= most) {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        const uint32_t *stop = left <= most ? end : column + most * pairs;
        __asm__ volatile("1:\n lw t2, 0(%[w])\n lw t3, 4(%[w])\n lw t4, 8(%[w])\n lw t5, 12(%[w])\n" FOUR_PAIRS
                         "addi %[w], %[w], 16\n addi %[x], %[x], 64 / %c[bits]\n bne %[x], %[end], 1b\n"
                         : FOUR_SUMS
                         : [end] "r"(stop), [bits] "i"(s.bits), [mask] "r"(PAIR_MASK(s))
                         : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "memory");
        sums[0] += (int32_t)(a >> 16), sums[1] += (int32_t)(b >> 16);
        sums[2] += (int32_t)(c >> 16), sums[3] += (int32_t)(d >> 16);
    }
    return weights;
}
#endif
