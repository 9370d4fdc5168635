"""What a figure of latency by channels shows, as plain values: one panel per geometry, one line per number of bits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .columns import format_cell
from .describe import geometry_of
from .spec import Latency, OpSpec

Rows = Mapping[OpSpec, Latency]
PRODUCT = "input x output channels"
LEAST = 4
"""Rows that the largest panel should have."""
BINS = 12
"""Medians of a line over products of channel counts."""
PANELS = 6
"""Geometries that are drawn: those with the most rows."""


@dataclass(frozen=True)
class Point:
    x: float
    us: float
    interpolated: bool = False


@dataclass(frozen=True)
class Panel:
    """Rows that differ in channels and bits alone: points by bits, in order of x."""

    title: str
    x_label: str
    product: bool  # x is that of both channel counts: points side by side need not be alike
    lines: Mapping[str, list[Point]]


def bits_label(spec: OpSpec) -> str:
    """w4 a8>8: bits of weights, of inputs (once where they are equal) and of the output."""
    inputs = spec.in_bits[:1] if len(set(spec.in_bits)) == 1 else spec.in_bits
    return f"w{spec.w_bits} a{'+'.join(map(str, inputs))}>{spec.out_bits}"


def panels(rows: Rows, count: int = PANELS) -> list[Panel]:
    """The `count` geometries with the most rows, the largest first; of equal ones the first in the table.

    Where none has LEAST rows, geometries that differ in attrs alone are one.
    """
    groups = _grouped(rows, geometry_of)
    if max(map(len, groups.values())) < LEAST:
        groups = _grouped(rows, lambda spec: replace(geometry_of(spec), attrs=""))
    chosen = sorted(groups, key=lambda key: -len(groups[key]))[:count]
    return [_panel(title, groups[key]) for title, key in zip(_titles(chosen), chosen)]


def _grouped(rows: Rows, key: Callable[[OpSpec], OpSpec]) -> dict[OpSpec, dict[OpSpec, Latency]]:
    groups: dict[OpSpec, dict[OpSpec, Latency]] = defaultdict(dict)
    for spec, latency in rows.items():
        groups[key(spec)][spec] = latency
    return groups


def _titles(keys: Sequence[OpSpec]) -> list[str]:
    """Geometries in words, with more fields where the words are the same and these differ."""
    short, more = [], []
    for key in keys:
        groups = {0: "depthwise", 1: ""}.get(key.groups, f"{key.groups} groups")
        kernel, stride = (format_cell(name, getattr(key, name)) for name in ("kernel", "stride"))
        short.append(f"{key.kind} {key.height}x{key.width} k{kernel} s{stride} {groups}".rstrip())
        pad, dilation = (format_cell(name, getattr(key, name)) for name in ("pad", "dilation"))
        more.append((key.attrs, f"pad {pad}", f"d{dilation}", f"batch {key.batch}"))
    titles = []
    for title, fields in zip(short, more):
        alike = [other for name, other in zip(short, more) if name == title]
        differ = [cell for cell, column in zip(fields, zip(*alike)) if len(set(column)) > 1]
        titles.append(" ".join([title, *filter(None, differ)]))
    return titles


def _panel(title: str, rows: Rows) -> Panel:
    ins, outs = {s.c_in for s in rows}, {s.c_out for s in rows}
    along: Callable[[OpSpec], int]
    if all(s.c_in == s.c_out for s in rows):
        label, along = "channels", lambda s: s.c_out
    elif len(ins) == 1:
        label, along = f"output channels, from {min(ins)}", lambda s: s.c_out
    elif len(outs) == 1:
        label, along = f"input channels, to {min(outs)}", lambda s: s.c_in
    else:
        label, along = PRODUCT, lambda s: s.c_in * s.c_out
    lines: dict[str, list[Point]] = defaultdict(list)
    for spec in sorted(rows, key=lambda s: (s.w_bits, s.in_bits, s.out_bits, along(s))):
        lines[bits_label(spec)].append(Point(along(spec), rows[spec].us, rows[spec].source == "interpolated"))
    return Panel(
        title, label, label == PRODUCT, {name: sorted(points, key=lambda p: p.x) for name, points in lines.items()}
    )


def medians(points: Sequence[Point], product: bool = False) -> list[Point]:
    """The line that is drawn: the median at each x, in order; of products, in at most BINS steps of equal ratio."""
    by_x: dict[float, list[Point]] = defaultdict(list)
    xs = {point.x for point in points}
    step = math.log(max(xs) / min(xs)) / BINS if product and len(xs) > BINS else 0.0
    for point in points:
        by_x[min(BINS - 1, int(math.log(point.x / min(xs)) / step)) if step else point.x].append(point)
    middle = [(np.median([p.x for p in by_x[x]]), np.median([p.us for p in by_x[x]])) for x in sorted(by_x)]
    return [Point(float(x), float(us)) for x, us in middle]
