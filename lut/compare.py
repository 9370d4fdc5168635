"""Two tables on the rows that both have: how far apart, and whether they rank operators alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import SPEC_COLUMNS, describe, format_cell
from .errors import LutError
from .spec import Latency, OpSpec
from .table import distance

Rows = Mapping[OpSpec, Latency]


@dataclass(frozen=True)
class Pair:
    """An operator that two tables have: microseconds in each, and whether either was interpolated."""

    spec: OpSpec
    first_us: float
    second_us: float
    interpolated: bool

    @property
    def ratio(self) -> float:
        return self.second_us / self.first_us


@dataclass(frozen=True)
class Comparison:
    """Common rows of two tables; spearman is None where fewer than two ranks differ. ratio: median second / first."""

    pairs: list[Pair]
    by_site: bool
    spearman: float | None
    ratio: float


def compare(first: Rows, second: Rows, names: tuple[str, str] = ("first", "second")) -> Comparison:
    """Rows of equal OpSpec; if there are none, of equal OpSpec without site, the median over each table's sites.

    Raises LutError that names the nearest pair of rows where that finds none either.
    """
    common = [Pair(s, first[s].us, second[s].us, _guessed([first[s], second[s]])) for s in first if s in second]
    by_site = bool(common)
    if not common:
        a, b = _without_sites(first), _without_sites(second)
        common = [Pair(s, _middle(a[s]), _middle(b[s]), _guessed([*a[s], *b[s]])) for s in a if s in b]
    if not common:
        raise LutError(_apart(first, second, names))
    ratio = float(np.median([pair.ratio for pair in common]))
    return Comparison(common, by_site, spearman([p.first_us for p in common], [p.second_us for p in common]), ratio)


def _middle(rows: Iterable[Latency]) -> float:
    return float(np.median([row.us for row in rows]))


def _guessed(rows: Iterable[Latency]) -> bool:
    return any(row.source == "interpolated" for row in rows)


def _without_sites(rows: Rows) -> dict[OpSpec, list[Latency]]:
    found: dict[OpSpec, list[Latency]] = defaultdict(list)
    for spec, latency in rows.items():
        found[spec.without_site()].append(latency)
    return found


def _apart(first: Rows, second: Rows, names: tuple[str, str]) -> str:
    """The message about two tables without a common row."""
    message = f"{names[0]} ({len(first)} rows) and {names[1]} ({len(second)} rows) have no row in common, sites aside"
    if not first or not second:
        return message
    fields = [name for name in SPEC_COLUMNS if name != "site"]
    codes: dict[Any, int] = {}
    theirs = np.array([[codes.setdefault(getattr(s, f), len(codes)) for s in second] for f in fields])
    ours = np.array([[codes.setdefault(getattr(s, f), len(codes)) for s in first] for f in fields])
    weights = np.array([len(fields) if name == "kind" else 1 for name in fields])
    a = list(first)[int(np.argmax([(weights @ (theirs == column[:, None])).max() for column in ours.T]))]
    b = min(second, key=lambda other: distance(a, other, fields))
    differs = ", ".join(
        f"{name} {format_cell(name, getattr(a, name)) or '-'} and {format_cell(name, getattr(b, name)) or '-'}"
        for name in fields
        if getattr(a, name) != getattr(b, name)
    )
    return f"{message}; the nearest pair is {describe(a)} and {describe(b)}: {differs}"


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, ties sharing their mean rank; None where all values of one side are equal."""
    from scipy.stats import rankdata

    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (first, second))
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else None
