/* Sixteen products of bytes in an instruction: VMLADAVA.U8 (Arm's vector extension for the M profile, Helium). Both
   operands are unsigned, so signed weights get an offset, which the sum of the patch takes out. */
#ifndef DOT_H
#define DOT_H
#include "shape.h"

#include <arm_mve.h>

/* Whether weights have an offset when they are multiplied. */
#define OFFSET(s) ((void)(s), 1)
/* Words of a column that a word of weights meets. */
#define PARTS(s) (8 / (s).bits)

INLINE uint32_t sum_bytes(uint32_t word, uint32_t sum) { return add_bytes(word, sum); }

/* sum + the sixteen products */
INLINE uint32_t dot(uint32_t sum, uint32x4_t codes, uint32x4_t weights) {
    return vmladavaq_u8(sum, vreinterpretq_u8_u32(codes), vreinterpretq_u8_u32(weights));
}

/* For four words of a column: how far apart their words of weights are, and the shifts that bring out the parts that they
   meet. apart: words from one word of a channel to its next. */
struct parts {
    uint32x4_t place;
    int32x4_t shift;
};

INLINE struct parts parts_of(const struct conv s, uint32_t apart) {
    const uint32x4_t lane = vidupq_n_u32(0, 1);
    const uint32x4_t part = vandq_u32(lane, vdupq_n_u32(PARTS(s) - 1));
    return (struct parts){vmulq_n_u32(vshlq_r_u32(lane, -__builtin_ctz(PARTS(s))), apart),
                          vnegq_s32(vmulq_n_s32(vreinterpretq_s32_u32(part), s.bits))};
}

/* Words of weights as they are stored, to unsigned bytes. */
INLINE uint32x4_t unsigned_bytes(const struct conv s, const struct parts to, uint32x4_t stored) {
    if (s.bits == 8) return veorq_u32(stored, vdupq_n_u32(0x80808080));
    return vandq_u32(vshlq_u32(stored, to.shift), vdupq_n_u32(s.bits == 4 ? 0x0f0f0f0f : 0x03030303));
}

/* A channel's weights that meet four words of a column; its first word is at `from`. */
INLINE uint32x4_t weights_of(const struct conv s, const struct parts to, const uint32_t *from) {
    return unsigned_bytes(s, to, vldrwq_gather_shifted_offset_u32(from, to.place));
}

INLINE uint32x4_t last_weights(const struct conv s, const struct parts to, const uint32_t *from, mve_pred16_t left) {
    const uint32x4_t stored = vldrwq_gather_shifted_offset_z_u32(from, to.place, left);
    return vpselq_u32(unsigned_bytes(s, to, stored), vdupq_n_u32(0), left);
}
#endif
