"""The space that a table itself spans: one choice per edge, whose options are the rows that could stand there.

An edge is a site where rows have sites (HAQ, HAWQ, FBNet: one choice of bits or of an operator per layer), else a
geometry: rows of equal kind, channels, image and stride (ProxylessNAS, Once-for-All: kernel and expansion of a block;
BitFusion: bits of a layer). What one network of a paper costs, E[cost] and the best choice inside a budget can so be
checked without a network.
"""

from __future__ import annotations

from collections.abc import Mapping

from lut.spec import OpSpec
from lut.table import LatencyTable
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchOp


def edges(table: LatencyTable) -> dict[str, list[OpSpec]]:
    """Rows by edge, in the table's order."""
    found: dict[str, list[OpSpec]] = {}
    for spec in table:
        rows, cols = spec.stride
        geometry = f"{spec.kind} {spec.c_in}-{spec.c_out} {spec.height}x{spec.width} s{rows}x{cols}"
        depthwise = " depthwise" if spec.depthwise else ""
        found.setdefault(spec.site or geometry + depthwise, []).append(spec)
    return found


def table_space(table: LatencyTable) -> tuple[tuple[Choice, ...], Schedule]:
    """A choice per edge (options: positions in `edges`) and a schedule of one operator per edge, without tensors."""
    found = edges(table)
    choices = tuple(Choice(name, "op", tuple(range(len(rows))), i) for i, (name, rows) in enumerate(found.items()))
    return choices, Schedule(tuple(_operator(c, found[c.name]) for c in choices), {}, "", ())


def _operator(choice: Choice, rows: list[OpSpec]) -> SearchOp:
    def make(values: Mapping[str, int]) -> OpSpec:
        return rows[values[choice.name]]

    return SearchOp(choice.name, (choice,), (frozenset(),), make, (), choice.name)
