/* conv2d, conv2d_add and linear, by blocks of 32-bit multiplications. */
#ifndef CONV_H
#define CONV_H
#include "block.h"

#include "blocks.h"
#endif
