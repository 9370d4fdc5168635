"""How a convolution's weights are cut into words, and the sizes of a kernel's eight arguments, in bytes.

A pixel of activations fills whole bytes: ceil(c bits / 8) of them (kernels/codes.h).

A 32-bit word holds 32 / bits weights of one output channel. The inner loop (kernels/block.h) takes `unroll` words a
step; fewer steps save branches, and a last step that is not full multiplies by zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lut.kernels.requantize import PARAMS
from lut.kernels.signature import by_channel
from lut.spec import OpSpec

WORD_CYCLES = {8: 20, 4: 39, 2: 75}
"""Of one word of both channels, and two pixels, in the inner loop."""
MOST_UNROLLED = {8: 8, 4: 4, 2: 2}
"""Words; each is 56, 116 or 228 bytes of code."""
LOOP_CYCLES = 4
CONVOLUTIONS = ("conv2d", "conv2d_add", "linear")
GROUPED = {"conv": 2, "pixel": 4}
"""Output channels that the inner loop takes at once, by the layout of the weights."""


@dataclass(frozen=True)
class Words:
    """count: 32-bit words per output channel, a multiple of `unroll`; each: weights in one; patch: weights that are."""

    count: int
    unroll: int
    each: int
    patch: int


def words(spec: OpSpec) -> Words:
    """Of a convolution that is not depthwise, or of a linear layer."""
    patch, each = spec.kernel[0] * spec.kernel[1] * spec.c_in, 32 // spec.w_bits
    least = math.ceil(patch / each)

    def price(unroll: int) -> tuple[int, int]:
        steps = math.ceil(least / unroll)
        return steps * (unroll * WORD_CYCLES[spec.w_bits] + LOOP_CYCLES), unroll

    unroll = min(range(1, MOST_UNROLLED[spec.w_bits] + 1), key=price)
    return Words(math.ceil(least / unroll) * unroll, unroll, each, patch)


def layout(spec: OpSpec) -> str:
    """How the weights lie: `depthwise`, `pixel` (one output pixel), `conv` (any other), or `none`."""
    if spec.kind not in CONVOLUTIONS:
        return "none"
    return "depthwise" if spec.depthwise else "pixel" if spec.out_size() == (1, 1) else "conv"


def pitch(channels: int, bits: int) -> int:
    """Bytes of a pixel of codes; int16 scores have 16 bits."""
    return -(-channels * bits // 8)


def spread_bits(spec: OpSpec) -> int:
    """Of the codes in the words that a patch is spread from: the input's, or 8 where its pixels are no whole words and
    are laid out as bytes first."""
    bits = spec.in_bits[0]
    return 8 if spec.c_in * bits % 32 else bits


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def workspace_bytes(spec: OpSpec) -> int:
    match layout(spec):
        case "conv" | "pixel":
            form = words(spec)
            line = _round_up(form.patch, 4) if spec.c_in * spec.in_bits[0] % 32 else 0
            return form.count * form.each * (4 if layout(spec) == "conv" else 2) + line
        case "depthwise":
            taps, row = spec.kernel[0] * spec.kernel[1], _round_up(spec.c_out, 4)
            return (taps * row if spec.w_bits < 8 else 0) + row + 4 * taps
    return 0


def weight_bytes(spec: OpSpec) -> int:
    match layout(spec):
        case "conv" | "pixel":
            return _round_up(spec.c_out, GROUPED[layout(spec)]) * (words(spec).count + 2) * 4
        case "depthwise":
            taps = spec.kernel[0] * spec.kernel[1]
            return _round_up(taps * _round_up(spec.c_out, 4) // 4, 8 // spec.w_bits) * spec.w_bits // 2
    return {"input": spec.c_in * 256, "unary": 256, "resample": 4 * spec.c_out}.get(spec.kind, 0)


def sizes(spec: OpSpec) -> dict[str, int]:
    """Bytes by the name of the argument, 0 where it is NULL. Biases and multipliers lie among a convolution's weights;
    a depthwise one has both in `bias`."""
    rows, cols = spec.out_size()
    pixels = spec.height * spec.width
    others = {"conv2d_add": rows * cols, "add": pixels, "mul": 1 if by_channel(spec) else pixels}
    return {
        "in": pixels * pitch(spec.c_in, spec.in_bits[0]),
        "in2": others[spec.kind] * pitch(spec.c_out, spec.in_bits[1]) if spec.kind in others else 0,
        "out": rows * cols * pitch(spec.c_out, spec.out_bits),
        "weights": weight_bytes(spec),
        "bias": 8 * _round_up(spec.c_out, 4) if layout(spec) == "depthwise" else 0,
        "mult": 0,
        "params": 4 * len(PARAMS),
        "workspace": workspace_bytes(spec),
    }
