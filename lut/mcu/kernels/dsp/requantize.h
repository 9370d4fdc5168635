/* Four sums become four bytes of a word: z + R((acc << l) + bias), saturated, by SMMLAR and USAT. */
#ifndef REQUANTIZE_H
#define REQUANTIZE_H
#include "kernel.h"

/* Four bytes at once; the bounds repeat theirs in every byte. */
INLINE uint32_t clamp_bytes(uint32_t codes, uint32_t low, uint32_t high) {
    codes -= saturating_subtract(codes, high);
    return codes + saturating_subtract(low, codes);
}

/* Codes become bytes in two steps: each saturates to one, and a word of four is held within the bounds. */
INLINE uint32_t code_byte(const struct params *p, int32_t code) {
    (void)p;
    return saturate8(code);
}
INLINE uint32_t bound_bytes(const struct params *p, uint32_t word) {
    return clamp_bytes(word, repeat(p->low), repeat(p->high));
}

#define BIASED(sum, bias) "mla %[" sum "], %[" sum "], %[power], " bias "\n"
#define SCALED(sum, mult) "smmlar %[" sum "], %[" sum "], " mult ", %[z]\n usat %[" sum "], #8, %[" sum "]\n"
#define JOINED(second, third, fourth)                                                                        \
    "orr %[a], %[a], %[" second "], lsl #8\n orr %[a], %[a], %[" third "], lsl #16\n orr %[a], %[a], %[" fourth \
    "], lsl #24\n"
#define BOUNDED "uqsub8 r4, %[a], %[high]\n sub %[a], %[a], r4\n uqsub8 r4, %[low], %[a]\n add %[a], %[a], r4\n"
#define OPERANDS(...)                                                                        \
    : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [s] "+r"(*scale)              \
    : [power] "r"(1u << p->shift), [z] "r"(p->z_out), ##__VA_ARGS__                     \
    : "r4", "r5", "r6", "r7", "memory"

/* Two channels of two pixels: sums of channel 0, then of channel 1; scale: two biases, two multipliers, and then what
   comes next. The word holds pixel 0's channels, then pixel 1's. */
INLINE uint32_t requantize_block(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    __asm__ volatile("ldmia %[s]!, {r4, r5, r6, r7}\n" BIASED("a", "r4") BIASED("b", "r4") BIASED("c", "r5")
                         BIASED("d", "r5") SCALED("a", "r6") SCALED("b", "r6") SCALED("c", "r7") SCALED("d", "r7")
                             JOINED("c", "b", "d") BOUNDED
                         OPERANDS([low] "r"(repeat(p->low)), [high] "r"(repeat(p->high))));
    return (uint32_t)a;
}

/* Four channels of a pixel; scale: four biases, four multipliers, and then what comes next. */
INLINE uint32_t requantize_channels(const struct params *p, const int32_t sums[4], const int32_t **scale) {
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    __asm__ volatile("ldmia %[s]!, {r4, r5, r6, r7}\n" BIASED("a", "r4") BIASED("b", "r5") BIASED("c", "r6")
                         BIASED("d", "r7") "ldmia %[s]!, {r4, r5, r6, r7}\n" SCALED("a", "r4") SCALED("b", "r5")
                             SCALED("c", "r6") SCALED("d", "r7") JOINED("b", "c", "d") OPERANDS());
    return bound_bytes(p, (uint32_t)a);
}
#endif
