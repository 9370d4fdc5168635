/* The first tensor, sums and products of two tensors, functions by table, and pools. */
#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H
#include "stage.h"

INLINE void put(void *out, int i, int32_t code, int scores) {
    if (scores)
        ((int16_t *)out)[i] = (int16_t)code;
    else
        ((uint8_t *)out)[i] = (uint8_t)code;
}

/* weights: 256 codes per channel */
INLINE void image(const struct conv s, const uint8_t *in, uint8_t *out, const uint8_t *weights) {
    for (int i = s.height * s.width; i > 0; i--, in += s.c_in, out += s.c_in)
        for (int c = 0; c < s.c_in; c++) out[c] = weights[c * 256 + in[c]];
}

INLINE void add(const struct conv s, const uint8_t *in, const uint8_t *in2, void *out, const struct params *params) {
    const struct params p = *params;
    for (int i = 0; i < s.height * s.width * s.c_in; i++) {
        const int32_t a = (in[i] - p.z_in) << p.shift, b = (in2[i] - p.z_res) << p.res_shift;
        put(out, i, clamp(rescale_sum(a, p.mult, b, p.res_mult, p.z_out), p.low, p.high), s.scores);
    }
}

INLINE void multiply_tensors(const struct conv s, const uint8_t *in, const uint8_t *in2, uint8_t *out,
                             const struct params *params) {
    const struct params p = *params;
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += s.c_in, out += s.c_in) {
        for (int c = 0; c < s.c_in; c++) {
            const int32_t product = (in[c] - p.z_in) * (in2[c] - p.z_res);
            const int32_t code = rescale((int32_t)((uint32_t)product << p.shift), p.mult, p.z_out);
            out[c] = (uint8_t)clamp(code, p.low, p.high);
        }
        if (!s.by_channel) in2 += s.c_in;
    }
}

/* weights: a code for every code */
INLINE void unary(const struct conv s, const uint8_t *in, uint8_t *out, const uint8_t *weights) {
    for (int i = 0; i < s.height * s.width * s.c_in; i++) out[i] = weights[in[i]];
}

INLINE void avg_pool(const struct conv s, const uint8_t *in, void *out, const struct params *params) {
    const struct params p = *params;
    const int32_t zeros = s.kernel_h * s.kernel_w * p.z_in;
    int i = 0;
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++)
            for (int c = 0; c < s.c_in; c++) {
                const uint8_t *from = in + (y * s.stride_h * s.width + x * s.stride_w) * s.c_in + c;
                int32_t sum = -zeros;
                for (int ky = 0; ky < s.kernel_h; ky++)
                    for (int kx = 0; kx < s.kernel_w; kx++) sum += from[(ky * s.width + kx) * s.c_in];
                const int32_t code = rescale((int32_t)((uint32_t)sum << p.shift), p.mult, p.z_out);
                put(out, i++, clamp(code, p.low, p.high), s.scores);
            }
}

/* Codes are unsigned, so 0 never wins over a real one. */
INLINE void max_pool(const struct conv s, const uint8_t *in, uint8_t *out) {
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++)
            for (int c = 0; c < s.c_in; c++) {
                const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left;
                uint8_t most = 0;
                for (int ky = 0; ky < s.kernel_h; ky++)
                    for (int kx = 0; kx < s.kernel_w; kx++) {
                        const int at_y = row + ky * s.dilation_h, at_x = col + kx * s.dilation_w;
                        if ((unsigned)at_y >= (unsigned)s.height || (unsigned)at_x >= (unsigned)s.width) continue;
                        const uint8_t code = in[(at_y * s.width + at_x) * s.c_in + c];
                        most = code > most ? code : most;
                    }
                *out++ = most;
            }
}
#endif
