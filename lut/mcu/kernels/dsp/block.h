/* The inner loop of convolutions: two output channels of two pixels at once, by SMLAD.

   Per word of weights of each channel two loads of words, and of the column as many as there are halfword pairs. Weights
   below 8 bits are stored with an offset of half their range, so that a mask alone unpacks two of them; pair j of a word
   is at bits j b and 16 + j b. `words` per step of the loop is a constant, so there is one branch for several words. */
#ifndef BLOCK_H
#define BLOCK_H
#include "kernel.h"

#define FOUR_OF_8(acc0, acc1, word)                                                   \
    "sxtb16 r10, " word "\n sxtb16 " word ", " word ", ror #8\n"                      \
    "smlad %[" acc0 "], r10, r6, %[" acc0 "]\n smlad %[" acc1 "], r10, r7, %[" acc1 "]\n" \
    "smlad %[" acc0 "], " word ", r8, %[" acc0 "]\n smlad %[" acc1 "], " word ", r9, %[" acc1 "]\n"

#define PAIR_BELOW_8(shift)                                                             \
    "ldmia %[x]!, {r6, r7}\n"                                                           \
    "and r8, %[mask], r4" shift "\n smlad %[a], r8, r6, %[a]\n smlad %[b], r8, r7, %[b]\n" \
    "and r8, %[mask], r5" shift "\n smlad %[c], r8, r6, %[c]\n smlad %[d], r8, r7, %[d]\n"

#define STEPS(body) "1:\n .rept %c[steps]\n ldmia %[w]!, {r4, r5}\n" body ".endr\n cmp %[x], %[end]\n bne 1b\n"
#define SUMS [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(weights), [x] "+r"(column)

/* Channel 0 of pixels 0 and 1 is added to sums[0] and [1], channel 1 to [2] and [3]. Returns the next two channels'
   weights. */
INLINE const uint32_t *block(int bits, int steps, const uint32_t *weights, const uint32_t *column, const uint32_t *end,
                             int32_t sums[4]) {
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    if (bits == 8) {
        __asm__ volatile(STEPS("ldmia %[x]!, {r6, r7, r8, r9}\n" FOUR_OF_8("a", "b", "r4") FOUR_OF_8("c", "d", "r5"))
                         : SUMS
                         : [end] "r"(end), [steps] "i"(steps)
                         : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "cc", "memory");
    } else if (bits == 4) {
        __asm__ volatile(STEPS(PAIR_BELOW_8("") PAIR_BELOW_8(", lsr #4") PAIR_BELOW_8(", lsr #8")
                                   PAIR_BELOW_8(", lsr #12"))
                         : SUMS
                         : [end] "r"(end), [steps] "i"(steps), [mask] "r"(0x000f000f)
                         : "r4", "r5", "r6", "r7", "r8", "cc", "memory");
    } else {
        __asm__ volatile(STEPS(PAIR_BELOW_8("") PAIR_BELOW_8(", lsr #2") PAIR_BELOW_8(", lsr #4")
                                   PAIR_BELOW_8(", lsr #6") PAIR_BELOW_8(", lsr #8") PAIR_BELOW_8(", lsr #10")
                                       PAIR_BELOW_8(", lsr #12") PAIR_BELOW_8(", lsr #14"))
                         : SUMS
                         : [end] "r"(end), [steps] "i"(steps), [mask] "r"(0x00030003)
                         : "r4", "r5", "r6", "r7", "r8", "cc", "memory");
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
    return weights;
}
#endif
