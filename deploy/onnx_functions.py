"""Functions of one value (supernet/unary.py) in operators that opset 13 has; for the float32 baseline."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .onnx_graph import Graph


def _constant(graph: Graph, value: float) -> str:
    return graph.constant(f"number {value:.9g}", np.array(value, np.float32))


def _simple(kind: str, **attributes: float) -> Callable[[Graph, str, str], str]:
    return lambda graph, x, name: graph.node(kind, [x], f"{name}/{kind}", **attributes)


def _gated(gate: Callable[[Graph, str, str], str]) -> Callable[[Graph, str, str], str]:
    """x gate(x)."""
    return lambda graph, x, name: graph.node("Mul", [x, gate(graph, x, name)], f"{name}/gated")


def _phi(graph: Graph, inner: str, name: str) -> str:
    """(1 + inner) / 2."""
    more = graph.node("Add", [inner, _constant(graph, 1.0)], f"{name}/more")
    return graph.node("Mul", [more, _constant(graph, 0.5)], f"{name}/phi")


def _normal(graph: Graph, x: str, name: str) -> str:
    """The normal distribution's function, (1 + erf(x / sqrt 2)) / 2."""
    scaled = graph.node("Mul", [x, _constant(graph, math.sqrt(0.5))], f"{name}/scaled")
    return _phi(graph, graph.node("Erf", [scaled], f"{name}/erf"), name)


def _normal_by_tanh(graph: Graph, x: str, name: str) -> str:
    """(1 + tanh(sqrt(2 / pi) (x + .044715 x^3))) / 2."""
    cube = graph.node("Mul", [graph.node("Mul", [x, x], f"{name}/square"), x], f"{name}/cube")
    part = graph.node("Mul", [cube, _constant(graph, 0.044715)], f"{name}/part")
    total = graph.node("Add", [x, part], f"{name}/total")
    scaled = graph.node("Mul", [total, _constant(graph, math.sqrt(2 / math.pi))], f"{name}/scaled")
    return _phi(graph, graph.node("Tanh", [scaled], f"{name}/tanh"), name)


_HARD = _simple("HardSigmoid", alpha=1 / 6, beta=0.5)
FUNCTIONS: dict[str, Callable[[Graph, str, str], str]] = {
    "hardswish": _gated(_HARD),
    "hardsigmoid": _HARD,
    "silu": _gated(_simple("Sigmoid")),
    "gelu": _gated(_normal),
    "gelu_tanh": _gated(_normal_by_tanh),
    "sigmoid": _simple("Sigmoid"),
    "tanh": _simple("Tanh"),
}
"""(graph, x, prefix of the nodes' names) -> the function's values."""
