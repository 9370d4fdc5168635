"""The integer reference: what every back end must reproduce to the bit.

Plain torch. Integer convolutions run in float64, which is exact: every accumulator stays below 2^31 (checked when
the network is lowered) and float64 holds integers up to 2^53. The arithmetic is stated in `deploy/program.py`.
The float32 baseline runs through the same code with the identity in place of requantization.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lut.errors import InputError
from supernet.unary import UNARY

from .program import Op, Program

CHUNK = 100
"""Images that are in memory as 64-bit numbers at a time."""


def rescale(acc: Tensor, mult: Tensor, addend: Tensor | int = 0) -> Tensor:
    """(acc m + addend + 2^31) >> 32, all int64 (deploy/program.py)."""
    return (acc * mult + addend + (1 << 31)) >> 32


def _pad(op: Op, x: Tensor, value: float) -> Tensor:
    top, left, bottom, right = op.spec.pad
    return F.pad(x, (left, right, top, bottom), value=value)


def _multiplier(op: Op) -> Tensor:
    assert op.mult is not None
    return torch.from_numpy(op.mult.astype(np.int64)).reshape(1, -1, 1, 1)


def _accumulate(op: Op, program: Program, x: Tensor) -> Tensor:
    """(acc << l) + bias of a convolution or linear layer; NCHW codes (int64) or float32 values in, the same out."""
    spec, zero = op.spec, program.tensors[op.inputs[0]].zero
    assert op.weights is not None and op.bias is not None
    exact = torch.float32 if spec.is_float else torch.float64
    if spec.kind == "linear":  # inputs in HWC order
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1, 1, 1)
    acc = F.conv2d(
        _pad(op, x, zero).to(exact),
        torch.from_numpy(op.weights).to(exact),
        None,
        spec.stride,
        0,
        spec.dilation,
        spec.groups,
    )
    bias = torch.from_numpy(op.bias).view(1, -1, 1, 1)
    return acc + bias if spec.is_float else (acc.to(torch.int64) << op.shift) + bias


def _conv(op: Op, program: Program, x: Tensor, residual: Tensor | None = None) -> Tensor:
    acc = _accumulate(op, program, x)
    if op.spec.is_float:
        return acc if residual is None else acc + residual
    addend = 0 if residual is None else _second(op, program, residual)
    return rescale(acc, _multiplier(op), addend) + program.tensors[op.output].zero


def _second(op: Op, program: Program, x: Tensor) -> Tensor:
    """The second input's share of a sum before rounding."""
    return ((x - program.tensors[op.inputs[1]].zero) << op.res_shift) * op.res_mult


def _add(op: Op, program: Program, a: Tensor, b: Tensor) -> Tensor:
    if op.spec.is_float:
        return a + b
    first = (a - program.tensors[op.inputs[0]].zero) << op.shift
    return rescale(first, _multiplier(op), _second(op, program, b)) + program.tensors[op.output].zero


def _mul(op: Op, program: Program, a: Tensor, b: Tensor) -> Tensor:
    if op.spec.is_float:
        return a * b
    first, second = (program.tensors[name].zero for name in op.inputs)
    product = ((a - first) * (b - second)) << op.shift
    return rescale(product, _multiplier(op)) + program.tensors[op.output].zero


def _unary(op: Op, program: Program, x: Tensor) -> Tensor:
    if op.spec.is_float:
        return UNARY[op.spec.attrs.removeprefix("fn=")](x)
    assert op.table is not None
    return torch.from_numpy(op.table.astype(np.int64))[x]


def _avg_pool(op: Op, program: Program, x: Tensor) -> Tensor:
    rows, cols = op.spec.kernel
    if op.spec.is_float:
        return F.avg_pool2d(x, op.spec.kernel, op.spec.stride)
    area = rows * cols
    total = F.avg_pool2d(x.to(torch.float64), op.spec.kernel, op.spec.stride, divisor_override=1).to(torch.int64)
    centred = (total - area * program.tensors[op.inputs[0]].zero) << op.shift
    return rescale(centred, _multiplier(op)) + program.tensors[op.output].zero


def _max_pool(op: Op, program: Program, x: Tensor) -> Tensor:
    lowest = -torch.inf if op.spec.is_float else 0  # codes are unsigned, so 0 never wins over a real one
    exact = torch.float32 if op.spec.is_float else torch.float64
    pooled = F.max_pool2d(_pad(op, x.to(exact), lowest), op.spec.kernel, op.spec.stride, 0, op.spec.dilation)
    return pooled if op.spec.is_float else pooled.to(torch.int64)


def _resample(op: Op, program: Program, x: Tensor) -> Tensor:
    assert op.gather is not None
    rows, cols = op.spec.stride
    x = x[:, :, ::rows, ::cols]
    fill = torch.full_like(x[:, :1], program.tensors[op.inputs[0]].zero)
    gather = torch.from_numpy(op.gather.astype(np.int64))
    return torch.cat([x, fill], 1)[:, torch.where(gather < 0, x.shape[1], gather)]


def _pad_op(op: Op, program: Program, x: Tensor) -> Tensor:
    return _pad(op, x, program.tensors[op.inputs[0]].zero)


def _split(op: Op, program: Program, x: Tensor) -> Tensor:
    return x[:, op.offset : op.offset + op.spec.c_out]


def _shuffle(op: Op, program: Program, x: Tensor) -> Tensor:
    return x.unflatten(1, (op.spec.groups, -1)).transpose(1, 2).flatten(1, 2)


def _dequantize(op: Op, program: Program, x: Tensor) -> Tensor:
    assert op.table is not None
    return torch.from_numpy(op.table)[x]


def _quantize(op: Op, program: Program, x: Tensor) -> Tensor:
    assert op.weights is not None
    codes = (x * torch.from_numpy(op.weights)).round() + program.tensors[op.output].zero
    return codes.clamp(op.low, op.high).to(torch.int64)


def _softmax(op: Op, program: Program, x: Tensor) -> Tensor:
    return x.softmax(1)


def _layer_norm(op: Op, program: Program, x: Tensor) -> Tensor:
    assert op.weights is not None and op.bias is not None
    gain, bias = (torch.from_numpy(values) for values in (op.weights, op.bias))
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), gain, bias, op.eps).permute(0, 3, 1, 2)


def _input(op: Op, program: Program, x: Tensor) -> Tensor:
    assert op.table is not None
    table = torch.from_numpy(op.table)
    return torch.stack([table[c][x[:, c]] for c in range(x.shape[1])], 1)


KINDS: dict[str, Callable[..., Tensor]] = {
    "input": _input,
    "conv2d": _conv,
    "conv2d_add": _conv,
    "linear": _conv,
    "add": _add,
    "mul": _mul,
    "unary": _unary,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "resample": _resample,
    "concat": lambda op, program, x: x,
    "split": _split,
    "shuffle": _shuffle,
    "pad": _pad_op,
    "dequantize": _dequantize,
    "quantize": _quantize,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
}
CLAMPED = frozenset({"conv2d", "conv2d_add", "linear", "add", "mul", "avg_pool"})


def run_program(program: Program, images: np.ndarray) -> np.ndarray:
    """The numbers (n, values) of uint8 images (n, height, width, channels): outputs in a row, each in the order NHWC;
    int16, float32 for the baseline.

    Raises InputError when the images do not have the network's shape.
    """
    parts = [images[i : i + CHUNK] for i in range(0, max(len(images), 1), CHUNK)]
    found = [run_tensors(program, part, program.outputs) for part in parts]
    whole = [np.concatenate([part[name] for part in found]).reshape(len(images), -1) for name in program.outputs]
    return np.concatenate(whole, 1)


def run_tensors(program: Program, images: np.ndarray, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """As `run_program`, but tensors by name (default all), NHWC, in their stored types."""
    first = program.tensors[program.input]
    expected = (first.height, first.width, first.channels)
    if images.dtype != np.uint8 or images.shape[1:] != expected:
        raise InputError(f"images: {images.dtype} {images.shape[1:]}; the network takes uint8 {expected} (NHWC)")
    values: dict[str, Tensor] = {program.input: torch.from_numpy(images.astype(np.int64)).permute(0, 3, 1, 2)}
    with torch.no_grad():
        for op in program.ops:
            out = KINDS[op.spec.kind](op, program, *(values[name] for name in op.inputs))
            if op.spec.kind in CLAMPED:
                out = out.clamp(op.low, op.high)
            target = program.tensors[op.output]
            out = out.to(torch.float32 if target.bits == 32 else torch.int64)
            if op.spec.kind == "concat":  # one part of it
                whole = values.get(op.output, out.new_zeros(len(out), target.channels, target.height, target.width))
                out = torch.cat([whole[:, : op.offset], out, whole[:, op.offset + op.spec.c_in :]], 1)
            values[op.output] = out
    return {
        name: value.permute(0, 2, 3, 1).contiguous().numpy().astype(program.tensors[name].dtype)
        for name, value in values.items()
        if names is None or name in names
    }
