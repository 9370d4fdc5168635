"""Schedules of a convolution: how many output pixels and blocks of outputs a register tile holds, and where weights of
4 and 2 bits are unpacked.

All of a row's schedules compute the same bits; which is fastest depends on the shape and on the machine, so it can be
measured (`lut/profilers/tune.py`). A table's row records the one that it was measured with (`variant`, such as 6x1),
and a deployed network takes it from there: the table is the database of schedules, keyed by operator and device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lut.errors import LutError
from lut.spec import OpSpec

from .intrinsics import dot
from .isa import Isa
from .parts import UNEVEN, shared_axis
from .tile import Layout

IN_FLIGHT = 6
"""LANES-wide sums below which a tile waits for the latency of its multiplications."""


@dataclass(frozen=True, order=True)
class Schedule:
    """pixels: of a tile, in whole rows where they are short. blocks: of LANES outputs each. unpack: `s`, weights are
    staged as bytes, once per strip of rows; `r`, they are unpacked in registers, in every tile; '', as `conv` chooses.
    """

    pixels: int
    blocks: int
    unpack: str = ""

    def __str__(self) -> str:
        return f"{self.pixels}x{self.blocks}{self.unpack}"

    def tile(self, rows: int, cols: int) -> tuple[int, int]:
        """(rows, most columns) of a tile of an output of rows x cols pixels."""
        tall = 1
        if cols <= self.pixels // 2:
            tall = next(t for t in range(self.pixels // cols, 0, -1) if rows % t == 0)
        return tall, min(cols, self.pixels // tall)


def parse(text: str) -> Schedule:
    """'6x1' -> Schedule(6, 1), '6x1r' -> Schedule(6, 1, 'r'). Raises LutError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)([sr]?)", text)
    if found is None:
        raise LutError(f"variant: {text!r} is no schedule; expected PIXELSxBLOCKS, such as 6x1, 6x1s or 6x1r")
    return Schedule(int(found[1]), int(found[2]), found[3])


def shared(spec: OpSpec, isa: Isa, schedule: Schedule, threads: int) -> tuple[str, float]:
    """(what several threads share: `rows`, `blocks` or `groups`; how uneven their shares are)."""
    form = Layout.of(spec, dot(isa.name, spec.w_bits, spec.in_bits[0]))
    rows, cols = spec.out_size()
    tall, _ = schedule.tile(rows, cols)
    return shared_axis(threads, rows=rows // tall, blocks=form.blocks // schedule.blocks, groups=form.groups)


def default(spec: OpSpec, isa: Isa, threads: int = 1) -> Schedule:
    """One thread's, unless it leaves several with uneven shares: then what takes the largest share least time.

    A tile's time is that of its sums, or of IN_FLIGHT where it has fewer (they wait on each other).
    """
    first = _default(spec, isa)
    if threads == 1 or shared(spec, isa, first, threads)[1] <= UNEVEN:
        return first
    rows, cols = spec.out_size()
    blocks, limit = _blocks_and_limit(spec, isa)

    def time(schedule: Schedule) -> tuple[float, float]:
        uneven = shared(spec, isa, schedule, threads)[1]
        tall, wide = schedule.tile(rows, cols)
        tiles = rows // tall * -(-cols // wide) * (blocks // schedule.blocks)
        return uneven * tiles * max(tall * wide * schedule.blocks, min(limit // 2, IN_FLIGHT)), uneven

    smaller = (Schedule(p, d) for d in range(1, limit + 1) if blocks % d == 0 for p in range(1, limit // d + 1))
    return min([first, *smaller], key=time)


def _default(spec: OpSpec, isa: Isa) -> Schedule:
    """As many pixels as registers hold; several blocks where rows are short or registers many."""
    rows, cols = spec.out_size()
    blocks, limit = _blocks_and_limit(spec, isa)
    tall, wide = Schedule(limit, 1).tile(rows, cols)
    deep = next(d for d in range(max(1, limit // (tall * wide)), 0, -1) if blocks % d == 0)
    if deep == 1 and limit >= 12:
        # each broadcast input then serves several blocks; a tall tile may leave no registers for that
        deep = next((d for d in (2, 3) if blocks % d == 0 and d * tall <= limit), 1)
        wide = min(wide, limit // deep // tall)
    return Schedule(tall * wide, deep)


def candidates(spec: OpSpec, isa: Isa, count: int, threads: int = 1) -> tuple[Schedule, ...]:
    """The default and up to `count` - 1 others, those that fill the registers first."""
    rows, cols = spec.out_size()
    blocks, limit = _blocks_and_limit(spec, isa)
    first = default(spec, isa, threads)
    others = {
        Schedule(pixels, deep)
        for deep in range(1, min(blocks, limit) + 1)
        for pixels in range(1, min(rows * cols, limit + 1) + 1)
        if blocks % deep == 0 and limit // 2 <= pixels * deep <= limit + 1
    }
    ranked = sorted(others - {first}, key=lambda s: (-min(s.pixels * s.blocks, limit), abs(s.pixels - first.pixels), s))
    return (first, *ranked[: count - 1])


def _blocks_and_limit(spec: OpSpec, isa: Isa) -> tuple[int, int]:
    """(blocks of outputs per group, LANES-wide sums that fit the registers)."""
    how = dot(isa.name, spec.w_bits, spec.in_bits[0])
    return Layout.of(spec, how).blocks, isa.blocks // 2 if how.brief else isa.blocks
