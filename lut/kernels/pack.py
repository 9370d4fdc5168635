"""A lowered operator's constants in the layout that its kernel reads, and the sizes of all of a kernel's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lut.spec import OpSpec

from . import conv, depthwise, depthwise_dot
from .intrinsics import dot
from .isa import LANES
from .lookup import ENTRIES, pack_table
from .requantize import FLOAT_PARAMS, PARAMS
from .signature import Arg, by_channel, in_dtype, out_dtype

DEPTHWISE_TAPS = 64
"""Depthwise kernels are unrolled over their taps; larger ones go the way of grouped convolutions."""


class Constants(Protocol):
    """What a lowered operator carries; `deploy.program.Op` is one (its docstring gives shapes and types)."""

    @property
    def spec(self) -> OpSpec: ...
    @property
    def weights(self) -> np.ndarray | None: ...
    @property
    def bias(self) -> np.ndarray | None: ...
    @property
    def mult(self) -> np.ndarray | None: ...
    @property
    def shift(self) -> int: ...
    @property
    def res_mult(self) -> int: ...
    @property
    def res_shift(self) -> int: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def gather(self) -> np.ndarray | None: ...
    @property
    def table(self) -> np.ndarray | None: ...
    @property
    def eps(self) -> float: ...


def layout(spec: OpSpec) -> str:
    """`depthwise`, `conv` or `none`: how the weights are laid out."""
    if spec.kind not in ("conv2d", "conv2d_add", "linear"):
        return "none"
    return "depthwise" if spec.depthwise and spec.kernel[0] * spec.kernel[1] <= DEPTHWISE_TAPS else "conv"


def _pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    if layout(spec) == "none":
        return weights.astype(np.float32).reshape(-1)
    if layout(spec) == "conv":
        return conv.pack_weights(spec, weights, isa)
    if depthwise_dot.dotted(spec, isa):
        return depthwise_dot.pack_weights(spec, weights, isa)
    return depthwise.pack_weights(spec, weights, isa)


def _pack_channels(spec: OpSpec, values: np.ndarray) -> np.ndarray:
    match layout(spec):
        case "depthwise":
            return np.pad(values, (0, -len(values) % LANES))
        case "conv":
            return conv.pack_channels(spec, values)
    return values


def _bias(op: Constants, isa: str) -> np.ndarray:
    """The bias on top of staged inputs: ((sum (x - f) w) << l) + bias' = ((sum x w) << l) + bias, modulo 2^32."""
    assert op.bias is not None
    spec = op.spec
    staged = layout(spec) == "conv" or (layout(spec) == "depthwise" and depthwise_dot.dotted(spec, isa))
    if not staged or op.weights is None or not (offset := dot(isa, spec.w_bits, spec.in_bits[0]).offset):
        return op.bias
    sums = op.weights.reshape(op.spec.c_out, -1).sum(1, dtype=np.int64)
    return (op.bias + ((offset * sums) << op.shift)).astype(np.uint32).view(np.int32)


def pack_constants(op: Constants, isa: str, in_zeros: Sequence[int], out_zero: int) -> dict[str, np.ndarray]:
    """Flat arrays by argument name (`weights`, `bias`, `mult`, `params`); only those that the kernel reads.

    in_zeros: the zero point of each input, out_zero: the output's (all ignored in float32).
    """
    spec, arrays = op.spec, {}
    if op.weights is not None:
        arrays["weights"] = _pack_weights(spec, op.weights, isa)
    elif op.gather is not None:
        arrays["weights"] = op.gather.astype(np.int32).reshape(-1)
    elif op.table is not None:
        whole = np.ascontiguousarray(op.table).reshape(-1)
        arrays["weights"] = whole if spec.kind == "input" else pack_table(whole, isa)
    number = np.float32 if spec.is_float else np.int32
    if op.bias is not None:
        arrays["bias"] = _pack_channels(spec, _bias(op, isa).astype(number))
    if spec.is_float:
        arrays["params"] = np.array([op.low, op.high, op.eps], np.float32)
        return arrays
    weighted = layout(spec) != "none"
    if weighted and op.mult is not None:
        arrays["mult"] = _pack_channels(spec, op.mult.astype(np.int32))
    arrays["params"] = parameters(op, weighted, in_zeros, out_zero)
    return arrays


def parameters(op: Constants, weighted: bool, in_zeros: Sequence[int], out_zero: int) -> np.ndarray:
    """The run-time values of an integer kernel, int32 in the order of PARAMS; weighted: multipliers lie elsewhere."""
    values = {
        "low": op.low,
        "high": op.high,
        "z_out": out_zero,
        "shift": op.shift,
        "z_in": in_zeros[0],
        "z_res": in_zeros[-1],
        "res_mult": op.res_mult,
        "res_shift": op.res_shift,
        "mult": 0 if op.mult is None or weighted else int(op.mult.reshape(-1)[0]),
    }
    return np.array([values[name] for name in PARAMS], np.int32)


def _second(spec: OpSpec) -> int:
    """Elements of the second input."""
    rows, cols = spec.out_size()
    if spec.kind not in ("add", "mul", "conv2d_add"):
        return 0
    return spec.c_out if by_channel(spec) else rows * cols * spec.c_out


def _tables(spec: OpSpec) -> tuple[str, int]:
    """(type, elements) of `weights` where an operator without a weight layout has some."""
    match spec.kind:
        case "input":
            return out_dtype(spec), spec.c_in * ENTRIES
        case "unary" if not spec.is_float:
            return "uint8", ENTRIES
        case "dequantize":
            return "float32", ENTRIES
        case "quantize":
            return "float32", 1
        case "layer_norm":
            return "float32", spec.c_out
        case "resample":
            return "int32", spec.c_out
    return "uint8", 0


def arguments(spec: OpSpec, isa: str, workspace: int) -> tuple[Arg, ...]:
    """The kernel's pointers in order; `weights` counts stored elements, sub-byte ones packed."""
    rows, cols = spec.out_size()
    number: Any = "float32" if spec.is_float else "int32"
    pixels = spec.height * spec.width * spec.c_in
    sizes: dict[str, tuple[str, int]] = {
        "in": (in_dtype(spec), pixels),
        "in2": (in_dtype(spec), _second(spec)),
        "out": (out_dtype(spec), rows * cols * spec.c_out),
        "weights": _tables(spec),
        "bias": (number, spec.c_out if spec.kind == "layer_norm" else 0),
        "mult": ("int32", 0),
        "params": (number, len(FLOAT_PARAMS) if spec.is_float else len(PARAMS)),
        "workspace": ("uint8", workspace),
    }
    if layout(spec) != "none":
        dtype = dot(isa, spec.w_bits, spec.in_bits[0]).weight_dtype
        shape = (spec.c_out, spec.c_in // spec.groups, *spec.kernel)
        zeros = np.zeros(shape, np.float32 if spec.is_float else np.int8)
        sizes["weights"] = (dtype, _pack_weights(spec, zeros, isa).size)
        channels = _pack_channels(spec, np.zeros(spec.c_out, np.int32)).size
        sizes["bias"], sizes["mult"] = (number, channels), ("int32", 0 if spec.is_float else channels)
    return tuple(Arg(name, dtype, count) for name, (dtype, count) in sizes.items())
