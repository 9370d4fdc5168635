/* The epilogue of kernels that finish channels of one pixel. */
#ifndef CHANNELS_H
#define CHANNELS_H
#include "requantize.h"
#include "stage.h"

/* Four channels, or the last one to three, from their sums. */
INLINE void store_channels(const struct conv s, const struct params *p, const int32_t sums[4], const int32_t *scale,
                           const uint8_t *in2, char *out, int count) {
    if (count == 4 && !s.scores && !s.residual) {
        store_codes(out, requantize_channels(p, sums, &scale), s.out_bits, 4);
        return;
    }
    int32_t codes[4];
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        const int32_t residual = s.residual ? (int32_t)get_code(in2, s.in2_bits, i) : 0;
        codes[i] = finish(p, sums[i], scale[i], scale[4 + i], s.residual, residual);
    }
    if (s.scores) {
        for (int i = 0; i < count; i++) store16(out + 2 * i, (uint16_t)clamp(codes[i], p->low, p->high));
        return;
    }
    uint32_t word = 0;
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) word |= code_byte(p, codes[i]) << (8 * i);
    store_codes(out, bound_bytes(p, word), s.out_bits, count);
}
#endif
