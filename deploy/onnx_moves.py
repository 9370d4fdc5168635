"""ONNX forms of what moves codes, and of float islands: concats, splits, shuffles, pads, softmax, layer norms."""

from __future__ import annotations

import numpy as np

from .onnx_graph import Graph
from .program import Op

CHANNELS = 1
"""The axis inside the graph, which is NCHW."""


def concat(graph: Graph, op: Op) -> None:
    """All parts of a tensor at once, where the last of them is made; a part alone is framed with zeros."""
    whole = graph.program.tensors[op.output].channels
    parts = sorted((o for o in graph.program.ops if o.output == op.output), key=lambda o: o.offset)
    if sum(part.spec.c_in for part in parts) < whole:
        pads = graph.integers(f"{op.name}/pads", (0, op.offset, 0, 0, 0, whole - op.offset - op.spec.c_in, 0, 0))
        fill = graph.constant(f"{op.name}/fill", np.array(0, graph.program.tensors[op.inputs[0]].dtype))
        graph.define(op.output, graph.node("Pad", [graph.codes(op.inputs[0]), pads, fill], f"{op.name}/codes"))
    elif op is [o for o in graph.program.ops if o.output == op.output][-1]:
        codes = [graph.codes(part.inputs[0]) for part in parts]
        graph.define(op.output, graph.node("Concat", codes, f"{op.output}/codes", axis=CHANNELS))


def split(graph: Graph, op: Op) -> None:
    window = {"start": op.offset, "end": op.offset + op.spec.c_out, "axes": CHANNELS}
    parts = [graph.integers(f"{op.name}/{part}", (value,)) for part, value in window.items()]
    graph.define(op.output, graph.node("Slice", [graph.codes(op.inputs[0]), *parts], f"{op.name}/codes"))


def shuffle(graph: Graph, op: Op) -> None:
    order = graph.integers(f"{op.name}/channels", np.arange(op.spec.c_in).reshape(op.spec.groups, -1).T.reshape(-1))
    codes = graph.node("Gather", [graph.codes(op.inputs[0]), order], f"{op.name}/codes", axis=CHANNELS)
    graph.define(op.output, codes)


def pad(graph: Graph, op: Op) -> None:
    """A frame of the zero point."""
    tensor = graph.program.tensors[op.inputs[0]]
    top, left, bottom, right = op.spec.pad
    pads = graph.integers(f"{op.name}/pads", (0, 0, top, left, 0, 0, bottom, right))
    fill = graph.constant(f"{op.name}/fill", np.array(tensor.zero, tensor.dtype))
    graph.define(op.output, graph.node("Pad", [graph.codes(op.inputs[0]), pads, fill], f"{op.name}/codes"))


def dequantize(graph: Graph, op: Op) -> None:
    graph.define(op.output, graph.value(op.inputs[0]))


def quantize(graph: Graph, op: Op) -> None:
    graph.store(op, graph.value(op.inputs[0]), op.low, op.high)


def softmax(graph: Graph, op: Op) -> None:
    graph.define(op.output, graph.node("Softmax", [graph.codes(op.inputs[0])], f"{op.name}/value", axis=CHANNELS))


def layer_norm(graph: Graph, op: Op) -> None:
    """(x - mean) / sqrt(var + eps) weights + bias; sums over the channels, which every opset writes alike."""
    assert op.weights is not None and op.bias is not None
    x, axes = graph.codes(op.inputs[0]), graph.integers("/channels", (CHANNELS,))
    count = graph.constant(f"{op.name}/count", np.array(op.spec.c_in, np.float32))

    def mean(value: str, name: str) -> str:
        total = graph.node("ReduceSum", [value, axes], f"{op.name}/{name}/sum", keepdims=1)
        return graph.node("Div", [total, count], f"{op.name}/{name}")

    apart = graph.node("Sub", [x, mean(x, "mean")], f"{op.name}/apart")
    variance = mean(graph.node("Mul", [apart, apart], f"{op.name}/square"), "variance")
    eps = graph.constant(f"{op.name}/eps", np.array(op.eps, np.float32))
    deviation = graph.node("Sqrt", [graph.node("Add", [variance, eps], f"{op.name}/more")], f"{op.name}/deviation")
    gain, bias = (
        graph.constant(f"{op.name}/{name}", values.reshape(1, -1, 1, 1).astype(np.float32))
        for name, values in (("gain", op.weights), ("bias", op.bias))
    )
    unit = graph.node("Div", [apart, deviation], f"{op.name}/unit")
    scaled = graph.node("Mul", [unit, gain], f"{op.name}/scaled")
    graph.define(op.output, graph.node("Add", [scaled, bias], f"{op.name}/value"))
