"""The deployed operators and tensors of a network as functions of its choices: its `Schedule`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from lut.spec import FLOAT_BITS, OpSpec

from .choice import Choice
from .fuse import Node
from .network import QuantNetwork
from .schedule import Schedule, SearchOp, SearchTensor, Values

SCORE_BITS = 16


class _Describer:
    """Answers, for a node and the values of the choices: how many channels, how many bits, which OpSpec."""

    def __init__(self, network: QuantNetwork):
        self.network = network
        self.nodes = {node.name: node for node in network.nodes}
        self.act = {n.name: network.act.get(network.quantizer_of(n.name)) for n in network.nodes}
        self.output = network.nodes[-1].name
        self.is_float = any(choice.options == (FLOAT_BITS,) for choice in network.act.values())

    def width(self, name: str) -> Choice:
        return self.network.width[self.network.groups[name].name]

    def bits(self, name: str, values: Values) -> int:
        if name == self.output:
            return FLOAT_BITS if self.is_float else SCORE_BITS
        choice = self.act[name]
        assert choice is not None
        return values.get(choice.name, choice.options[-1])

    def channels(self, name: str, values: Values) -> int:
        choice = self.width(name)
        return values.get(choice.name, choice.options[-1])

    def tensor(self, node: Node, values: Values) -> tuple[int, int, int, int]:
        return (self.channels(node.name, values), node.shape[1], node.shape[2], self.bits(node.name, values))

    def spec(self, node: Node, values: Values) -> OpSpec:
        source = self.nodes[node.inputs[0]] if node.inputs else node
        c_in, c_out = self.channels(source.name, values), self.channels(node.name, values)
        height, width = source.shape[1:]
        if node.kind == "linear":
            c_in, height, width = c_in * height * width, 1, 1
        w_bits = 8
        if node.name in self.network.weight:
            choice = self.network.weight[node.name]
            w_bits = values.get(choice.name, choice.options[-1])
        elif self.is_float:
            w_bits = FLOAT_BITS
        return OpSpec(
            node.kind,
            1,
            c_in,
            c_out,
            height,
            width,
            node.kernel,
            node.stride,
            node.dilation,
            node.pad,
            c_in if node.depthwise else node.groups,
            w_bits,
            tuple(self.bits(name, values) for name in node.inputs) or (8,),
            self.bits(node.name, values),
        )

    def axes(self, node: Node) -> dict[Choice, set[str]]:
        """Which fields of the spec each searchable choice fills."""
        fields: dict[Choice, set[str]] = {}

        def fill(choice: Choice | None, names: Iterable[str]) -> None:
            if choice is not None and not choice.pinned:
                fields.setdefault(choice, set()).update(names)

        if node.inputs:
            fill(self.width(node.inputs[0]), {"c_in", "groups"} if node.depthwise else {"c_in"})
        fill(self.width(node.name), {"c_out"})
        fill(self.network.weight.get(node.name), {"w_bits"})
        for name in node.inputs:
            fill(self.act[name], {"in_bits"})
        if node.name != self.output:
            fill(self.act[node.name], {"out_bits"})
        return fields


def schedule_of(network: QuantNetwork) -> Schedule:
    """Operators and tensors in execution order. The image of bytes is the tensor 'image', which op `input` reads."""
    describe = _Describer(network)
    ops, tensors = [], {}
    for node in network.nodes:
        fields = describe.axes(node)
        tensor_choices = [describe.width(node.name), describe.act[node.name] if node.name != describe.output else None]
        tensors[node.name] = SearchTensor(
            node.name, tuple(c for c in tensor_choices if c and not c.pinned), partial(describe.tensor, node)
        )
        ops.append(
            SearchOp(
                node.name,
                tuple(fields),
                tuple(frozenset(names) for names in fields.values()),
                partial(describe.spec, node),
                node.inputs or ("image",),
                node.name,
                1 if node.kind == "conv2d_add" else 0 if node.kind == "add" else None,
            )
        )
    first = network.nodes[0]
    tensors["image"] = SearchTensor("image", (), lambda _: (first.shape[0], first.shape[1], first.shape[2], 8))
    return Schedule(tuple(ops), tensors, "image", network.nodes[-1].name)
