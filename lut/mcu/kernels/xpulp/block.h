/* The inner loop of convolutions: two output channels of four pixels at once, four products in an instruction.

   A word of weights below 8 bits has unsigned ones; an AND with a shift makes four bytes of it (lut/mcu/pack.py), and each
   such word meets a word of the column. Loads come in groups, so that none is needed by what follows it. */
#ifndef BLOCK_H
#define BLOCK_H
#include "dot.h"
#include "spread.h"

#define BYTE_MASK(s) ((s).bits == 4 ? 0x0f0f0f0fu : 0x03030303u)
#define EIGHT_SUMS                                                                                             \
    [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [e] "+r"(e), [f] "+r"(f), [g] "+r"(g), [h] "+r"(h),     \
        [w] "+r"(w), [x] "+r"(x)
/* Words t1 and t2 of both channels with a word of each pixel. */
#define WITH_PIXELS(dot)                                                                                     \
    "lw t3, 0(%[x])\n lw t4, 4(%[x])\n lw t5, 8(%[x])\n lw t6, 12(%[x])\n addi %[x], %[x], 16\n"             \
    dot("%[a]", "t3", "t1") dot("%[b]", "t4", "t1") dot("%[c]", "t3", "t2") dot("%[d]", "t4", "t2")           \
    dot("%[e]", "t5", "t1") dot("%[f]", "t6", "t1") dot("%[g]", "t5", "t2") dot("%[h]", "t6", "t2")
#define WHOLE_WORD "lw t1, 0(%[w])\n lw t2, 4(%[w])\n addi %[w], %[w], 8\n" WITH_PIXELS(SDOTUSP)
#define PART_OF_WORD                                                                                          \
    ".if \\j\n srli t1, s10, \\j * %c[bits]\n srli t2, s11, \\j * %c[bits]\n and t1, t1, %[mask]\n"         \
    "and t2, t2, %[mask]\n .else\n and t1, s10, %[mask]\n and t2, s11, %[mask]\n .endif\n" WITH_PIXELS(SDOTUP)

/* Channel 0 of pixels 0 and 1 is added to sums[0][0] and [1], channel 1 to [2] and [3], pixels 2 and 3 to sums[1]. Returns
   what comes behind the weights. */
INLINE const uint32_t *block(const struct conv s, const uint32_t *weights, const uint32_t *column, const uint32_t *end,
                             int32_t sums[][4]) {
    int32_t a = sums[0][0], b = sums[0][1], c = sums[0][2], d = sums[0][3];
    int32_t e = sums[1][0], f = sums[1][1], g = sums[1][2], h = sums[1][3];
    const uint32_t *w = weights, *x = column;
    if (s.bits == 8)
        __asm__ volatile("1:\n .rept %c[unroll]\n" WHOLE_WORD ".endr\n bne %[x], %[end], 1b\n"
                         : EIGHT_SUMS
                         : [end] "r"(end), [unroll] "i"(s.unroll)
                         : "t1", "t2", "t3", "t4", "t5", "t6", "memory");
    else
        __asm__ volatile("1:\n .rept %c[unroll]\n lw s10, 0(%[w])\n lw s11, 4(%[w])\n addi %[w], %[w], 8\n"
                         ".irp j, 0, 1, 2, 3\n .if \\j < 8 / %c[bits]\n" PART_OF_WORD ".endif\n .endr\n .endr\n"
                         "bne %[x], %[end], 1b\n"
                         : EIGHT_SUMS
                         : [end] "r"(end), [unroll] "i"(s.unroll), [bits] "i"(s.bits), [mask] "r"(BYTE_MASK(s))
                         : "t1", "t2", "t3", "t4", "t5", "t6", "s10", "s11", "memory");
    sums[0][0] = a, sums[0][1] = b, sums[0][2] = c, sums[0][3] = d;
    sums[1][0] = e, sums[1][1] = f, sums[1][2] = g, sums[1][3] = h;
    return w;
}
#endif
