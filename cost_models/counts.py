"""What can be counted without a device, for an operator with K = (c_in / groups) k_h k_w weights per output channel:

    macs    = batch h_out w_out c_out K
    params  = c_out K + c_out                                    weights and biases
    bitops  = macs w_bits in_bits                                (DNAS, Wu 2018; HAWQ-V3)
    weights = ceil(c_out K w_bits / 8) + 8 c_out  bytes          int32 bias and int32 multiplier per output channel
            = 4 c_out K + 4 c_out                 bytes          when w_bits is 32: float32 weights and biases

A layer norm has 2 c_out parameters in float32 and no MACs; other operators without weights count 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lut.errors import InputError
from lut.spec import FLOAT_BITS, OpSpec

from .base import CostModel

WEIGHTED = frozenset({"conv2d", "conv2d_add", "linear"})
WEIGHTLESS = frozenset({"input", "add", "mul", "avg_pool", "max_pool", "resample", "concat", "split", "shuffle", "pad",
                        "unary", "quantize", "dequantize", "softmax", "layer_norm"})  # fmt: skip


def weight_count(op: OpSpec) -> int:
    """Number of weights; InputError for a kind that cannot be counted (a block of an imported table)."""
    if op.kind in WEIGHTED:
        return op.c_out * (op.c_in // op.groups) * op.kernel[0] * op.kernel[1]
    if op.kind in WEIGHTLESS:
        return 0
    known = ", ".join(sorted(WEIGHTED | WEIGHTLESS))
    raise InputError(f"kind: {op.kind!r} cannot be counted; known are {known}; budget its latency instead")


def macs(op: OpSpec) -> int:
    rows, cols = op.out_size()
    return op.batch * rows * cols * weight_count(op)


def params(op: OpSpec) -> int:
    count = weight_count(op)
    return count + op.c_out if count else 2 * op.c_out if op.kind == "layer_norm" else 0


def bitops(op: OpSpec) -> int:
    return macs(op) * op.w_bits * op.in_bits[0]


def weight_bytes(op: OpSpec) -> int:
    count = weight_count(op)
    if not count:
        return 4 * params(op)
    if op.w_bits == FLOAT_BITS:
        return 4 * (count + op.c_out)
    return -(-count * op.w_bits // 8) + 8 * op.c_out


@dataclass
class Count(CostModel):
    """A CostModel from one of the functions above."""

    name: str
    unit: str
    count: Callable[[OpSpec], int]
    ignores: frozenset[str] = frozenset()

    def __call__(self, op: OpSpec) -> float:
        return float(self.count(op))


_SHAPE_ONLY = frozenset({"in_bits", "out_bits", "w_bits"})
COUNTS = {
    "macs": Count("macs", "", macs, _SHAPE_ONLY),
    "params": Count("params", "", params, _SHAPE_ONLY),
    "bitops": Count("bitops", "", bitops, frozenset({"out_bits"})),
    "weights": Count("weights", "B", weight_bytes, frozenset({"in_bits", "out_bits"})),
}
