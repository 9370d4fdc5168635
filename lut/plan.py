"""Which rows of a space to measure, so that interpolation keeps the staircase that vector padding makes.

Groups are interpolate.py's: all rows that differ in channel counts alone. Of a small group every row is measured.
Of a large one, in this order until `share` of it is reached: its corners; the rim, where the other axis is at its
greatest, at both edges of every step (the last channel count of a full vector and the first above it; none when
`lanes` is 1, for devices whose steps are not known); then, one at a time, the row farthest from all chosen ones
(maximin design; Johnson, Moore and Ylvisaker 1990) in octaves of padded channels and in whether the last vector is
full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .interpolate import DEFAULT_LANES, LEAST_ROWS, group_of, places
from .spec import OpSpec

SMALL_GROUP = 16


@dataclass(frozen=True)
class Plan:
    """measure: rows to run, cheapest groups' order kept; interpolate: the rest of the space."""

    measure: tuple[OpSpec, ...]
    interpolate: tuple[OpSpec, ...]

    def minutes(self, rows_per_minute: float = 60.0) -> float:
        return len(self.measure) / rows_per_minute


def plan(
    specs: Iterable[OpSpec],
    lanes: int = DEFAULT_LANES,
    share: float = 0.35,
    small_group: int = SMALL_GROUP,
    word: int = 0,
) -> Plan:
    """Split the distinct specs of a space. `share` (0, 1]: of a large group's rows to measure; 1 measures all. word: as
    interpolate.places has it."""
    if not 0 < share <= 1:
        raise ValueError(f"share: {share} is not in (0, 1]")
    groups: dict[OpSpec, list[OpSpec]] = defaultdict(list)
    for spec in dict.fromkeys(specs):
        groups[group_of(spec)].append(spec)
    chosen: set[OpSpec] = set()
    for group in groups.values():
        least = min(len(group), max(small_group, LEAST_ROWS, round(share * len(group))))
        chosen.update(group if least == len(group) else choose(group, least, lanes, word))
    everything = [spec for group in groups.values() for spec in group]
    return Plan(tuple(s for s in everything if s in chosen), tuple(s for s in everything if s not in chosen))


def choose(group: Sequence[OpSpec], count: int, lanes: int, word: int = 0) -> list[OpSpec]:
    """`count` rows of one group, never fewer than its corners and steps need."""
    chosen = list(dict.fromkeys([*_corners(group), *_steps(group, lanes)]))
    lie = np.array([_place(spec, lanes, word) for spec in group])
    nearest = np.full(len(group), np.inf)
    for spec in chosen:
        nearest = np.minimum(nearest, np.abs(lie - _place(spec, lanes, word)).sum(1))
    first = set(chosen)
    taken = np.array([spec in first for spec in group])
    while len(chosen) < count:
        best = int(np.where(taken, -1.0, nearest).argmax())
        taken[best] = True
        chosen.append(group[best])
        nearest = np.minimum(nearest, np.abs(lie - lie[best]).sum(1))
    return chosen


def _corners(group: Sequence[OpSpec]) -> list[OpSpec]:
    """The extreme rows of both axes; eight keys name the four corners of a full grid, or the tips of a ragged one."""
    corners = []
    for a in (-1, 1):
        for b in (-1, 1):
            corners.append(max(group, key=lambda s: (a * s.c_in, b * s.c_out)))
            corners.append(max(group, key=lambda s: (b * s.c_out, a * s.c_in)))
    return corners


def _steps(group: Sequence[OpSpec], lanes: int) -> list[OpSpec]:
    """Least and greatest c_out of every step of `lanes`, each at the greatest c_in that occurs with it."""
    if lanes == 1:
        return []
    steps: dict[int, list[OpSpec]] = defaultdict(list)
    for spec in group:
        steps[-(-spec.c_out // lanes)].append(spec)
    rows = []
    for step in steps.values():
        for c_out in (min(s.c_out for s in step), max(s.c_out for s in step)):
            rows.append(max((s for s in step if s.c_out == c_out), key=lambda s: s.c_in))
    return rows


def _place(spec: OpSpec, lanes: int, word: int) -> np.ndarray:
    """(4,): octaves of padded input and output channels, and whether each ends in a partly filled vector."""
    blocks, fours, tail_out, tail_in = places(spec, lanes, word)
    return np.array([np.log2(fours), np.log2(blocks), 0.5 * tail_in, 0.5 * tail_out])
