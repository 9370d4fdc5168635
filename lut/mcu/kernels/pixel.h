/* conv2d, conv2d_add and linear with one output pixel: four channels at once, which share what is loaded of the patch.

   weights: for every four channels words of each in turn, then four biases and four multipliers. The column holds one
   pixel's halfword pairs; workspace otherwise as in conv.h. */
#ifndef PIXEL_H
#define PIXEL_H
#include "channels.h"

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

INLINE const uint32_t *four_channels(int bits, int steps, const uint32_t *weights, const uint32_t *column,
                                     const uint32_t *end, int32_t sums[4]) {
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

INLINE void conv_pixel(const struct conv s, const void *in, const void *in2, void *out, const void *weights,
                       const void *params, void *workspace) {
    const struct params p = *(const struct params *)params;
    const int column_words = s.words * 16 / s.bits;
    uint32_t *column = workspace, *end = column + column_words;
    uint8_t *line = (uint8_t *)end;
    for (int i = ROUND4(PATCH(s)) / 2; i < column_words; i++) column[i] = 0;
    for (int i = PATCH(s); i < ROUND4(PATCH(s)); i++) line[i] = 0;
    const uint32_t sum = stage(s, in, 0, 0, p.z_in, column, line);
    const int32_t start = s.bits < 8 ? -(int32_t)(sum << (s.bits - 1)) : 0;
    const uint32_t *w = weights;
    for (int channel = 0; channel < s.c_out; channel += 4, w += 8) {
        int32_t sums[4] = {start, start, start, start};
        w = four_channels(s.bits, s.unroll, w, column, end, sums);
        const uint8_t *second = s.residual ? (const uint8_t *)in2 + channel * s.in2_bits / 8 : 0;
        char *to = (char *)out + channel * s.out_bits / 8;
        if (s.c_out % 4 == 0 || channel + 4 <= s.c_out)
            store_channels(s, &p, sums, (const int32_t *)w, second, to, 4);
        else
            store_channels(s, &p, sums, (const int32_t *)w, second, to, s.c_out % 4);
    }
}
#endif
