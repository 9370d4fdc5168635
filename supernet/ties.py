"""Which tensors share their widths: every tensor's channels as a row of groups.

Adds, products, mixes, unary functions, depthwise convolutions, pools, norms and strided slices keep channel i at
position i: their tensors are the same channels. A convolution starts a new group; a grouped one reads and makes as
many equal parts as it has groups, which are chosen alike. A concat is its inputs in a row, a split some of its
input's; equal parts of a split are chosen alike. All uses of a layer read the same channels and make the same ones,
those of a norm are the same. Zero channels of a shortcut have no counterpart in its input, so a resample that adds
channels starts a group too: its output follows the add that reads it, and channels dead in its input stay zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from .nodes import Node
from .segments import Row, Segments


class UnionFind:
    """Sets of names; the representative of a set is the name that came first."""

    def __init__(self, names: Iterable[str]):
        self.parent = {name: name for name in names}
        self.position = {name: i for i, name in enumerate(self.parent)}

    def find(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def union(self, a: str, b: str) -> None:
        first, second = sorted((self.find(a), self.find(b)), key=self.position.__getitem__)
        self.parent[second] = first


@dataclass(frozen=True)
class Group:
    """Channels chosen together. name: its first weighted layer's, or <layer>.part<k> of one that makes several.

    members: nodes whose tensors hold it. pinned: why the width can't be searched, or ''. maker: the layer in its name.
    repeats: how often it is in any of its tensors, at least. counts: channels under each option of its width choice.
    tied: why that is not its own, where its channels are not the others', or ''.
    """

    name: str
    channels: int
    members: tuple[str, ...]
    pinned: str = ""
    maker: str = ""
    repeats: int = 1
    counts: tuple[int, ...] = ()
    tied: str = ""


Layout = dict[str, tuple[Group, ...]]
"""By node name, the groups whose channels make up its output, in a row."""


def tie(nodes: list[Node]) -> Layout:
    """The groups of every node's output."""
    segments = Segments()
    rows: dict[str, Row] = {}
    for node in nodes:
        rows[node.name] = _row(node, rows, segments)
        for first in filter(None, (node.layer_of, node.norm_of)):
            segments.unify(rows[node.name], rows[first])
        if node.layer_of:
            _read_alike(node, nodes, rows, segments)
    for node in nodes:
        if node.output:
            segments.pin(rows[node.name], "the network's output")
    rows = {name: segments.resolve(row) for name, row in rows.items()}
    reasons = segments.pinned()
    groups: dict[int, Group] = {}
    for segment in dict.fromkeys(segment for row in rows.values() for segment in row):
        members = [node for node in nodes if segment in rows[node.name]]
        weighted = [node for node in members if node.layer is not None] or members
        maker = next((node for node in weighted if set(rows[node.name]) == {segment}), weighted[0])
        parts = list(dict.fromkeys(rows[maker.name]))
        name = maker.name if len(parts) == 1 else f"{maker.name}.part{parts.index(segment)}"
        repeats = gcd(*(rows[node.name].count(segment) for node in members))
        groups[segment] = Group(
            name,
            segments.lengths[segment],
            tuple(node.name for node in members),
            reasons.get(segment, ""),
            maker.name,
            repeats,
        )
    return {name: tuple(groups[segment] for segment in row) for name, row in rows.items()}


def _row(node: Node, rows: dict[str, Row], segments: Segments) -> Row:
    """The channels of a node's output; what they have to do with others is noted in `segments`."""
    inputs = [rows[name] for name in node.inputs]
    match node.kind:
        case "input":
            row = segments.new(node.shape[0])
            segments.pin(row, "the image's channels")
            return row
        case "conv2d" | "conv2d_add":
            row = inputs[0] if node.depthwise else segments.new(node.shape[0])
            if node.groups > 1 and not node.depthwise:
                for side, channels in ((inputs[0], segments.length(segments.resolve(inputs[0]))), (row, node.shape[0])):
                    segments.share(side, node.groups)
                    if channels == node.groups:
                        segments.pin(side, "a grouped convolution with one channel per group")
            for residual in inputs[1:]:
                segments.unify(row, residual)
            return row
        case "linear":
            return segments.new(node.shape[0])
        case "resample" if node.gather is not None:
            return segments.new(node.shape[0])
        case "concat":
            return sum(inputs, ())
        case "split":
            return _part(node, inputs[0], segments)
        case "shuffle":
            row = segments.new(node.shape[0])
            segments.pin(inputs[0], "a channel shuffle needs all of its channels")
            segments.pin(row, "a channel shuffle needs all of its channels")
            return row
    for other in inputs[1:]:
        segments.unify(inputs[0], other)
    return inputs[0]


def _read_alike(node: Node, nodes: list[Node], rows: dict[str, Row], segments: Segments) -> None:
    """All uses of a layer read the same channels; all of them, where a linear layer reads several shapes."""
    made = {other.name: other for other in nodes}
    sources = [made[use.inputs[0]] for use in (made[node.layer_of], node)]
    first, second = (rows[source.name] for source in sources)
    if sources[0].shape[0] == sources[1].shape[0]:
        segments.unify(first, second)
        return
    shapes = " and ".join("x".join(map(str, source.shape)) for source in sources)
    for row in (first, second):
        segments.pin(row, f"a layer that is used several times reads {shapes} of them")


def _part(node: Node, row: Row, segments: Segments) -> Row:
    size, whole = node.shape[0], segments.length(segments.resolve(row))
    if whole % size == 0 and node.start % size == 0:
        segments.share(row, whole // size)
    _, rest = segments.cut(row, node.start)
    return segments.cut(rest, size)[0]
