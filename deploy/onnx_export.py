"""A lowered network as an ONNX model in QDQ form: float operators between DequantizeLinear and QuantizeLinear.

A runtime puts its integer kernel in the place of DequantizeLinear -> operator -> QuantizeLinear; what the constants
become is in `onnx_weights.py`. A clamp narrower than 8 bits is a Clip of codes behind QuantizeLinear, so that the
kernel in front of it stays one of integers. Tables of a function, and operators that only move codes, work on codes.
The scores are float: s_out times the int16 of the contract, before it is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lut.errors import LutError

from . import onnx_moves
from .onnx_functions import FUNCTIONS
from .onnx_graph import Graph
from .onnx_input import affine
from .onnx_weights import weighted
from .program import Op, Program
from .results import places

if TYPE_CHECKING:
    import onnx

OUTPUT = "scores"
SCALE_ERROR = 1 / 32
"""How far, in codes, a multiplier may be from what the tensors' scales say."""


def to_onnx(program: Program) -> onnx.ModelProto:
    """The model. Its inputs are the tensors that no operator makes, uint8 (n, height, width, channels): `image`, for a
    whole network. `scores`: float32 (n, classes), of several outputs `scores.<label>`, each (n, H W C); for a part of a
    network that ends in codes, uint8 NHWC.

    Raises LutError for a kind that is not known, constants that no program has, and when onnx is not installed.
    """
    graph = Graph(program)
    made = {op.output for op in program.ops}
    given = dict.fromkeys(name for op in program.ops for name in op.inputs if name not in made)
    inputs = [graph.take(name) for name in given]
    for op in program.ops:
        if op.spec.kind not in KINDS:
            raise LutError(f"{op.name}: no ONNX form for kind {op.spec.kind!r}; there is one for {', '.join(KINDS)}")
        KINDS[op.spec.kind](graph, op)
    results = [label if label not in given else f"{label}/result" for label in labels(program)]
    return graph.model(inputs, [graph.give(name, result) for name, result in zip(program.outputs, results)])


def labels(program: Program) -> list[str]:
    """Names of the model's results."""
    return [f"{OUTPUT}.{row.label}" if row.label else OUTPUT for row in places(program)]


def _input(graph: Graph, op: Op) -> None:
    """(byte - mean) factor where that gives the table's codes, else the table."""
    assert op.table is not None
    tensor, source = graph.program.tensors[op.output], op.inputs[0]
    found = affine(op.table, tensor.scale, tensor.zero, tensor.bits)
    if found is None:
        start = graph.constant(f"{op.name}/start", 256 * np.arange(len(op.table), dtype=np.int32).reshape(1, -1, 1, 1))
        index = graph.node("Add", [_index(graph, source), start], f"{op.name}/index")
        _look_up(graph, op, op.table, index)
        return
    mean, factor = (values.reshape(1, -1, 1, 1) for values in found)
    value = graph.cast(graph.codes(source), "FLOAT", f"{op.name}/byte")
    value = graph.node("Sub", [value, graph.constant(f"{op.name}/mean", mean)], f"{op.name}/centred")
    value = graph.node("Mul", [value, graph.constant(f"{op.name}/factor", factor)], f"{op.name}/normal")
    low, high = (-np.inf, np.inf) if tensor.bits == 32 else (0, 2**tensor.bits - 1)
    graph.store(op, value, low, high)


def _index(graph: Graph, name: str) -> str:
    return graph.cast(graph.codes(name), "INT32", f"{name}/int32")


def _look_up(graph: Graph, op: Op, table: np.ndarray, index: str) -> None:
    stored = graph.constant(f"{op.name}/table", table.reshape(-1))
    graph.define(op.output, graph.node("Gather", [stored, index], f"{op.name}/codes", axis=0))


def _weighted(graph: Graph, op: Op) -> None:
    value = weighted(graph, op)
    if op.spec.kind == "linear" and (op.output not in graph.program.outputs or op.spec.out_bits <= 8):
        value = graph.node("Unsqueeze", [value, graph.integers("/pixel", (2, 3))], f"{op.name}/pixel")
    if op.spec.kind == "conv2d_add":
        _check_scale(graph.program, op, 1, op.res_mult, op.res_shift)
        value = graph.node("Add", [value, graph.value(op.inputs[1])], f"{op.name}/sum")
    graph.store(op, value, op.low, op.high)


def _check_scale(program: Program, op: Op, at: int, mult: int, shift: int, factor: float = 1.0) -> None:
    """LutError when a multiplier is not factor s_in / s_out of the tensors: values would not be what codes say."""
    if op.spec.is_float:
        return
    source, target = program.tensors[op.inputs[at]], program.tensors[op.output]
    real, expected = mult * 2.0 ** (shift - 32), factor * source.scale / target.scale
    if abs(real - expected) * 255 / factor > SCALE_ERROR:
        raise LutError(f"{op.name}: multiplier {real:.6g} of input {at}; the tensors' scales make it {expected:.6g}")


def _multiplier(op: Op) -> int:
    return 0 if op.mult is None else int(op.mult[0])


def _add(graph: Graph, op: Op) -> None:
    _check_scale(graph.program, op, 0, _multiplier(op), op.shift)
    _check_scale(graph.program, op, 1, op.res_mult, op.res_shift)
    graph.store(op, graph.node("Add", [graph.value(name) for name in op.inputs], f"{op.name}/sum"), op.low, op.high)


def _mul(graph: Graph, op: Op) -> None:
    _check_scale(graph.program, op, 0, _multiplier(op), op.shift, graph.program.tensors[op.inputs[1]].scale)
    product = graph.node("Mul", [graph.value(name) for name in op.inputs], f"{op.name}/product")
    graph.store(op, product, op.low, op.high)


def _avg_pool(graph: Graph, op: Op) -> None:
    spec = op.spec
    _check_scale(graph.program, op, 0, _multiplier(op), op.shift, 1 / (spec.kernel[0] * spec.kernel[1]))
    mean = graph.node(
        "AveragePool", [graph.value(op.inputs[0])], f"{op.name}/mean", kernel_shape=spec.kernel, strides=spec.stride
    )
    graph.store(op, mean, op.low, op.high)


def _max_pool(graph: Graph, op: Op) -> None:
    spec = op.spec
    largest = graph.node(
        "MaxPool", [graph.value(op.inputs[0])], f"{op.name}/largest",
        kernel_shape=spec.kernel, strides=spec.stride, pads=spec.pad, dilations=spec.dilation,
    )  # fmt: skip
    graph.store(op, largest, -np.inf, np.inf)


def _unary(graph: Graph, op: Op) -> None:
    if not op.spec.is_float:
        assert op.table is not None
        _look_up(graph, op, op.table, _index(graph, op.inputs[0]))
        return
    name = op.spec.attrs.removeprefix("fn=")
    if name not in FUNCTIONS:
        raise LutError(f"{op.name}: no ONNX form for function {name!r}; there is one for {', '.join(FUNCTIONS)}")
    graph.store(op, FUNCTIONS[name](graph, graph.value(op.inputs[0]), op.name), op.low, op.high)


def _resample(graph: Graph, op: Op) -> None:
    """Rows and columns by the stride, then channels; an absent one is the last, which Pad appends."""
    assert op.gather is not None
    tensor, codes = graph.program.tensors[op.inputs[0]], graph.codes(op.inputs[0])
    if op.spec.stride != (1, 1):
        window = {"start": (0, 0), "end": (tensor.height, tensor.width), "axes": (2, 3), "step": op.spec.stride}
        parts = [graph.integers(f"{op.name}/{part}", values) for part, values in window.items()]
        codes = graph.node("Slice", [codes, *parts], f"{op.name}/slice")
    if (op.gather < 0).any():
        fill = graph.constant(f"{op.name}/fill", np.array(tensor.zero, tensor.dtype))
        pads = graph.integers(f"{op.name}/pads", (0, 0, 0, 0, 0, 1, 0, 0))
        codes = graph.node("Pad", [codes, pads, fill], f"{op.name}/pad")
    gather = np.where(op.gather < 0, tensor.channels, op.gather)
    codes = graph.node("Gather", [codes, graph.integers(f"{op.name}/channels", gather)], f"{op.name}/codes", axis=1)
    graph.define(op.output, codes)


KINDS: dict[str, Callable[[Graph, Op], None]] = {
    "input": _input,
    "conv2d": _weighted,
    "conv2d_add": _weighted,
    "linear": _weighted,
    "add": _add,
    "mul": _mul,
    "unary": _unary,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "resample": _resample,
    "concat": onnx_moves.concat,
    "split": onnx_moves.split,
    "shuffle": onnx_moves.shuffle,
    "pad": onnx_moves.pad,
    "dequantize": onnx_moves.dequantize,
    "quantize": onnx_moves.quantize,
    "softmax": onnx_moves.softmax,
    "layer_norm": onnx_moves.layer_norm,
}
