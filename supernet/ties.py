"""Which tensors share one width: a union-find over the graph.

An add, a depthwise convolution, pools and strided slices keep channel i at position i, so their tensors are tied. A
convolution starts a new group. Zero channels of a shortcut have no counterpart in its input, so a resample that adds
channels starts a group too: its output follows the add that reads it, and channels dead in its input stay zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fuse import Node


@dataclass(frozen=True)
class Group:
    """Tensors with one width. name: its first weighted layer's. pinned: why the width can't be searched, or ''."""

    name: str
    channels: int
    members: tuple[str, ...]
    pinned: str = ""


def tie(nodes: list[Node]) -> dict[str, Group]:
    """The width group of every node's output, by node name."""
    parent = {node.name: node.name for node in nodes}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    order = {node.name: i for i, node in enumerate(nodes)}
    reasons: dict[str, str] = {}

    def union(a: str, b: str) -> None:
        first, second = sorted((find(a), find(b)), key=order.__getitem__)
        parent[second] = first

    for node in nodes:
        match node.kind:
            case "conv2d" | "conv2d_add" if node.depthwise:
                union(node.name, node.inputs[0])
            case "avg_pool" | "max_pool":
                union(node.name, node.inputs[0])
            case "resample" if node.gather is None:
                union(node.name, node.inputs[0])
            case "add":
                union(node.name, node.inputs[0])
                union(node.name, node.inputs[1])
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
