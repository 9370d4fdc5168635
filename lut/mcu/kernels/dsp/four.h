/* The inner loop of one output pixel: four channels at once, by SMLAD. */
#ifndef FOUR_H
#define FOUR_H
#include "shape.h"

#define CHANNEL_8(acc, word)                                                                  \
    "sxtb16 r10, " word "\n smlad %[" acc "], r10, r8, %[" acc "]\n"                          \
    "sxtb16 r10, " word ", ror #8\n smlad %[" acc "], r10, r9, %[" acc "]\n"
#define CHANNEL_BELOW_8(acc, word, shift) \
    "and r9, %[mask], " word shift "\n smlad %[" acc "], r9, r8, %[" acc "]\n"
#define CHANNELS_BELOW_8(shift)                                                                                   \
    "ldr r8, [%[x]], #4\n" CHANNEL_BELOW_8("a", "r4", shift) CHANNEL_BELOW_8("b", "r5", shift)                    \
        CHANNEL_BELOW_8("c", "r6", shift) CHANNEL_BELOW_8("d", "r7", shift)
#define WORDS(body) "1:\n .rept %c[steps]\n ldmia %[w]!, {r4, r5, r6, r7}\n" body ".endr\n cmp %[x], %[end]\n bne 1b\n"
#define FOUR_SUMS                                                                                        \
    [a] "+r"(sums[0]), [b] "+r"(sums[1]), [c] "+r"(sums[2]), [d] "+r"(sums[3]), [w] "+r"(weights), [x] "+r"(column)

INLINE const uint32_t *four_channels(const struct conv s, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
    const int bits = s.bits, steps = s.unroll;
    if (bits == 8)
        __asm__ volatile(WORDS("ldmia %[x]!, {r8, r9}\n" CHANNEL_8("a", "r4") CHANNEL_8("b", "r5")
                                   CHANNEL_8("c", "r6") CHANNEL_8("d", "r7"))
                         : FOUR_SUMS
                         : [end] "r"(end), [steps] "i"(steps)
                         : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "cc", "memory");
    else if (bits == 4)
        __asm__ volatile(WORDS(CHANNELS_BELOW_8("") CHANNELS_BELOW_8(", lsr #4") CHANNELS_BELOW_8(", lsr #8")
                                   CHANNELS_BELOW_8(", lsr #12"))
                         : FOUR_SUMS
                         : [end] "r"(end), [steps] "i"(steps), [mask] "r"(0x000f000f)
                         : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    else
        __asm__ volatile(WORDS(CHANNELS_BELOW_8("") CHANNELS_BELOW_8(", lsr #2") CHANNELS_BELOW_8(", lsr #4")
                                   CHANNELS_BELOW_8(", lsr #6") CHANNELS_BELOW_8(", lsr #8")
                                       CHANNELS_BELOW_8(", lsr #10") CHANNELS_BELOW_8(", lsr #12")
                                           CHANNELS_BELOW_8(", lsr #14"))
                         : FOUR_SUMS
                         : [end] "r"(end), [steps] "i"(steps), [mask] "r"(0x00030003)
                         : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    return weights;
}
#endif
