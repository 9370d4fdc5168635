"""What a latency table holds: coverage, ranges, provenance and look-up rules, first as plain data, then as a page.

`summary` and `coverage` give what JSON can hold, times in microseconds; `page` writes it in readable units. The grid of
a kind is every combination of the values that its rows have; what is not among the rows are its holes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .calibrate import Calibration
from .columns import SPEC_COLUMNS, describe, format_cell, nearest
from .errors import LutError
from .interpolate import RULES
from .machine import MUST_MATCH
from .rules import FREE
from .spec import Latency, OpSpec
from .table import LatencyTable

Rows = Mapping[OpSpec, Latency]

FIRST = 5
"""Of sites and of missing operators, how many are named."""
WHOLE_GRID = 0.5
"""Share from which on the rows of a kind are said to form one grid."""
OPTIONAL = ("cycles", "energy_uj", "workspace_bytes", "code_bytes")


def summary(table: LatencyTable) -> dict[str, Any]:
    """{table, rows, sources, provenance, rules, kinds: [..]}, the kind with the most rows first; times in us.

    Raises LutError for a header whose calibration or interpolation no look-up could use.
    """
    kinds: dict[str, dict[OpSpec, Latency]] = defaultdict(dict)
    for spec, latency in table.items():
        kinds[spec.kind][spec] = latency
    return {
        "table": str(table.path),
        "device": table.provenance.get("device", ""),
        "rows": len(table),
        "sources": _counts(latency.source for latency in table.values()),
        "provenance": dict(table.provenance),
        "rules": rules(table),
        "kinds": [_kind(kind, kinds[kind]) for kind in sorted(kinds, key=lambda k: (-len(kinds[k]), k))],
    }


def _kind(kind: str, rows: Rows) -> dict[str, Any]:
    times = [latency.us for latency in rows.values()]
    samples = [latency.n for latency in rows.values()]
    sites = dict.fromkeys(spec.site for spec in rows if spec.site)
    items = [item.partition("=") for spec in rows for item in spec.attrs.split(";") if item]
    return {
        "kind": kind,
        "rows": len(rows),
        "sources": _counts(latency.source for latency in rows.values()),
        "latency_us": {"min": min(times), "median": float(np.median(times)), "max": max(times)},
        "spread": _spread(rows.values()),
        "n": {"min": min(samples), "max": max(samples)},
        **{axis: _counts(getattr(spec, axis) for spec in rows) for axis in ("batch", "c_in", "c_out")},
        "size": _counts(f"{spec.height}x{spec.width}" for spec in rows),
        **{a: _counts(format_cell(a, getattr(s, a)) for s in rows) for a in ("kernel", "stride", "dilation", "pad")},
        "groups": _counts(map(groups_of, rows)),
        "bits": _counts(map(bits_of, rows)),
        "sites": {"rows": sum(bool(s.site) for s in rows), "distinct": len(sites), "first": list(sites)[:FIRST]},
        "attrs": {name: _counts(value for n, _, value in items if n == name) for name in sorted({i[0] for i in items})},
        "optional": {name: sum(bool(getattr(latency, name)) for latency in rows.values()) for name in OPTIONAL},
        "grid": _grid(rows, groups_of),
        "grid_within_geometries": {**_grid(rows, geometry_of), "holes": list(itertools.islice(_holes(rows), 3))},
    }


def _counts(values: Iterable[Any]) -> dict[Any, int]:
    """How often each value occurs; numbers in order, text by how often."""
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda item: item[0] if isinstance(item[0], int) else (-item[1], item[0])))


def _spread(rows: Iterable[Latency]) -> dict[str, Any] | None:
    """(p90 - p10) / latency over the measured rows that have quantiles: how many, median, and 90th percentile."""
    wide = [(r.p90 - r.p10) / r.us for r in rows if r.source != "interpolated" and (r.n > 1 or r.p90 > r.p10) and r.us]
    if not wide:
        return None
    median, p90 = np.quantile(wide, [0.5, 0.9])
    return {"rows": len(wide), "median": float(median), "p90": float(p90)}


def groups_of(spec: OpSpec) -> str:
    """plain, depthwise, or how many groups."""
    return "depthwise" if spec.depthwise else "plain" if spec.groups == 1 else f"{spec.groups} groups"


def bits_of(spec: OpSpec) -> str:
    """Bits of weights, inputs and output: w4 a8>8."""
    return f"w{spec.w_bits} a{'+'.join(map(str, spec.in_bits))}>{spec.out_bits}"


def geometry_of(spec: OpSpec) -> OpSpec:
    """The spec with channels, groups that follow them, bits and site blanked."""
    groups = 0 if spec.depthwise else spec.groups
    return replace(spec, c_in=0, c_out=0, groups=groups, w_bits=0, in_bits=(), out_bits=0, site="")


def _channels(rows: Iterable[OpSpec]) -> list[tuple[int, int]]:
    """All pairs of the channel counts in and out, or the equal ones where no row has others."""
    pairs = {(spec.c_in, spec.c_out) for spec in rows}
    if all(a == b for a, b in pairs):
        return sorted(pairs)
    return list(itertools.product(sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})))


def _by(rows: Iterable[OpSpec], key: Callable[[OpSpec], Hashable]) -> list[list[OpSpec]]:
    groups: dict[Hashable, list[OpSpec]] = defaultdict(list)
    for spec in rows:
        groups[key(spec)].append(spec)
    return sorted(groups.values(), key=len, reverse=True)


def _axes(spec: OpSpec) -> tuple[tuple[Any, ...], ...]:
    """Image size, kernel, stride and bits: what a grid has beside channels."""
    return (spec.height, spec.width), spec.kernel, spec.stride, (spec.w_bits, spec.in_bits, spec.out_bits)


def _grid(rows: Rows, key: Callable[[OpSpec], Hashable]) -> dict[str, Any]:
    """Cells of channels x size x kernel x stride x bits, a grid for each value of `key`, and those that have rows."""
    cells = filled = measured = 0
    groups = _by(rows, key)
    for group in groups:
        cells += len(_channels(group)) * math.prod(len(set(axis)) for axis in zip(*map(_axes, group)))
        filled += len({(s.c_in, s.c_out, _axes(s)) for s in group})
        measured += len({(s.c_in, s.c_out, _axes(s)) for s in group if rows[s].source != "interpolated"})
    return {"grids": len(groups), "cells": cells, "filled": filled, "measured": measured, "share": measured / cells}


def _holes(rows: Rows) -> Iterator[str]:
    """Cells without any row, within each geometry, those with the most rows first."""
    for group in _by(rows, geometry_of):
        there = {(s.c_in, s.c_out, s.w_bits, s.in_bits, s.out_bits) for s in group}
        bits = sorted({cell[2:] for cell in there})
        for (c_in, c_out), (w, a, out) in itertools.product(_channels(group), bits):
            if (c_in, c_out, w, a, out) not in there:
                groups = c_in if group[0].depthwise else group[0].groups
                hole = replace(group[0], c_in=c_in, c_out=c_out, groups=groups, site="")
                yield describe(replace(hole, w_bits=w, in_bits=a, out_bits=out))


def rules(table: LatencyTable) -> list[str]:
    """What the header says of operators that are not among the rows, in words. Raises LutError where it is unusable."""
    says, declared = table.provenance, table.rules
    lines = []
    if declared.free:
        lines.append(f"free: operators of these kinds count as 0: {', '.join(sorted(declared.free))}")
    if declared.free_sites:
        lines.append(f"free: so do the layers {', '.join(sorted(declared.free_sites))}")
    lines += [f"alias: {a} is looked up as {b}, with the bits of its first input" for a, b in declared.alias.items()]
    if declared.promote:
        lines.append("promote: weights and inputs of unequal bits are looked up at the larger of the two")
    if declared.ignores:
        lines.append(f"ignores: rows hold for every value of {', '.join(sorted(declared.ignores))}")
    if says.get("collapse") == "act_bits":
        lines.append("collapse: rows hold for 1 to 8 activation bits; they are written with 8")
    elif says.get("collapse") == "packed":
        lines.append("collapse: activations are packed; only weights have weight bits, others are written with 8")
    elif says.get("collapse"):
        lines.append(f"collapse: {says['collapse']} is unknown, and look-ups take no notice of it")
    lines.append(_interpolation(table))
    constants = {n.removeprefix("calibration_"): v for n, v in says.items() if n.startswith("calibration_")}
    if (used := Calibration.of(table)) != Calibration():
        lines.append(
            f"calibration: a network takes {used.scale:.4g} x the sum of its rows"
            f" + {used.op_us:.4g} us for each operator + {used.kib_us:.4g} us for each KiB that it reads"
            f" + {used.call_us:.4g} us"
        )
    known = {each.name for each in fields(Calibration)}
    if rest := [f"{name} {value}" for name, value in constants.items() if name not in known]:
        lines.append(f"constants: {', '.join(rest)} (calibration of networks)")
    if says.get("profiler") == "imported":
        lines.append("machine: imported rows; they are not compared with the computer that reads them")
    else:
        lines.append(f"machine: refused where one of these differs: {', '.join(MUST_MATCH)}")
    return lines


def _interpolation(table: LatencyTable) -> str:
    says = table.provenance
    rule = says.get("interpolation", "none")
    if rule not in RULES:
        raise LutError(f"{table.path}: interpolation: {rule!r} is no rule; {nearest(rule, RULES)}")
    if rule == "none":
        return "interpolation: none; an operator without a row is an error"
    line = f"interpolation: {rule} along channels, inside their measured range"
    if "lanes" in says:
        line += f", vectors of {says['lanes']} lanes"
    if "word" in says:
        line += f", words of {says['word']} bits of packed codes"
    if "held_out_error" not in says:
        return f"{line}; its error was not tested"
    median, p90 = percent(says["held_out_error"]), percent(says.get("held_out_error_p90", "?"))
    return f"{line}; error at {says.get('held_out_rows', '?')} rows left out: median {median}, 90th percentile {p90}"


def percent(share: str | float) -> str:
    """'0.0615' -> '6.2 %'; text that is no number stays."""
    try:
        return f"{100 * float(share):.3g} %"
    except ValueError:
        return str(share)


def coverage(table: LatencyTable, specs: Iterable[OpSpec], first: int = FIRST) -> dict[str, Any]:
    """{specs, answers: {source: count}, missing, nearest: [{spec, row, us, differs: {field: [asked, row's]}}]}.

    Counts distinct specs. `nearest` is of the `first` missing ones. Raises LutError as look-ups do.
    """
    asked = list(dict.fromkeys(specs))
    missing = table.missing(asked)
    refused = set(missing)
    found = [table.lookup(spec) for spec in asked if spec not in refused]
    return {
        "specs": len(asked),
        "answers": _counts("free" if row is FREE else row.source for row in found),
        "missing": len(missing),
        "nearest": [_nearest(table, spec) for spec in missing[:first]],
    }


def _nearest(table: LatencyTable, spec: OpSpec) -> dict[str, Any]:
    if not table:
        return {"spec": describe(spec), "row": None}
    key = table.key(table.rules.canonical(spec))
    fields = [name for name in SPEC_COLUMNS if name not in table.rules.ignores]
    (row,) = table.nearest(spec, 1)
    apart = [name for name in fields if getattr(key, name) != getattr(row, name)]
    differs = {name: [format_cell(name, getattr(s, name)) for s in (key, row)] for name in apart}
    return {"spec": describe(spec), "row": describe(row), "us": table[row].us, "differs": differs}


def duration(us: float) -> str:
    """Microseconds with the unit that fits, three digits: '940 ns', '12.5 us', '3.1 ms', '2 s'."""
    unit, worth = next((u for u in (("s", 1e6), ("ms", 1e3), ("us", 1.0)) if us >= u[1]), ("ns", 1e-3))
    return f"{float(f'{us / worth:.3g}'):g} {unit}"
