"""Offsets of every activation buffer in one arena: greedy best fit, largest first.

Two buffers may overlap in space when their lifetimes do not overlap in time. Blocks are placed in order of size, each
into the smallest gap that holds it between the placed blocks alive at the same time, else behind the last of them
(Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020: greedy by size). An output that
takes over its input's buffer shares that block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

ALIGNMENT = 64


class Step(Protocol):
    """An operator of a schedule or program: names of its tensors; in_place: index of the input it overwrites."""

    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> str: ...
    @property
    def in_place(self) -> int | None: ...


@dataclass(frozen=True)
class Buffer:
    """`bytes` alive from step `first` to step `last`, both included."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Byte offset by buffer name, and the bytes of the whole."""

    offsets: Mapping[str, int]
    size: int


def plan(buffers: Sequence[Buffer], in_place: Mapping[str, str] | None = None, alignment: int = ALIGNMENT) -> Arena:
    """Place `buffers`; in_place: a buffer's name -> the one whose place it takes over.

    Raises ValueError when a buffer would overwrite one that is needed after the step that makes it.
    """
    by_name = {buffer.name: buffer for buffer in buffers}
    owner = {name: name for name in by_name}
    blocks = dict(by_name)
    for buffer in sorted((by_name[name] for name in in_place or {}), key=lambda b: b.first):
        source = (in_place or {})[buffer.name]
        if by_name[source].last > buffer.first:
            raise ValueError(f"{buffer.name}: overwrites {source}, which step {by_name[source].last} still reads")
        root = owner[buffer.name] = owner[source]
        old = blocks[root]
        last = max(old.last, buffer.last)
        blocks[root] = Buffer(root, max(old.bytes, buffer.bytes), min(old.first, buffer.first), last)
        del blocks[buffer.name]
    offsets: dict[str, int] = {}
    for block in sorted(blocks.values(), key=lambda b: (-b.bytes, b.first, b.name)):
        placed = [blocks[name] for name in offsets]
        alive = [other for other in placed if other.first <= block.last and block.first <= other.last]
        offsets[block.name] = _best_fit(block.bytes, [(offsets[b.name], b.bytes) for b in alive], alignment)
    size = max((offset + blocks[name].bytes for name, offset in offsets.items()), default=0)
    return Arena({name: offsets[owner[name]] for name in by_name}, size)


def _best_fit(size: int, taken: list[tuple[int, int]], alignment: int) -> int:
    """Start of the smallest gap between `taken` (offset, bytes) that holds `size`, else the end of them."""
    best, room, cursor = None, 0, 0
    for offset, length in sorted(taken):
        gap = offset - cursor
        if gap >= size and (best is None or gap < room):
            best, room = cursor, gap
        cursor = max(cursor, -(-(offset + length) // alignment) * alignment)
    return cursor if best is None else best


def lifetimes(
    steps: Sequence[Step], sizes: Mapping[str, int], outputs: Sequence[str]
) -> tuple[list[Buffer], dict[str, str]]:
    """(buffers of the tensors in `sizes`, who takes over whose buffer) for steps in execution order.

    A tensor lives from the step that makes it, or its first part (-1: before all steps), to its last reader, the
    `outputs` to the end. An in_place wish is granted when both tensors are in `sizes`, of one size, and the input is
    read once, and never later: codes of other bits than they replace would be written over some that are still to be
    read, and so would those of a convolution whose input is also what it adds.
    """
    made, used = dict.fromkeys(sizes, -1), dict.fromkeys(sizes, -1)
    for number, step in enumerate(steps):
        for name in (*step.inputs, step.output):
            used[name] = number
        if made.get(step.output, -1) < 0:
            made[step.output] = number
    used.update(dict.fromkeys(outputs, len(steps)))
    shared = {}
    for number, step in enumerate(steps):
        if step.in_place is not None:
            source = step.inputs[step.in_place]
            once = used[source] == number and step.inputs.count(source) == 1
            if once and source in sizes and sizes[source] == sizes.get(step.output):
                shared[step.output] = source
    return [Buffer(name, size, made[name], used[name]) for name, size in sizes.items()], shared
