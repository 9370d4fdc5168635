"""Convolutions and linear layers in ONNX: real weight scales and biases out of a program's integers, packed weights.

With M = 2^l m / 2^32, codes of the output per unit of the accumulator,
    weight scale  s_w = |M| s_out / s_in, per channel; where M < 0 the weights change sign
    bias          s_in s_w sign(M) (bias / 2^l + z_in sum(w))

Weights of 3 and 4 bits are packed INT4, of 1 and 2 bits INT2; loading the model widens them to INT8 and multiplies
them by a constant k, by which s_w is divided. INT8, since ONNX Runtime 1.32 has integer kernels for 8 bits alone, and
refuses INT2 in front of DequantizeLinear and Conv. k, since the bias of an integer kernel is a whole number of units of
its accumulator, where the program's has units 2^l smaller: k = 2^l makes the two equal, as far as int8 has room for it.
A bias that is more than BIAS_ERROR off all the same is an Add behind the operator, which then is no integer kernel if
it is a convolution.
"""

from __future__ import annotations

import numpy as np

from lut.errors import LutError

from .onnx_graph import Graph
from .program import Op, Program

BIAS_ERROR = 1 / 128
"""In codes of the output: what the program's own rounding of a bias may be off."""


def weighted(graph: Graph, op: Op) -> str:
    """Values (n, c_out, H, W) of a convolution, (n, c_out) of a linear layer, bias included."""
    return _float(graph, op) if op.spec.is_float else _quantized(graph, op)


def _float(graph: Graph, op: Op) -> str:
    assert op.weights is not None and op.bias is not None
    weights = graph.constant(f"{op.name}/weights", _layout(graph.program, op, op.weights))
    return _product(graph, op, weights, graph.constant(f"{op.name}/bias", op.bias))


def _quantized(graph: Graph, op: Op) -> str:
    """Values of an integer operator with weights, its bias included."""
    codes, scale, bias = real_constants(graph.program, op)
    source, target = (graph.program.tensors[name].scale for name in (op.inputs[0], op.output))
    weights, factor = _weights(graph, op, codes)
    scale = (scale / factor).astype(np.float32)
    zero = graph.constant(f"{op.name}/weights/zero", np.zeros(len(scale), np.int8))
    step = graph.constant(f"{op.name}/weights/scale", scale)
    weights = graph.node("DequantizeLinear", [weights, step, zero], f"{op.name}/weights/value", axis=0)
    name = f"{op.name}/bias"
    if op.spec.kind == "conv2d_add":  # rounded behind the sum, so nothing rounds the bias
        return _product(graph, op, weights, graph.constant(name, bias.astype(np.float32)))
    unit = np.float32(source) * scale
    rounded = np.rint(bias / unit)
    if np.abs(rounded).max() < 2**31 and np.abs(rounded * unit - bias).max() <= BIAS_ERROR * target:
        inputs = [graph.constant(name, rounded.astype(np.int32)), graph.constant(f"{name}/scale", unit)]
        return _product(graph, op, weights, graph.node("DequantizeLinear", inputs, f"{name}/value", axis=0))
    shape = (1, -1) if op.spec.kind == "linear" else (1, -1, 1, 1)
    stored = graph.constant(name, bias.astype(np.float32).reshape(shape))
    return graph.node("Add", [_product(graph, op, weights, None), stored], f"{op.name}/biased")


def real_constants(program: Program, op: Op) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, s_w, bias) of an integer operator with weights: int64 of the weights' shape, float64 (c_out,) twice.
    A channel whose multiplier is 0 has zero weights and no bias."""
    assert op.weights is not None and op.bias is not None and op.mult is not None
    source, target = program.tensors[op.inputs[0]], program.tensors[op.output]
    real = op.mult.astype(np.float64) * 2.0 ** (op.shift - 32)
    sign = np.sign(real).astype(np.int64)
    codes = op.weights.astype(np.int64) * sign.reshape(-1, 1, 1, 1)
    scale = np.where(sign == 0, target.scale, np.abs(real) * target.scale) / source.scale
    units = sign * op.bias.astype(np.float64) / 2.0**op.shift + source.zero * codes.reshape(len(codes), -1).sum(1)
    return codes, scale, units * scale * source.scale


def _weights(graph: Graph, op: Op, codes: np.ndarray) -> tuple[str, int]:
    """(int8 codes as the kernel gets them, the k that they are multiplied by)."""
    bits = op.spec.w_bits
    largest = int(np.abs(codes).max(initial=0))
    if largest > 2 ** (bits - 1) - 1:
        raise LutError(f"{op.name}: a weight of {largest}; {bits} bits hold up to {2 ** (bits - 1) - 1}")
    factor = 1
    while factor < 2**op.shift and 2 * factor * max(largest, 1) <= 127:
        factor *= 2
    laid = _layout(graph.program, op, codes)
    name = f"{op.name}/weights"
    if bits > 4:
        return graph.constant(name, (laid * factor).astype(np.int8)), factor
    packed = graph.constant(name, laid, "INT2" if bits <= 2 else "INT4")
    wide = graph.cast(packed, "INT8", f"{name}/int8")
    return graph.node("Mul", [wide, graph.constant(f"{name}/k", np.array(factor, np.int8))], f"{name}/scaled"), factor


def _layout(program: Program, op: Op, weights: np.ndarray) -> np.ndarray:
    """Of a linear layer (c_out, c_in) with inputs in CHW order; of others as they are."""
    if op.spec.kind != "linear":
        return weights
    source = program.tensors[op.inputs[0]]
    hwc = weights.reshape(len(weights), source.height, source.width, source.channels)
    return hwc.transpose(0, 3, 1, 2).reshape(len(weights), -1)


def _product(graph: Graph, op: Op, weights: str, bias: str | None) -> str:
    """The convolution or matrix product itself."""
    more = [] if bias is None else [bias]
    if op.spec.kind == "linear":
        return graph.node("Gemm", [graph.flat(op.inputs[0]), weights, *more], f"{op.name}/product", transB=1)
    spec = op.spec
    return graph.node(
        "Conv", [graph.value(op.inputs[0]), weights, *more], f"{op.name}/product",
        kernel_shape=spec.kernel, strides=spec.stride, pads=spec.pad, dilations=spec.dilation, group=spec.groups,
    )  # fmt: skip
