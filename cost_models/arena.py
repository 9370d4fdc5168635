"""Offsets of every activation buffer in one arena: best fit, in the best of several orders.

Two buffers may overlap in space when their lifetimes do not overlap in time. Blocks are placed one by one, each into
the smallest gap that holds it between the placed blocks alive at the same time, else behind the last of them: largest
first (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020: greedy by size), and, until
the arena is no larger than its largest live set, in other orders, then with single blocks moved in the best of them.
An output that takes over its input's buffer shares that block.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

ALIGNMENT = 64
MOVES = 600
"""Blocks that are placed anew to try single moves, at most; so it is soon done with large networks."""


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


ORDERS: tuple[Callable[[Buffer], Any], ...] = (
    lambda b: (-b.bytes, b.first, b.name),
    lambda b: (-b.bytes * (1 + b.last - b.first), b.first, b.name),
    lambda b: (b.first - b.last, -b.bytes, b.name),
    lambda b: (b.first, -b.bytes, b.name),
    lambda b: (-b.last, -b.bytes, b.name),
)
"""Largest, largest times longest, longest, first made, last needed first."""


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
    packing = _pack(list(blocks.values()), alignment)
    return Arena({name: packing.offsets[owner[name]] for name in by_name}, packing.size)


class _Packing(NamedTuple):
    """Blocks in the order in which they were placed, their offsets by name, and where the last of them ends."""

    order: list[Buffer]
    offsets: dict[str, int]
    size: int


def _pack(blocks: list[Buffer], alignment: int) -> _Packing:
    """The smallest that was found when one reached the largest live set, or at the end."""
    least = _least(blocks, alignment)
    best, *_ = packings = [_place(sorted(blocks, key=ORDERS[0]), alignment)]
    for order in ORDERS[1:]:
        if best.size <= least:
            return best
        packings.append(_place(sorted(blocks, key=order), alignment))
        best = min(packings, key=lambda packing: packing.size)
    generator = random.Random(0)
    for _ in range(MOVES // len(blocks)):
        if best.size <= least:
            break
        moved = list(best.order)
        moved.insert(generator.randrange(len(moved)), moved.pop(generator.randrange(len(moved))))
        packing = _place(moved, alignment)
        best = packing if packing.size <= best.size else best  # an equal one leads away from where it is stuck
    return best


def _place(order: list[Buffer], alignment: int) -> _Packing:
    offsets: dict[str, int] = {}
    for number, block in enumerate(order):
        alive = [other for other in order[:number] if other.first <= block.last and block.first <= other.last]
        offsets[block.name] = _best_fit(block.bytes, [(offsets[b.name], b.bytes) for b in alive], alignment)
    return _Packing(order, offsets, max((offsets[block.name] + block.bytes for block in order), default=0))


def _least(blocks: Sequence[Buffer], alignment: int) -> int:
    """Bytes below which no arena is: of the largest live set, whose blocks but the last begin where another may."""
    least = 0
    for step in {block.first for block in blocks}:
        alive = [block.bytes for block in blocks if block.first <= step <= block.last]
        padded = [-(-size // alignment) * alignment for size in alive]
        least = max(least, sum(padded) - max(pad - size for pad, size in zip(padded, alive)))
    return least


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
