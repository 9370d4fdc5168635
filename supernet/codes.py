"""Where tensors are codes, and which share a quantizer, its bits, or its sign."""

from __future__ import annotations

from collections.abc import Mapping

from .nodes import ISLANDS, MOVES, Node
from .ties import UnionFind
from .unary import POSITIVE


def islands(nodes: list[Node]) -> list[Node]:
    """What computes in float32 among integers: codes become float32 before each and codes again behind it."""
    found: list[Node] = []
    ends: dict[str, str] = {}
    for node in nodes:
        node.inputs = tuple(ends.get(name, name) for name in node.inputs)
        if node.kind not in ISLANDS:
            found.append(node)
            continue
        start, end = f"{node.name}.in", f"{node.name}.out"
        shared = {"shape": node.shape, "when": node.when, "block": node.block}
        found.append(Node(start, "dequantize", node.inputs, **shared))  # type: ignore[arg-type]
        found += [node, Node(end, "quantize", (node.name,), **shared)]  # type: ignore[arg-type]
        node.inputs, ends[node.name] = (start,), end
    return found


def share_quantizers(nodes: list[Node]) -> dict[str, str]:
    """For every node that makes codes, the first of those with the same number of bits. Sets `quantizer`.

    The candidates of a mix have their bits in common, the inputs of a concat their quantizer.
    """
    makers: dict[str, list[str]] = {}  # nodes that may have made a tensor's codes
    bits, whole = (UnionFind(node.name for node in nodes) for _ in range(2))
    for node in nodes:
        if node.kind not in MOVES:
            makers[node.name] = [node.name] if node.quantizes else []
            continue
        makers[node.name] = list(dict.fromkeys(maker for name in node.inputs for maker in makers[name]))
        for one, other in zip(makers[node.name], makers[node.name][1:]):
            bits.union(one, other)
            if node.kind == "concat":
                whole.union(one, other)
    for node in nodes:
        if node.quantizes and (shared := whole.find(node.name)) != node.name:
            node.quantizer = shared
    return {node.name: bits.find(node.name) for node in nodes if node.quantizes}


def signs(nodes: list[Node], signed_input: bool) -> dict[str, bool]:
    """Whether each quantizer's tensors can be negative."""
    shared = {node.name: node.quantizer or node.name for node in nodes}
    signed: dict[str, bool] = {}
    quantizers: dict[str, bool] = {}
    for node in nodes:
        signed[node.name] = _signed(node, signed, signed_input)
        if node.quantizes:
            owner = shared[node.name]
            quantizers[owner] = quantizers.get(owner, False) or signed[node.name]
    return quantizers


def _signed(node: Node, signed: Mapping[str, bool], signed_input: bool) -> bool:
    if node.kind == "input":
        return signed_input
    if node.act_high is not None or node.kind == "softmax":
        return False
    if node.layer is not None or node.kind == "layer_norm":
        return True
    if node.kind == "unary":
        return node.fn not in POSITIVE
    return any(signed[name] for name in node.inputs)
