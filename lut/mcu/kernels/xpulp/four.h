/* The inner loop of one output pixel: four channels at once, four products in an instruction. */
#ifndef FOUR_H
#define FOUR_H
#include "block.h"

#define FOUR_SUMS [w] "+r"(weights), [x] "+r"(column), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)
#define FOUR_WORDS "lw t2, 0(%[w])\n lw t3, 4(%[w])\n lw t4, 8(%[w])\n lw t5, 12(%[w])\n"
#define CHANNEL_PART(word, sum)                                                                                   \
    ".if \\j\n srli t6, " word ", \\j * %c[bits]\n and t6, t6, %[mask]\n .else\n and t6, " word ", %[mask]\n .endif\n" \
    SDOTUP(sum, "t1", "t6")

INLINE const uint32_t *four_channels(const struct conv s, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    if (s.bits == 8)
        __asm__ volatile("1:\n .rept %c[unroll]\n" FOUR_WORDS "lw t1, 0(%[x])\n addi %[w], %[w], 16\n addi %[x], %[x], 4\n"
                         SDOTUSP("%[a]", "t1", "t2") SDOTUSP("%[b]", "t1", "t3") SDOTUSP("%[c]", "t1", "t4")
                         SDOTUSP("%[d]", "t1", "t5") ".endr\n bne %[x], %[end], 1b\n"
                         : FOUR_SUMS
                         : [end] "r"(end), [unroll] "i"(s.unroll)
                         : "t1", "t2", "t3", "t4", "t5", "memory");
    else
        __asm__ volatile("1:\n" FOUR_WORDS "addi %[w], %[w], 16\n .irp j, 0, 1, 2, 3\n .if \\j < 8 / %c[bits]\n"
                         "lw t1, 0(%[x])\n addi %[x], %[x], 4\n" CHANNEL_PART("t2", "%[a]") CHANNEL_PART("t3", "%[b]")
                         CHANNEL_PART("t4", "%[c]") CHANNEL_PART("t5", "%[d]") ".endif\n .endr\n"
                         "bne %[x], %[end], 1b\n"
                         : FOUR_SUMS
                         : [end] "r"(end), [bits] "i"(s.bits), [mask] "r"(BYTE_MASK(s))
                         : "t1", "t2", "t3", "t4", "t5", "t6", "memory");
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
    return weights;
}
#endif
