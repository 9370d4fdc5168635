/* conv2d, conv2d_add and linear, by blocks of sums of sixteen products. */
#ifndef CONV_H
#define CONV_H
#include "block.h"

#include "blocks.h"
#endif
