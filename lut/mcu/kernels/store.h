/* Where the codes of convolutions go: two channels of two pixels at once. */
#ifndef STORE_H
#define STORE_H
#include "codes.h"
#include "requantize.h"
#include "shape.h"

/* Where two channels of two pixels go. out: of the first pixel's channel, in2: with 8 bits too, below of its first one;
   next, next2: bytes to the second pixel. pending: codes of a byte that is not full. */
struct target {
    const uint8_t *in2;
    char *out;
    int next, next2;
    uint32_t pending;
};

/* Codes of two channels of both pixels; word: a byte each, the second pixel's in the upper half. */
INLINE void put_codes(const struct conv s, struct target *to, int channel, uint32_t word, int count) {
    char *second = to->out + to->next;
    if (s.out_bits == 8) {
        if (count == 2 && s.c_out % 2 == 0) {
            store16(second, (uint16_t)(word >> 16));
            to->out = put_half(to->out, word);
        } else {
            for (int i = 0; i < count; i++) to->out[i] = (char)(word >> (8 * i)), second[i] = (char)(word >> (8 * i + 16));
            to->out += 2;
        }
        return;
    }
    word |= word >> (8 - s.out_bits);
    if (s.out_bits == 2) {
        word &= 0x000f000f;
        if (channel & 2) {
            word = to->pending | word << 4;
        } else if (channel + 2 < s.c_out) {
            to->pending = word;
            return;
        }
    }
    *to->out++ = (char)word;
    *second = (char)(word >> 16);
}

INLINE int32_t residual_code(const struct conv s, const struct target *to, int pixel, int channel, int i) {
    const uint8_t *from = to->in2 + pixel * to->next2;
    return s.in2_bits == 8 ? from[i] : (int32_t)get_code(from, s.in2_bits, channel + i);
}

/* `count` channels of two pixels, from their sums (of channel 0, then of channel 1) and scale: two biases, two
   multipliers. Returns what comes behind the scale. */
INLINE const int32_t *store_block(const struct conv s, const struct params *p, const int32_t sums[4],
                                  const int32_t scale[4], struct target *to, int channel, int count) {
    int32_t codes[4] = {0, 0, 0, 0};
    if (count == 2 && s.c_out % 2 == 0 && !s.scores && !s.residual) {
        const uint32_t word = requantize_block(p, sums, &scale);
        put_codes(s, to, channel, word, 2);
        return scale;
    }
#pragma GCC unroll 2
    for (int i = 0; i < count; i++) {
        const int32_t bias = scale[i], mult = scale[2 + i];
#pragma GCC unroll 2
        for (int pixel = 0; pixel < 2; pixel++) {
            const int32_t residual = s.residual ? residual_code(s, to, pixel, channel, i) : 0;
            codes[2 * i + pixel] = finish(p, sums[2 * i + pixel], bias, mult, s.residual, residual);
        }
    }
    if (s.residual && s.in2_bits == 8) to->in2 += 2;
    if (s.scores) {
        for (int i = 0; i < count; i++, to->out += 2) {
            store16(to->out, (uint16_t)clamp(codes[2 * i], p->low, p->high));
            store16(to->out + to->next, (uint16_t)clamp(codes[2 * i + 1], p->low, p->high));
        }
        return scale + 4;
    }
    uint32_t word = code_byte(p, codes[0]) | code_byte(p, codes[1]) << 16;
    if (count == 2) word |= code_byte(p, codes[2]) << 8 | code_byte(p, codes[3]) << 24;
    put_codes(s, to, channel, bound_bytes(p, word), count);
    return scale + 4;
}
#endif
