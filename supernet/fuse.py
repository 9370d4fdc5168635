"""Primitive operators become the nodes that are deployed: conv + batch norm + add + activation is one node.

A residual add is the epilogue of the convolution that ends its branch; the sum before the activation has no tensor of
its own. Zero pads move into the convolution or pool they feed. A strided slice and a channel pad become one resample.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lut.errors import InputError

from .mixed import Block
from .trace import RawOp


@dataclass
class Node:
    """One deployed operator. kind: as OpSpec's. inputs: names of nodes; a fused add's second input is the residual.

    shape: (C, H, W) of the output. act_high: None without an activation, else ReLU's upper bound. pad: top, left,
    bottom, right. fn: of a unary. gather: per output channel of a resample its source channel, -1 for zero; None: all
    in order.
    layer, norm: the user's modules, until a network is built from the node. A `mix` reads one tensor per candidate;
    when: the (mix, candidate) pairs under which the node exists. block: the block that it is a layer of.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    layer: nn.Conv2d | nn.Linear | None = None
    norm: nn.BatchNorm2d | None = None
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


def _shape(raw: RawOp) -> tuple[int, int, int]:
    return (*raw.shape, 1, 1)[:3] if len(raw.shape) == 1 else raw.shape  # type: ignore[return-value]


class _Fuser:
    """Walks the primitives once; `open` maps a primitive to the node that it has been merged into."""

    def __init__(self, raws: list[RawOp]):
        self.raws = {raw.name: raw for raw in raws}
        self.users: dict[str, list[RawOp]] = {raw.name: [] for raw in raws}
        for raw in raws:
            for name in raw.inputs:
                self.users[name].append(raw)
        self.nodes: dict[str, Node] = {}
        self.at: dict[str, str] = {}

    def run(self) -> list[Node]:
        for raw in self.raws.values():
            getattr(self, f"_{raw.op}")(raw)
        return list(self.nodes.values())

    def _source(self, raw: RawOp, index: int = 0) -> Node:
        return self.nodes[self.at[raw.inputs[index]]]

    def _put(self, raw: RawOp, node: Node) -> None:
        node.when, node.block = raw.when, raw.block or node.block
        self.nodes[node.name] = node
        self.at[raw.name] = node.name

    def _merge(self, raw: RawOp) -> Node:
        """The node that `raw` joins; an error when another reader needs the tensor in between."""
        node = self._source(raw)
        if len(self.users[raw.inputs[0]]) > 1:
            raise InputError(f"{raw.name}: its input {raw.inputs[0]} is read by others before the {raw.op}; copy it")
        self.at[raw.name] = node.name
        return node

    def _input(self, raw: RawOp) -> None:
        self._put(raw, Node(raw.name, "input", (), _shape(raw)))

    def _spatial(self, raw: RawOp) -> tuple[tuple[str, ...], tuple[int, int, int, int]]:
        """(inputs, pad) of a convolution or pool, through a zero pad before it."""
        source = self.raws[raw.inputs[0]]
        if source.op == "pad":
            return (self.at[source.inputs[0]],), source.attrs["pad"]
        return (self.at[source.name],), (0, 0, 0, 0)

    def _conv(self, raw: RawOp) -> None:
        conv = raw.module
        assert isinstance(conv, nn.Conv2d)
        assert not isinstance(conv.padding, str)
        inputs, (top, left, bottom, right) = self._spatial(raw)
        rows, cols = conv.padding
        self._put(
            raw,
            Node(
                raw.name,
                "conv2d",
                inputs,
                _shape(raw),
                conv,
                kernel=conv.kernel_size,  # type: ignore[arg-type]
                stride=conv.stride,  # type: ignore[arg-type]
                dilation=conv.dilation,  # type: ignore[arg-type]
                pad=(top + rows, left + cols, bottom + rows, right + cols),
                groups=conv.groups,
                depthwise=conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels,
            ),
        )

    def _linear(self, raw: RawOp) -> None:
        assert isinstance(raw.module, nn.Linear)
        self._put(raw, Node(raw.name, "linear", (self.at[raw.inputs[0]],), _shape(raw), raw.module))

    def _bn(self, raw: RawOp) -> None:
        node = self._merge(raw)
        if node.kind != "conv2d" or node.norm is not None or node.act_high is not None:
            raise InputError(f"{raw.name}: a batch norm must follow a convolution directly")
        assert isinstance(raw.module, nn.BatchNorm2d)
        node.norm = raw.module

    def _act(self, raw: RawOp) -> None:
        node = self._merge(raw)
        if node.kind not in ("conv2d", "conv2d_add", "linear", "add") or node.act_high is not None:
            raise InputError(f"{raw.name}: an activation must follow a convolution, a linear layer or an add directly")
        node.act_high = raw.attrs["high"]

    def _add(self, raw: RawOp) -> None:
        first, second = (self._source(raw, i) for i in (0, 1))
        if first is second:
            raise InputError(f"{raw.name}: a tensor added to itself; scale the weights instead")
        ends = [
            (node, other)
            for node, other, name in ((first, second, raw.inputs[0]), (second, first, raw.inputs[1]))
            if node.kind == "conv2d" and node.act_high is None and len(self.users[name]) == 1
        ]
        if not ends:
            self._put(raw, Node(raw.name, "add", (first.name, second.name), _shape(raw)))
            return
        node, other = max(ends, key=lambda pair: pair[0].layer.weight.numel())  # type: ignore[union-attr]
        del self.nodes[node.name]  # the fused convolution runs where the add stood
        node.kind, node.inputs = "conv2d_add", (*node.inputs, other.name)
        self._put(raw, node)

    def _unary(self, raw: RawOp) -> None:
        self._put(raw, Node(raw.name, "unary", (self._source(raw).name,), _shape(raw), fn=raw.attrs["fn"]))

    def _mul(self, raw: RawOp) -> None:
        """The second input may be one value per channel, as in squeeze-and-excite."""
        first, second = (self._source(raw, i) for i in (0, 1))
        if first is second:
            raise InputError(f"{raw.name}: a tensor times itself is not deployable; use another activation")
        if first.shape != _shape(raw):
            first, second = second, first
        if first.shape != _shape(raw) or second.shape not in (first.shape, (first.shape[0], 1, 1)):
            shapes = " and ".join("x".join(map(str, node.shape)) for node in (first, second))
            raise InputError(
                f"{raw.name}: a product of {shapes} is not deployable; expected equal shapes, or one value per channel"
            )
        self._put(raw, Node(raw.name, "mul", (first.name, second.name), _shape(raw)))

    def _pool(self, raw: RawOp) -> None:
        inputs, (top, left, bottom, right) = self._spatial(raw)
        own = raw.attrs["pad"]
        pad = (top + own[0], left + own[1], bottom + own[2], right + own[3])
        if any((top, left, bottom, right)):
            raise InputError(f"{raw.name}: a zero pad before a pool; give the pool its own padding")
        kernel, stride = raw.attrs["kernel"], raw.attrs["stride"]
        self._put(raw, Node(raw.name, raw.op, inputs, _shape(raw), kernel=kernel, stride=stride, pad=pad))

    _avg_pool = _max_pool = _pool

    def _pad(self, raw: RawOp) -> None:
        wrong = [user.name for user in self.users[raw.name] if user.op not in ("conv", "max_pool", "avg_pool")]
        if wrong:
            raise InputError(f"{raw.name}: a zero pad may only feed a convolution, not {wrong[0]}")

    def _stride(self, raw: RawOp) -> None:
        self._put(raw, Node(raw.name, "resample", (self.at[raw.inputs[0]],), _shape(raw), stride=raw.attrs["stride"]))

    def _channel_pad(self, raw: RawOp) -> None:
        source = self._source(raw)
        gather = (-1,) * raw.attrs["before"] + tuple(range(source.shape[0])) + (-1,) * raw.attrs["after"]
        if source.kind == "resample" and source.gather is None and len(self.users[raw.inputs[0]]) == 1:
            source.gather, source.shape = gather, _shape(raw)
            self.at[raw.name] = source.name
            return
        self._put(raw, Node(raw.name, "resample", (source.name,), _shape(raw), gather=gather))

    def _mix(self, raw: RawOp) -> None:
        self._put(raw, Node(raw.name, "mix", tuple(self.at[name] for name in raw.inputs), _shape(raw)))

    def _flatten(self, raw: RawOp) -> None:
        wrong = [user.name for user in self.users[raw.name] if user.op != "linear"]
        if wrong:
            raise InputError(f"{raw.name}: a flatten may only feed a linear layer, not {wrong[0]}")
        self.at[raw.name] = self._source(raw).name


def fuse(raws: list[RawOp]) -> list[Node]:
    """Nodes in execution order, the input first, the output last. Raises InputError for what can't be fused."""
    nodes = _Fuser(raws).run()
    if nodes[-1].kind not in ("linear", "conv2d"):
        raise InputError(f"{nodes[-1].name}: the last operator is {nodes[-1].kind}; expected a linear layer or a conv")
    return nodes
