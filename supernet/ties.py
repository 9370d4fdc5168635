"""Which tensors share one width: a union-find over the graph.

Adds, products, mixes, unary functions, depthwise convolutions, pools and strided slices keep channel i at position i:
their tensors are tied. A
convolution starts a new group. Zero channels of a shortcut have no counterpart in its input, so a resample that adds
channels starts a group too: its output follows the add that reads it, and channels dead in its input stay zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .fuse import Node


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
    """Tensors with one width. name: its first weighted layer's. pinned: why the width can't be searched, or ''."""

    name: str
    channels: int
    members: tuple[str, ...]
    pinned: str = ""


def tie(nodes: list[Node]) -> dict[str, Group]:
    """The width group of every node's output, by node name."""
    tied = UnionFind(node.name for node in nodes)
    union, find = tied.union, tied.find
    reasons: dict[str, str] = {}
    for node in nodes:
        match node.kind:
            case "conv2d" | "conv2d_add" if node.depthwise:
                union(node.name, node.inputs[0])
            case "avg_pool" | "max_pool" | "unary":
                union(node.name, node.inputs[0])
            case "resample" if node.gather is None:
                union(node.name, node.inputs[0])
            case "add" | "mul" | "mix":
                for name in node.inputs:
                    union(node.name, name)
        if node.kind == "conv2d_add":
            union(node.name, node.inputs[1])
    for node in nodes:
        if node.kind == "input":
            reasons[node.name] = "the image's channels"
        elif node.groups > 1 and not node.depthwise:
            reasons[node.name] = reasons[node.inputs[0]] = "a grouped convolution"
    reasons[nodes[-1].name] = "the network's output"

    members: dict[str, list[str]] = {}
    for node in nodes:
        members.setdefault(find(node.name), []).append(node.name)
    groups = {}
    for root, names in members.items():
        channels = next(n.shape[0] for n in nodes if n.name == root)
        pinned = next((reasons[n] for n in names if n in reasons), "")
        first = next((n.name for n in nodes if n.name in names and n.layer is not None), root)
        groups.update(dict.fromkeys(names, Group(first, channels, tuple(names), pinned)))
    return groups
