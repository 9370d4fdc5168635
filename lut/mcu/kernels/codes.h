/* Activations of 8, 4 or 2 bits: codes of a pixel lie side by side, the first in the lowest bits, and fill whole bytes; a
   pixel whose codes do not is padded. int16 scores count as 16 bits. */
#ifndef CODES_H
#define CODES_H
#include "kernel.h"

/* Bytes of a pixel of so many codes. */
#define PITCH(channels, bits) (((channels) * (bits) + 7) / 8)

INLINE uint32_t get_code(const uint8_t *pixel, int bits, int channel) {
    if (bits == 8) return pixel[channel];
    const unsigned at = (unsigned)channel * (unsigned)bits;
    return pixel[at / 8] >> at % 8 & ((1u << bits) - 1);
}

/* The others of its byte stay. */
INLINE void set_code(uint8_t *pixel, int bits, int channel, uint32_t code) {
    const unsigned at = (unsigned)channel * (unsigned)bits, mask = ((1u << bits) - 1) << at % 8;
    pixel[at / 8] = (uint8_t)((pixel[at / 8] & ~mask) | code << at % 8);
}

/* Writes codes one after another, a byte when it is full. */
struct writer {
    char *at;
    uint32_t pending;
    int filled;
};

INLINE void write_code(struct writer *to, int bits, int32_t code) {
    if (bits == 16) {
        store16(to->at, (uint16_t)code);
        to->at += 2;
    } else if (bits == 8) {
        *to->at++ = (char)code;
    } else {
        to->pending |= (uint32_t)code << to->filled;
        to->filled += bits;
        if (to->filled == 8) {
            *to->at++ = (char)to->pending;
            to->pending = 0, to->filled = 0;
        }
    }
}

INLINE void end_pixel(struct writer *to, int bits) {
    if (bits >= 8 || !to->filled) return;
    *to->at++ = (char)to->pending;
    to->pending = 0, to->filled = 0;
}

/* A word full of one code. */
INLINE uint32_t repeat_code(int32_t code, int bits) {
    return (uint32_t)code * (bits == 8 ? 0x01010101u : bits == 4 ? 0x11111111u : 0x55555555u);
}

/* Four channels of a pixel, or the last one to three, from a word that has a code in every byte. */
INLINE void store_codes(char *out, uint32_t word, int bits, int count) {
    if (bits == 4) {
        word |= word >> 4;
        word = (word & 0xff) | (word >> 8 & 0xff00);
    } else if (bits == 2) {
        word |= word >> 6;
        word |= word >> 12;
    }
    const int bytes = PITCH(count, bits);
    if (bytes == 4)
        store32(out, word);
    else if (bytes == 2)
        store16(out, (uint16_t)word);
    else
        for (int i = 0; i < bytes; i++) out[i] = (char)(word >> (8 * i));
}
#endif
