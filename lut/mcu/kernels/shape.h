/* What a kernel is compiled for. */
#ifndef SHAPE_H
#define SHAPE_H
#include "kernel.h"

struct conv {
    int height, width, c_in, c_out, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left;
    int rows, cols;   /* of the output */
    int bits, words;  /* of a weight; 32-bit words of weights per output channel */
    int unroll;       /* words per step of the inner loop */
    int pixels;       /* that share a column: 2, or 1 */
    int scores;       /* whether the output is int16 */
    int groups, residual; /* residual: whether a second input is added */
    int by_channel;   /* whether a product's second input is one value per channel */
    int in_bits, in2_bits, out_bits; /* of a stored code */
};

#define PATCH(s) ((s).kernel_h * (s).kernel_w * (s).c_in)
#define ROUND4(n) (((n) + 3) / 4 * 4)
#define LINED(s) ((s).c_in * (s).in_bits % 32 != 0)
#endif
