"""What is deployed, operator by operator: the nodes of a network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .mixed import Block

MOVES = ("max_pool", "resample", "mix", "concat", "split", "shuffle", "pad")
"""Kinds that only move codes: the output has its input's quantizer. Those of a mix differ by candidate, their bits do
not; a concat's inputs have one for all."""

WEIGHTED = ("conv2d", "conv2d_add", "linear")

ISLANDS = ("layer_norm", "softmax")
"""Kinds that compute in float32 among integers."""

FLOATS = ("dequantize", *ISLANDS)
"""Kinds whose output is float32 among integers."""


@dataclass
class Node:
    """One deployed operator. kind: as OpSpec's. inputs: names of nodes; a fused add's second input is the residual.

    shape: (C, H, W) of the output. act_high: None without an activation, else ReLU's upper bound. pad: top, left,
    bottom, right. fn: of a unary. gather: per output channel of a resample its source channel, -1 for zero; None: all
    in order. start: of a split, its first channel of the input's. eps: of a layer norm.
    layer, norm: the user's modules, until a network is built from the node. A `mix` reads one tensor per candidate;
    when: the (mix, candidate) pairs under which the node exists. block: the block that it is a layer of. quantizer: the
    name of its output's, where it shares one. output: its tensor is one of the network's, which are not quantized and
    which no other node reads. single: its kernel has one weight that is not 0. layer_of, norm_of: the node whose
    weights, whose norm it has too, where that is another.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    layer: nn.Conv2d | nn.Linear | None = None
    norm: nn.BatchNorm2d | nn.LayerNorm | None = None
    act_high: float | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    depthwise: bool = False
    gather: tuple[int, ...] | None = None
    fn: str = ""
    when: tuple[tuple[str, int], ...] = ()
    block: Block | None = None
    start: int = 0
    eps: float = 0.0
    quantizer: str = ""
    output: bool = False
    single: bool = False
    layer_of: str = ""
    norm_of: str = ""

    @property
    def quantizes(self) -> bool:
        """Whether it makes codes of its own."""
        return not self.output and self.kind not in (*MOVES, *FLOATS)

    @property
    def weights(self) -> str:
        """The name of the node that its weights are listed under."""
        return self.layer_of or self.name

    @property
    def one_weight(self) -> bool:
        """Whether every channel has a single weight, which is exact at any number of bits."""
        return self.single or (self.depthwise and self.kernel == (1, 1))


def last_layers(nodes: list[Node]) -> list[str]:
    """The layers with weights that make the outputs, or what an output pools or copies."""
    made = {node.name: node for node in nodes}

    def above(node: Node) -> list[str]:
        if node.kind in WEIGHTED and not node.one_weight:
            return [node.name]
        return [name for source in node.inputs for name in above(made[source])]

    return list(dict.fromkeys(name for node in nodes if node.output for name in above(node)))
