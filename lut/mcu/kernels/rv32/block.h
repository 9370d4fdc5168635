/* The inner loop of convolutions: two output channels of two or four pixels at once, by 32-bit multiplication.

   Weights of 8 bits: a byte is loaded for every weight and serves four pixels.
   Weights below: one multiplication makes two products. Halfwords w0, w1 of unsigned weights (an AND with a shift unpacks
   them: pair j of a word is at bits j b and 16 + j b) and x1, x0 of codes give
       (w0 + 2^16 w1) (x1 + 2^16 x0) = w0 x1 + 2^16 (w0 x0 + w1 x1) + 2^32 ..
   Sums of these keep w0 x0 + w1 x1 in the upper half as long as it and the sum of w0 x1 are below 2^16; before that the
   upper half is added up (MOST_WORDS).
   In C the compiler keeps half of the sums on the stack; here a result is never needed right after its load. */
#ifndef BLOCK_H
#define BLOCK_H
#include "shape.h"
#include "products.h"
#include "spread.h"

#define PAIR_MASK(s) ((s).bits == 4 ? 0x000f000fu : 0x00030003u)
/* Words of weights whose products fit into a half. */
#define MOST_WORDS(s) (65535 / (2 * ((1 << (s).bits) - 1) * ((1 << (s).in_bits) - 1)) / (16 / (s).bits))

#define EVERY_BYTE                                                                                           \
    "lbu t3, (\\i)(%[x])\n lb t1, (\\i)(%[w])\n lb t2, (\\i + 4)(%[w])\n lbu t4, (\\i + 4)(%[x])\n"             \
    PRODUCT("t0", "t1", "t3") PRODUCT("t3", "t2", "t3") PRODUCT("t5", "t1", "t4") ADDED("a", "t0")            \
    PRODUCT("t4", "t2", "t4") ADDED("b", "t5") "lbu t5, (\\i + 8)(%[x])\n" ADDED("c", "t3")                    \
    "lbu t6, (\\i + 12)(%[x])\n" ADDED("d", "t4")                                                            \
    PRODUCT("t0", "t1", "t5") PRODUCT("t5", "t2", "t5") PRODUCT("t1", "t1", "t6") ADDED("e", "t0")            \
    PRODUCT("t2", "t2", "t6") ADDED("g", "t5") ADDED("f", "t1") ADDED("h", "t2")

/* Two channels by four pixels. */
INLINE const uint32_t *multiply_bytes(const uint32_t *w, const uint32_t *x, const uint32_t *end, int32_t sums[][4]) {
    int32_t a = sums[0][0], b = sums[0][1], c = sums[0][2], d = sums[0][3];
    int32_t e = sums[1][0], f = sums[1][1], g = sums[1][2], h = sums[1][3];
    __asm__ volatile("1:\n .irp i, 0, 1, 2, 3\n" EVERY_BYTE ".endr\n"
                     "addi %[w], %[w], 8\n addi %[x], %[x], 16\n bne %[x], %[end], 1b\n"
                     : [w] "+r"(w), [x] "+r"(x), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [e] "+r"(e),
                       [f] "+r"(f), [g] "+r"(g), [h] "+r"(h)
                     : [end] "r"(end)
                     : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "memory");
    sums[0][0] = a, sums[0][1] = b, sums[0][2] = c, sums[0][3] = d;
    sums[1][0] = e, sums[1][1] = f, sums[1][2] = g, sums[1][3] = h;
    return w;
}

#define EVERY_PAIR                                                                                              \
    ".irp j, 0, 1, 2, 3, 4, 5, 6, 7\n .if \\j < 16 / %c[bits]\n"                                                \
    "lw t5, (8 * \\j)(%[x])\n lw t6, (8 * \\j + 4)(%[x])\n"                                                     \
    ".if \\j\n srli t3, t1, \\j * %c[bits]\n srli t4, t2, \\j * %c[bits]\n and t3, t3, %[mask]\n"                 \
    "and t4, t4, %[mask]\n .else\n and t3, t1, %[mask]\n and t4, t2, %[mask]\n .endif\n"                         \
    PRODUCT("t0", "t3", "t5") PRODUCT("t5", "t4", "t5") PRODUCT("t3", "t3", "t6") ADDED("a", "t0")               \
    PRODUCT("t4", "t4", "t6") ADDED("c", "t5") ADDED("b", "t3") ADDED("d", "t4")                                 \
    ".endif\n .endr\n"

/* Two channels by two pixels, of at most MOST_WORDS words, `unroll` words a step. */
INLINE void multiply_pairs(const struct conv s, const int unroll, const uint32_t **weights, const uint32_t **column,
                           const uint32_t *end, int32_t sums[4]) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    __asm__ volatile("1:\n .rept %c[unroll]\n lw t1, 0(%[w])\n lw t2, 4(%[w])\n" EVERY_PAIR
                     "addi %[w], %[w], 8\n addi %[x], %[x], 128 / %c[bits]\n .endr\n bne %[x], %[end], 1b\n"
                     : [w] "+r"(*weights), [x] "+r"(*column), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)
                     : [end] "r"(end), [bits] "i"(s.bits), [unroll] "i"(unroll), [mask] "r"(PAIR_MASK(s))
                     : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "memory");
    sums[0] += (int32_t)(a >> 16), sums[1] += (int32_t)(b >> 16);
    sums[2] += (int32_t)(c >> 16), sums[3] += (int32_t)(d >> 16);
}

/* Channel 0 of pixels 0 and 1 is added to sums[0][0] and [1], channel 1 to [2] and [3], pixels 2 and 3 to sums[1]. Returns
   what comes behind the weights. */
INLINE const uint32_t *block(const struct conv s, const uint32_t *weights, const uint32_t *column, const uint32_t *end,
                             int32_t sums[][4]) {
    if (!PAIRED(s)) return multiply_bytes(weights, column, end, sums);
    const int each = 32 / s.bits, unroll = s.bits == 4 && s.words > 1 ? 2 : 1, odd = s.words % unroll;
    const int most = MOST_WORDS(s) / unroll * unroll, group = s.words - odd < most ? s.words - odd : most;
    if (odd) multiply_pairs(s, 1, &weights, &column, column + each, sums[0]);
    for (int left = s.words - odd; left > 0; left -= group)
        multiply_pairs(s, unroll, &weights, &column, left < group ? end : column + group * each, sums[0]);
    return weights;
}
#endif
