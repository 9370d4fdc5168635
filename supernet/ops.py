"""The deployed operators and tensors of a network as functions of its choices: its `Schedule`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from lut.spec import FLOAT_BITS, OpSpec

from .choice import Choice
from .derived import derived
from .mixed import Block
from .network import QuantNetwork
from .nodes import FLOATS, Node
from .schedule import Schedule, SearchBlock, SearchOp, SearchTensor, Values
from .widths import MOST_WIDTHS

SCORE_BITS = 16


def _value(choice: Choice, values: Values) -> int:
    """What was chosen; a pinned choice has one option, whatever another network's choice of the name has."""
    return choice.options[0] if choice.pinned else values.get(choice.name, choice.options[-1])


class _Describer:
    """Answers, for a node and the values of the choices: how many channels, how many bits, which OpSpec."""

    def __init__(self, network: QuantNetwork):
        self.network = network
        self.nodes = {node.name: node for node in network.nodes}
        self.act = {n.name: network.act.get(network.quantizer_of(n.name)) for n in network.nodes}
        self.is_float = any(choice.options == (FLOAT_BITS,) for choice in network.act.values())

    def widths(self, name: str) -> dict[Choice, tuple[int, ...]]:
        """The searchable widths of a tensor, and what each option of one brings to its channels."""
        found: dict[Choice, tuple[int, ...]] = {}
        for group in self.network.layout[name]:
            choice = self.network.width[group.name]
            if not choice.pinned:
                before = found.get(choice, (0,) * len(choice.options))
                found[choice] = tuple(map(sum, zip(before, group.counts)))
        return found

    def width_axes(self, source: str | None, target: str, depthwise: bool) -> Iterator[tuple[Choice, set[str]]]:
        """What decides the channels of an operator's two ends, and the fields that it fills. Where an end has more than
        MOST_WIDTHS widths, those of one end alone are summed up in one choice, and so are those of both ends alike."""
        into, out = ({} if name is None else self.widths(name) for name in (source, target))
        read = {"c_in", "groups"} if depthwise else {"c_in"}
        sets: dict[Any, dict[Choice, tuple[int, ...]]] = {}
        few = max(len(into), len(out)) <= MOST_WIDTHS
        for choice in {**into, **out}:
            own = few or (choice in into and choice in out and into[choice] != out[choice])
            part = choice if own else (choice in into, choice in out)
            sets.setdefault(part, {})[choice] = into.get(choice, out.get(choice, ()))
        for members in sets.values():
            first = next(iter(members))
            yield derived(members), (read if first in into else set()) | ({"c_out"} if first in out else set())

    def bits(self, name: str, values: Values) -> int:
        if self.nodes[name].output:
            return FLOAT_BITS if self.is_float else SCORE_BITS
        if self.nodes[name].kind in FLOATS:
            return FLOAT_BITS
        choice = self.act[name]
        assert choice is not None
        return _value(choice, values)

    def channels(self, name: str, values: Values) -> int:
        total = 0
        for group in self.network.layout[name]:
            choice = self.network.width[group.name]
            total += group.counts[choice.position(_value(choice, values))]
        return total

    def tensor(self, node: Node, values: Values) -> tuple[int, int, int, int]:
        return (self.channels(node.name, values), node.shape[1], node.shape[2], self.bits(node.name, values))

    def search_tensor(self, node: Node) -> SearchTensor:
        widths, bits = self.widths(node.name), self.act[node.name] if not node.output else None
        summed = [derived(widths)] if len(widths) > MOST_WIDTHS else list(widths)
        choices = (*summed, bits) if bits and not bits.pinned else summed
        return SearchTensor(node.name, tuple(choices), partial(self.tensor, node))

    def spec(self, node: Node, values: Values, part: int = 0) -> OpSpec | None:
        """None where another candidate was chosen. part: of a concat, the input."""
        if any(values[self.network.op[mix].name] != at for mix, at in node.when):
            return None
        source = self.nodes[node.inputs[part]] if node.inputs else node
        c_in, c_out = self.channels(source.name, values), self.channels(node.name, values)
        height, width = source.shape[1:]
        if node.kind == "linear":
            c_in, height, width = c_in * height * width, 1, 1
        w_bits = 8
        if node.name in self.network.weight:
            w_bits = _value(self.network.weight[node.name], values)
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
            tuple(self.bits(name, values) for name in _read(node, part)) or (8,),
            self.bits(node.name, values),
            attrs=self.attrs(node),
            site=node.name,
        )

    def attrs(self, node: Node) -> str:
        """What else the cost depends on: the function of float32, a product by one value per channel."""
        if node.kind == "unary" and self.is_float:
            return f"fn={node.fn}"
        if node.kind == "mul" and self.nodes[node.inputs[1]].shape[1:] != node.shape[1:]:
            return "by=channel"
        return ""

    def axes(self, node: Node, part: int = 0) -> dict[Choice, set[str]]:
        """Which fields of the spec each searchable choice fills."""
        fields: dict[Choice, set[str]] = {}

        def fill(choice: Choice | None, names: Iterable[str]) -> None:
            if choice is not None and not choice.pinned:
                fields.setdefault(choice, set()).update(names)

        for choice, names in self.width_axes(node.inputs[part] if node.inputs else None, node.name, node.depthwise):
            fill(choice, names)
        fill(self.network.weight.get(node.name), {"w_bits"})
        for name in _read(node, part):
            fill(self.act[name], {"in_bits"})
        if not node.output:
            fill(self.act[node.name], {"out_bits"})
        for mix, _ in node.when:
            fields.setdefault(self.network.op[mix], set())
        return fields


def _read(node: Node, part: int) -> tuple[str, ...]:
    """The tensors that an operator of a node reads."""
    return node.inputs[part : part + 1] if node.kind == "concat" else node.inputs


def parts_of(node: Node) -> tuple[str, ...]:
    """Names of a node's operators: a concat has one for every input."""
    return tuple(f"{node.name}.{i}" for i in range(len(node.inputs))) if node.kind == "concat" else (node.name,)


def schedule_of(network: QuantNetwork) -> Schedule:
    """Operators and tensors in execution order. The image of bytes, which the first one reads, is the tensor
    `image`, with underscores behind it where a node of the network is called so."""
    describe = _Describer(network)
    image = "image"
    while any(image in (node.name, *parts_of(node)) for node in network.nodes):
        image += "_"
    ops, tensors = [], {}
    for node in network.nodes:
        if node.kind == "mix":  # a name for the chosen candidate's tensor
            tensors[node.name] = describe.search_tensor(node)
            continue
        tensors[node.name] = describe.search_tensor(node)
        for part, name in enumerate(parts_of(node)):
            fields = describe.axes(node, part)
            ops.append(
                SearchOp(
                    name,
                    tuple(fields),
                    tuple(frozenset(names) for names in fields.values()),
                    partial(describe.spec, node, part=part),
                    _read(node, part) or (image,),
                    node.name,
                    1 if node.kind == "conv2d_add" else 0 if node.kind in ("add", "mul", "unary") else None,
                    tuple((network.op[mix], at) for mix, at in node.when),
                )
            )
    blocks = tuple(_blocks(describe, {op.name: op for op in ops}))
    first = network.nodes[0]
    tensors[image] = SearchTensor(image, (), partial(_image, first.shape))
    mixes = {node.name: (network.op[node.name], node.inputs) for node in network.nodes if node.kind == "mix"}
    return Schedule(tuple(ops), tensors, image, network.outputs, blocks, mixes)


def _blocks(describe: _Describer, ops: dict[str, SearchOp]) -> Iterator[SearchBlock]:
    """Every block of the network as one operator, from what its first layer reads to what its last one writes."""
    members: dict[Block, list[Node]] = {}
    for node in describe.network.nodes:
        if node.block is not None:
            members.setdefault(node.block, []).append(node)
    for block, nodes in members.items():
        first, last = nodes[0], nodes[-1]
        begins, ends = ops[first.name], ops[last.name]
        fields: dict[Choice, frozenset[str]] = {}
        bits_seen = {"in_bits", "w_bits", "out_bits"} if block.by_bits else set()
        for op, seen in ((begins, {"c_in"} | bits_seen - {"out_bits"}), (ends, {"c_out"} | bits_seen & {"out_bits"})):
            for axis, names in zip(op.choices, op.fields):
                for choice in axis.sources if names & seen or not names else ():
                    fields[choice] = fields.get(choice, frozenset()) | names & seen
        make = partial(_block_spec, describe, block, first, last)
        op = SearchOp(block.name, tuple(fields), tuple(fields.values()), make, begins.inputs[:1], ends.output)
        yield SearchBlock(op, block.kind, frozenset(node.name for node in nodes))


def _image(shape: tuple[int, int, int], values: Values) -> tuple[int, int, int, int]:
    return (*shape, 8)


def _block_spec(describe: _Describer, block: Block, first: Node, last: Node, values: Values) -> OpSpec | None:
    begin, end = describe.spec(first, values), describe.spec(last, values)
    if begin is None or end is None:
        return None
    bits = (begin.w_bits, begin.in_bits[:1], end.out_bits) if block.by_bits else (8, (8,), 8)
    return OpSpec(
        block.kind,
        1,
        begin.c_in,
        end.c_out,
        begin.height,
        begin.width,
        (block.kernel, block.kernel),
        (block.stride, block.stride),
        (1, 1),
        (block.kernel // 2,) * 4,
        1,
        *bits,
        attrs=block.attrs,
        site=block.name,
    )
