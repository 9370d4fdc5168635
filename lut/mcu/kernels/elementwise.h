/* The first tensor, sums and products of two tensors, functions by table, and pools. */
#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H
#include "stage.h"

#define WHOLE(channels, bits) ((channels) * (bits) % 8 == 0)

/* weights: 256 codes per channel */
INLINE void image(const struct conv s, const uint8_t *in, char *out, const uint8_t *weights) {
    struct writer to = {out, 0, 0};
    for (int i = s.height * s.width; i > 0; i--, in += s.c_in) {
        for (int c = 0; c < s.c_in; c++) write_code(&to, s.out_bits, weights[c * 256 + in[c]]);
        end_pixel(&to, s.out_bits);
    }
}

INLINE void add(const struct conv s, const uint8_t *in, const uint8_t *in2, char *out, const struct params *params) {
    const struct params p = *params;
    /* without padding all pixels are one */
    const int whole = WHOLE(s.c_in, s.in_bits) && WHOLE(s.c_in, s.in2_bits) && WHOLE(s.c_in, s.out_bits);
    const int count = s.c_in * (whole ? s.height * s.width : 1);
    struct writer to = {out, 0, 0};
    for (int pixel = whole ? 1 : s.height * s.width; pixel > 0; pixel--) {
        for (int c = 0; c < count; c++) {
            const int32_t a = ((int32_t)get_code(in, s.in_bits, c) - p.z_in) << p.shift;
            const int32_t b = ((int32_t)get_code(in2, s.in2_bits, c) - p.z_res) << p.res_shift;
            write_code(&to, s.out_bits, clamp(rescale_sum(a, p.mult, b, p.res_mult, p.z_out), p.low, p.high));
        }
        end_pixel(&to, s.out_bits);
        in += PITCH(s.c_in, s.in_bits), in2 += PITCH(s.c_in, s.in2_bits);
    }
}

INLINE void multiply_tensors(const struct conv s, const uint8_t *in, const uint8_t *in2, char *out,
                             const struct params *params) {
    const struct params p = *params;
    struct writer to = {out, 0, 0};
    for (int pixel = s.height * s.width; pixel > 0; pixel--, in += PITCH(s.c_in, s.in_bits)) {
        for (int c = 0; c < s.c_in; c++) {
            const int32_t a = (int32_t)get_code(in, s.in_bits, c) - p.z_in;
            const int32_t b = (int32_t)get_code(in2, s.in2_bits, c) - p.z_res;
            const int32_t code = rescale((int32_t)((uint32_t)(a * b) << p.shift), p.mult, p.z_out);
            write_code(&to, s.out_bits, clamp(code, p.low, p.high));
        }
        end_pixel(&to, s.out_bits);
        if (!s.by_channel) in2 += PITCH(s.c_in, s.in2_bits);
    }
}

/* weights: a code for every code */
INLINE void unary(const struct conv s, const uint8_t *in, char *out, const uint8_t *weights) {
    const int whole = WHOLE(s.c_in, s.in_bits) && WHOLE(s.c_in, s.out_bits);
    const int count = s.c_in * (whole ? s.height * s.width : 1);
    struct writer to = {out, 0, 0};
    for (int pixel = whole ? 1 : s.height * s.width; pixel > 0; pixel--, in += PITCH(s.c_in, s.in_bits)) {
        for (int c = 0; c < count; c++) write_code(&to, s.out_bits, weights[get_code(in, s.in_bits, c)]);
        end_pixel(&to, s.out_bits);
    }
}

INLINE void avg_pool(const struct conv s, const uint8_t *in, char *out, const struct params *params) {
    const struct params p = *params;
    const int32_t zeros = s.kernel_h * s.kernel_w * p.z_in;
    const int pitch = PITCH(s.c_in, s.in_bits);
    struct writer to = {out, 0, 0};
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++) {
            const uint8_t *from = in + (y * s.stride_h * s.width + x * s.stride_w) * pitch;
            for (int c = 0; c < s.c_in; c++) {
                int32_t sum = -zeros;
                for (int ky = 0; ky < s.kernel_h; ky++)
                    for (int kx = 0; kx < s.kernel_w; kx++)
                        sum += (int32_t)get_code(from + (ky * s.width + kx) * pitch, s.in_bits, c);
                const int32_t code = rescale((int32_t)((uint32_t)sum << p.shift), p.mult, p.z_out);
                write_code(&to, s.out_bits, clamp(code, p.low, p.high));
            }
            end_pixel(&to, s.out_bits);
        }
}

/* Codes are unsigned, so 0 never wins over a real one. */
INLINE void max_pool(const struct conv s, const uint8_t *in, char *out) {
    const int pitch = PITCH(s.c_in, s.in_bits);
    struct writer to = {out, 0, 0};
    for (int y = 0; y < s.rows; y++)
        for (int x = 0; x < s.cols; x++) {
            for (int c = 0; c < s.c_in; c++) {
                const int row = y * s.stride_h - s.top, col = x * s.stride_w - s.left;
                uint32_t most = 0;
                for (int ky = 0; ky < s.kernel_h; ky++)
                    for (int kx = 0; kx < s.kernel_w; kx++) {
                        const int at_y = row + ky * s.dilation_h, at_x = col + kx * s.dilation_w;
                        if ((unsigned)at_y >= (unsigned)s.height || (unsigned)at_x >= (unsigned)s.width) continue;
                        const uint32_t code = get_code(in + (at_y * s.width + at_x) * pitch, s.in_bits, c);
                        most = larger(code, most);
                    }
                write_code(&to, s.out_bits, (int32_t)most);
            }
            end_pixel(&to, s.out_bits);
        }
}
#endif
