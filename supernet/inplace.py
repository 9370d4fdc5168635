"""Calls that change a tensor in place: whoever reads that tensor later reads what the call returned.

    F.relu(x, inplace=True);  y = f(x)      ->      r = relu(x);  y = f(r)

Which tensor a call changes, and which others lie in the same memory, is seen while the traced graph runs on the
example. A tensor that shares only a part of what was changed, or sees it in another shape, can't be read later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .primitives import refusal


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the memory that the node `owner` took."""

    owner: fx.Node
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """Elements from the start of the memory up to its last one."""
        return self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride)) + 1

    def overlaps(self, other: Place) -> bool:
        if self.owner is not other.owner or 0 in self.size or 0 in other.size:
            return False
        if self == other:
            return True
        taken = torch.zeros(max(self.end, other.end), dtype=torch.bool)
        taken[torch.arange(self.end).as_strided(self.size, self.stride, self.offset).reshape(-1)] = True
        return bool(taken.as_strided(other.size, other.stride, other.offset).any())


def tensors(value: Any) -> Iterator[Tensor]:
    """Those of a value that torch.fx passes along: a tensor, or tuples and lists of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


class Watch:
    """Notes what one call does to the tensors that it reads. sources: nodes and their values."""

    def __init__(self, sources: dict[fx.Node, Any]):
        self.held = [(node, list(tensors(value))) for node, value in sources.items() if "value" not in node.meta]
        self.versions = [[tensor._version for tensor in held] for _, held in self.held]

    def note(self, node: fx.Node, result: Any) -> None:
        """Set meta['places'] of what it returned, and meta['changed'] to places that it changed: where it returned one
        of them, that alone."""
        known = [
            (tensor.untyped_storage().data_ptr(), place.owner)
            for source, held in self.held
            for tensor, place in zip(held, source.meta["places"])
        ]
        node.meta["places"] = [
            Place(
                next((owner for at, owner in known if at == tensor.untyped_storage().data_ptr()), node),
                tuple(tensor.shape),
                tensor.stride(),
                int(tensor.storage_offset()),
            )
            for tensor in tensors(result)
        ]
        changed = [
            place
            for (source, held), before in zip(self.held, self.versions)
            for tensor, version, place in zip(held, before, source.meta["places"])
            if tensor._version != version
        ]
        node.meta["changed"] = [place for place in changed if place in node.meta["places"]][:1] or changed


def threaded(graph: fx.Graph) -> None:
    """Let later readers of a changed tensor read what the call returned. Raises InputError for those that read its
    memory as another tensor, or where the call returned something else."""
    nodes = list(graph.nodes)
    at = {node: i for i, node in enumerate(nodes)}
    for call, changed in ((node, place) for node in nodes for place in node.meta.get("changed", ())):
        for reader in nodes[at[call] + 1 :]:
            if reader.op != "output" and "value" in reader.meta:  # sizes
                continue
            for source in list(reader.all_input_nodes):
                places: list[Place] = source.meta.get("places", [])
                if at[source] >= at[call] or not any(map(changed.overlaps, places)):
                    continue
                if places == [changed] and changed in call.meta["places"]:
                    reader.replace_input_with(source, call)
                elif reader.op == "output" or not _is_beside(reader, changed):
                    raise refusal(call, f"it changes a tensor in place that '{reader.name}' reads later, in part, in "
                                  "another shape or as what it was; make a new tensor instead")  # fmt: skip


def _is_beside(reader: fx.Node, changed: Place) -> bool:
    """Whether a node is a part of the same memory that was not changed."""
    return all(p.owner is changed.owner and not changed.overlaps(p) for p in reader.meta["places"])
