"""Primitive operators become the nodes that are deployed: conv + batch norm + add + activation is one node.

A residual add is the epilogue of the convolution that ends its branch; the sum before the activation has no tensor of
its own. Zero pads move into the convolution they feed. A strided slice and a channel pad become one resample. An
activation moves before a max pool or a concat, into the convolutions that make it. A batch norm, a factor or an
activation that no convolution can take is a depthwise 1x1 convolution of its own: one weight and one bias per channel.
"""

from __future__ import annotations

import torch
from torch import nn

from .affine import convolution, folded, norm2d
from .nodes import Node
from .primitives import RawOp, Traced
from .shared import owned

WEIGHTED = ("conv2d", "linear")


class _Fuser:
    """Walks the primitives once; `at` maps a primitive to the node that it has been merged into."""

    def __init__(self, traced: Traced):
        self.traced = traced
        self.raws = {raw.name: raw for raw in traced.ops}
        self.users: dict[str, list[RawOp]] = {name: [] for name in self.raws}
        for raw in traced.ops:
            for name in raw.inputs:
                self.users[name].append(raw)
        for name in traced.outputs:
            self.users[name].append(RawOp("", "output", [name], self.raws[name].shape))
        self.shared = {raw.name for raw in traced.ops if raw.shares} | {raw.shares for raw in traced.ops}
        self.nodes: dict[str, Node] = {}
        self.at: dict[str, str] = {}
        self.made: dict[str, str] = {}  # node -> the last primitive that it holds

    def run(self) -> tuple[list[Node], tuple[str, ...]]:
        for raw in self.raws.values():
            getattr(self, f"_{raw.op}")(raw)
        labels = self.traced.form.labels
        outputs = [self._output(self.raws[name], label) for name, label in zip(self.traced.outputs, labels)]
        nodes = list(self.nodes.values())
        owned(nodes)
        return nodes, tuple(node.name for node in outputs)

    def _output(self, raw: RawOp, label: str) -> Node:
        """The node that makes an output: codes and what others read are copied, by a weight of 1 per channel."""
        node = self.nodes[self.at[raw.name]]
        if node.kind not in (*WEIGHTED, "avg_pool") or not self._alone(node):
            name = f"scores.{label}" if label else "scores"
            while name in self.raws:
                name += "_"
            node = self._affine_node(RawOp(name, "affine", [raw.name], raw.shape), self._ones(raw), None)
        node.output = True
        return node

    def _ones(self, raw: RawOp) -> nn.Conv2d:
        """One weight of 1 per channel, as precise as the model's."""
        weight = next(
            r.module.weight for r in self.raws.values() if r.op in ("conv", "linear") and r.module is not None
        )
        assert isinstance(weight, torch.Tensor)
        return convolution(raw.shape[0], weight.new_ones(raw.shape[0]))

    def _source(self, raw: RawOp, index: int = 0) -> Node:
        return self.nodes[self.at[raw.inputs[index]]]

    def _put(self, raw: RawOp, node: Node) -> Node:
        node.when, node.block = raw.when, raw.block or node.block
        self.nodes[node.name] = node
        self._hold(raw, node)
        return node

    def _hold(self, raw: RawOp, node: Node) -> None:
        """`raw` is what the node makes."""
        self.at[raw.name] = node.name
        self.made[node.name] = raw.name

    def _alone(self, node: Node) -> bool:
        """Whether a node's tensor has one reader, so that it need not exist."""
        return len(self.users[self.made[node.name]]) == 1

    def _plain(self, raw: RawOp, kind: str, **fields: object) -> Node:
        inputs = tuple(self.at[name] for name in raw.inputs)
        return self._put(raw, Node(raw.name, kind, inputs, raw.shape, **fields))  # type: ignore[arg-type]

    def _input(self, raw: RawOp) -> None:
        self._plain(raw, "input")

    def _conv(self, raw: RawOp) -> None:
        conv = raw.module
        assert isinstance(conv, nn.Conv2d)
        source = self.raws[raw.inputs[0]]
        frame = source.attrs["pad"] if source.op == "pad" and source.name not in self.at else (0, 0, 0, 0)
        inputs = (self.at[source.name if source.name in self.at else source.inputs[0]],)
        self._put(
            raw,
            Node(
                raw.name,
                "conv2d",
                inputs,
                raw.shape,
                conv,
                kernel=conv.kernel_size,  # type: ignore[arg-type]
                stride=conv.stride,  # type: ignore[arg-type]
                dilation=conv.dilation,  # type: ignore[arg-type]
                pad=tuple(a + b for a, b in zip(frame, raw.attrs["pad"])),  # type: ignore[arg-type]
                groups=conv.groups,
                depthwise=conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels,
                layer_of=raw.shares,
                single=raw.attrs.get("single", False),
            ),
        )

    def _linear(self, raw: RawOp) -> None:
        assert isinstance(raw.module, nn.Linear)
        self._plain(raw, "linear", layer=raw.module, layer_of=raw.shares)

    def _affine_node(self, raw: RawOp, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> Node:
        channels = raw.shape[0]
        return self._plain(raw, "conv2d", layer=conv, norm=norm, groups=channels, depthwise=channels > 1)

    def _bn(self, raw: RawOp) -> None:
        node = self._source(raw)
        if node.kind in WEIGHTED and node.norm is None and node.act_high is None and self._alone(node):
            node.norm = norm2d(raw.module)
            self._hold(raw, node)
        else:
            norm = norm2d(raw.module)
            node = self._affine_node(raw, self._ones(raw).requires_grad_(norm.weight.requires_grad), norm)
        node.norm_of = self.at[raw.shares] if raw.shares else ""

    def _affine(self, raw: RawOp) -> None:
        """scale x + shift, both per channel; not in a layer or norm that is used elsewhere too."""
        node = self._source(raw)
        scale, shift = raw.attrs["scale"], raw.attrs["shift"]
        own = self.made[node.name] not in self.shared
        if own and node.kind in WEIGHTED and node.act_high is None and self._alone(node):
            node.layer, node.norm = folded(node.layer, node.norm, scale, shift)
            self._hold(raw, node)
        else:
            conv = convolution(raw.shape[0], scale, shift)
            self._affine_node(raw, conv.requires_grad_(not raw.attrs.get("frozen", False)), None)

    def _act(self, raw: RawOp) -> None:
        node = self._source(raw)
        if self._takes(node):
            self._activate(node, raw.attrs["high"])
            self._hold(raw, node)
        else:
            self._affine_node(raw, self._ones(raw), None).act_high = raw.attrs["high"]

    def _takes(self, node: Node) -> bool:
        """Whether an activation of a node's tensor can be one of the nodes that make it."""
        if not self._alone(node):
            return False
        if node.kind in ("max_pool", "concat"):
            return all(self._takes(self.nodes[name]) for name in node.inputs)
        return node.kind in (*WEIGHTED, "conv2d_add", "add") and node.act_high is None

    def _activate(self, node: Node, high: float) -> None:
        if node.kind in ("max_pool", "concat"):
            for name in node.inputs:
                self._activate(self.nodes[name], high)
        else:
            node.act_high = high

    def _add(self, raw: RawOp) -> None:
        first, second = (self._source(raw, i) for i in (0, 1))
        if first.shape != second.shape:
            raise raw.refusal(f"a sum of {_size(first)} and {_size(second)}; expected equal shapes")
        ends = [
            (node, other)
            for node, other in ((first, second), (second, first))
            if node.kind == "conv2d" and node.act_high is None and self._alone(node)
        ]
        if not ends:
            self._put(raw, Node(raw.name, "add", (first.name, second.name), raw.shape))
            return
        node, other = max(ends, key=lambda pair: (pair[0].layer.weight.numel(), pair[0].layer_of))  # type: ignore[union-attr]
        del self.nodes[node.name]  # the fused convolution runs where the add stood
        node.kind, node.inputs = "conv2d_add", (*node.inputs, other.name)
        self._put(raw, node)

    def _unary(self, raw: RawOp) -> None:
        self._plain(raw, "unary", fn=raw.attrs["fn"])

    def _mul(self, raw: RawOp) -> None:
        """The second input may be one value per channel, as in squeeze-and-excite."""
        first, second = (self._source(raw, i) for i in (0, 1))
        if first is second:
            raise raw.refusal("a tensor times itself is not deployable; use another activation")
        if first.shape != raw.shape:
            first, second = second, first
        if first.shape != raw.shape or second.shape not in (first.shape, (first.shape[0], 1, 1)):
            raise raw.refusal(f"a product of {_size(first)} and {_size(second)} is not deployable; "
                              "expected equal shapes, or one value per channel")  # fmt: skip
        self._put(raw, Node(raw.name, "mul", (first.name, second.name), raw.shape))

    def _pool(self, raw: RawOp) -> None:
        self._plain(raw, raw.op, **raw.attrs)

    _avg_pool = _max_pool = _pool

    def _pad(self, raw: RawOp) -> None:
        """Convolutions take it in; others read the frame."""
        if any(user.op != "conv" for user in self.users[raw.name]) or not self.users[raw.name]:
            self._plain(raw, "pad", pad=raw.attrs["pad"])

    def _stride(self, raw: RawOp) -> None:
        self._plain(raw, "resample", stride=raw.attrs["stride"])

    def _channel_pad(self, raw: RawOp) -> None:
        source = self._source(raw)
        gather = (-1,) * raw.attrs["before"] + tuple(range(source.shape[0])) + (-1,) * raw.attrs["after"]
        if source.kind == "resample" and source.gather is None and self._alone(source):
            source.gather, source.shape = gather, raw.shape
            self._hold(raw, source)
            return
        self._plain(raw, "resample", gather=gather)

    def _concat(self, raw: RawOp) -> None:
        self._plain(raw, "concat")

    def _split(self, raw: RawOp) -> None:
        self._plain(raw, "split", start=raw.attrs["start"])

    def _shuffle(self, raw: RawOp) -> None:
        self._plain(raw, "shuffle", groups=raw.attrs["groups"])

    def _layer_norm(self, raw: RawOp) -> None:
        assert isinstance(raw.module, nn.LayerNorm)
        self._plain(raw, "layer_norm", norm=raw.module, eps=raw.module.eps, norm_of=raw.shares)

    def _softmax(self, raw: RawOp) -> None:
        self._plain(raw, "softmax")

    def _mix(self, raw: RawOp) -> None:
        self._plain(raw, "mix")


def _size(node: Node) -> str:
    return "x".join(map(str, node.shape))


def fuse(traced: Traced) -> tuple[list[Node], tuple[str, ...]]:
    """(nodes in execution order, the input first; names of those that make the outputs). Raises InputError for what
    can't be fused."""
    return _Fuser(traced).run()
