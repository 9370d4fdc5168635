"""Figures of latency tables, each a function to an inline SVG string: latency by channels, by kind, and two tables
against each other. Interpolated rows are hollow. What is drawn comes as plain values from lut/panels.py and compare.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lut.compare import Comparison
from lut.describe import duration
from lut.panels import Point, medians, panels
from lut.spec import Latency, OpSpec

from .plots import FAINT, STYLE, shorten, svg

Rows = Mapping[OpSpec, Latency]

LOOKS = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"),
    ("#1c2430", "X"),
)  # fmt: skip
"""Colours that colour-blind people tell apart (Okabe and Ito 2008), and a marker beside each."""
OTHER = ("#aab3bf", ".")
"""Look of what has none of its own."""
KINDS = 24
"""Kinds that are drawn: those with the most rows."""
LEGEND_WIDTH = 130
"""Characters that a line of the legend has room for."""
LOG_FROM = 8.0
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""
EQUAL: dict[str, Any] = {"color": "#aab3bf", "lw": 1.2, "zorder": 1}
MEDIAN: dict[str, Any] = {"color": FAINT, "lw": 1.2, "ls": (0, (4, 3)), "zorder": 1}
DENSE_DECADES = 2.2
"""Decades up to which a panel's axis has ticks at 2 and 5 too."""
FEW = 30
"""Rows of a kind up to which each is drawn as a point; above, they are a histogram."""


def _looks(sizes: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """A look for each of the bits, in order; of too many, for some with many rows, evenly over that order."""
    many = [name for name, size in sizes.items() if 2 * size >= max(sizes.values()) or len(sizes) <= len(LOOKS)]
    many.sort(key=lambda name: list(map(int, re.findall(r"\d+", name))))
    chosen = sorted({round(i) for i in np.linspace(0, len(many) - 1, len(LOOKS))})
    return dict(zip([many[i] for i in chosen], LOOKS))


def channels(rows: Rows, device: str = "") -> str:
    """A panel for each of the largest geometries: points by bits, a line through the median at each x. Not empty."""
    shown = panels(rows)
    sizes = Counter({name: 0 for panel in shown for name in panel.lines})
    for panel in shown:
        sizes.update({name: len(points) for name, points in panel.lines.items()})
    looks = _looks(sizes)
    everything = [point for panel in shown for points in panel.lines.values() for point in points]
    unit, worth = _unit(point.us for point in everything)
    columns = min(3, len(shown))
    with mpl.rc_context({**STYLE, "axes.titlesize": 9.5}):
        figure = Figure(figsize=(10.4, (2.9 if columns > 1 else 4.0) * math.ceil(len(shown) / columns) + 0.6))
        for i, panel in enumerate(shown):
            axes = figure.add_subplot(math.ceil(len(shown) / columns), columns, i + 1)
            for name in sorted(panel.lines, key=lambda name: name in looks):
                points, look = panel.lines[name], looks.get(name, OTHER)
                if name in looks:
                    line = medians(points, panel.product)
                    axes.plot([p.x for p in line], [p.us / worth for p in line], color=look[0], lw=1.1, alpha=0.7)
                _points(axes, [Point(p.x, p.us / worth, p.interpolated) for p in points], look)
            _scale(axes, "x", [p.x for points in panel.lines.values() for p in points])
            _scale(axes, "y", [p.us / worth for points in panel.lines.values() for p in points])
            axes.set_title(shorten(panel.title, 44))
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel(f"latency, {unit}" if i % columns == 0 else "")
        title = f"{_on(device)}bits of weights (w), inputs > output (a); lines: medians"
        rest = {f"{len(sizes) - len(looks)} others": OTHER} if len(sizes) > len(looks) else {}
        _legend(figure, {**looks, **rest}, title, any(point.interpolated for point in everything))
        return svg(figure, "Latency by channels", "channels")


def latencies(rows: Rows, device: str = "") -> str:
    """How the latencies of every kind are distributed, on one logarithmic axis. rows: not empty."""
    kinds: dict[str, list[Latency]] = defaultdict(list)
    for spec, latency in rows.items():
        kinds[spec.kind].append(latency)
    most = sorted(kinds, key=lambda kind: -len(kinds[kind]))[:KINDS]
    order = sorted(most, key=lambda kind: float(np.median([row.us for row in kinds[kind]])))
    unit, worth = _unit(row.us for row in rows.values())
    low, high = (bound(row.us for row in rows.values()) / worth for bound in (min, max))
    edges = np.geomspace(low / 1.12, high * 1.12, max(12, min(60, round(14 * math.log10(high / low * 1.25)))))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 1.1 + 0.62 * len(order)))
        axes = figure.add_subplot()
        for y, kind in enumerate(order):
            _kind_row(axes, y, kinds[kind], worth, edges)
        axes.set_yticks([y + 0.3 for y in range(len(order))], [shorten(kind) for kind in order])
        axes.set_ylim(-0.25, len(order) - 0.1)
        axes.set_xlim(edges[0], edges[-1])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        _scale(axes, "x", list(edges), logarithmic=True, wide=edges[-1] < 1e5 * edges[0])
        part = f" ({KINDS} of {len(kinds)} kinds)" if len(kinds) > KINDS else ""
        axes.set_xlabel(f"latency{f' on {shorten(device)}' if device else ''}, {unit}{part}")
        hollow = any(row.source == "interpolated" for row in rows.values())
        _legend(figure, {}, "", hollow)
        return svg(figure, "Latency by kind of operator", "latencies")


def _kind_row(axes: Axes, y: float, rows: Sequence[Latency], worth: float, edges: np.ndarray) -> None:
    """Points or a histogram on the line y, its median, and in words how many rows and which median."""
    look = LOOKS[0]
    times = [row.us / worth for row in rows]
    median = float(np.median(times))
    if len(rows) <= FEW:
        _points(axes, [Point(row.us / worth, y + 0.3, row.source == "interpolated") for row in rows], look)
    else:
        counts = np.histogram(times, edges)[0]
        sure = np.histogram([t for t, row in zip(times, rows) if row.source != "interpolated"], edges)[0]
        scale = 0.72 / counts.max()
        axes.stairs(y + sure * scale, edges, baseline=y, fill=True, color=look[0], alpha=0.55, lw=0)
        axes.stairs(y + counts * scale, edges, baseline=y, color=look[0], lw=0.9)
    axes.plot([median] * 2, [y, y + 0.72], color="#1c2430", lw=1.3)
    middle = duration(median * worth).replace("us", "µs")
    words = f"{len(rows):,} rows, median {middle}" if len(rows) > 1 else f"1 row, {middle}"
    axes.annotate(words, (1.0, y + 0.3), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=8.5)


def comparison(found: Comparison, names: tuple[str, str]) -> str:
    """Second against first table, logarithmic, with the line of equal latency. names: of the tables."""
    kinds = [kind for kind, _ in Counter(pair.spec.kind for pair in found.pairs).most_common()]
    looks = dict(zip(kinds, LOOKS))
    unit, worth = _unit(us for pair in found.pairs for us in (pair.first_us, pair.second_us))
    shorts = [shorten(name, 40) for name in names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 5.2))
        both, ratios = figure.subplots(1, 2)
        for kind in reversed(kinds):
            mine, look = [pair for pair in found.pairs if pair.spec.kind == kind], looks.get(kind, OTHER)
            _points(both, [Point(p.first_us / worth, p.second_us / worth, p.interpolated) for p in mine], look)
            _points(ratios, [Point(p.first_us / worth, p.ratio, p.interpolated) for p in mine], look)
        values = [us / worth for pair in found.pairs for us in (pair.first_us, pair.second_us)]
        ends = min(values) / 1.4, max(values) * 1.4
        both.plot(ends, ends, **EQUAL)
        both.plot(ends, [end * found.ratio for end in ends], **MEDIAN)
        ratios.axhline(1.0, **EQUAL)
        ratios.axhline(found.ratio, **MEDIAN)
        for name in ("x", "y"):
            _scale(both, name, ends, logarithmic=True)
        both.set(xlim=ends, ylim=ends, aspect="equal")
        _scale(ratios, "x", [pair.first_us / worth for pair in found.pairs])
        _scale(ratios, "y", [1.0, *(pair.ratio for pair in found.pairs)])
        rows = "1 common row" if len(found.pairs) == 1 else f"{len(found.pairs):,} common rows"
        rank = "undefined" if found.spearman is None else f"{found.spearman:.3f}"
        both.set_title(f"{rows}{'' if found.by_site else ', sites aside'} · Spearman correlation {rank}")
        ratios.set_title(f"median ratio {found.ratio:.3g}")
        both.set_ylabel(f"latency in {shorts[1]}, {unit}")
        ratios.set_ylabel(f"{shorten(names[1], 24)} / {shorten(names[0], 24)}")
        for axes in (both, ratios):
            axes.set_xlabel(f"latency in {shorts[0]}, {unit}")
        shown = {shorten(kind): look for kind, look in looks.items()}
        shown |= {f"{len(kinds) - len(looks)} other kinds": OTHER} if len(kinds) > len(looks) else {}
        lines = [Line2D([], [], label="equal", **EQUAL), Line2D([], [], label="median ratio", **MEDIAN)]
        _legend(figure, shown, "", any(pair.interpolated for pair in found.pairs), lines)
        return svg(figure, "Two tables on their common rows", "comparison")


def _points(axes: Axes, points: Sequence[Point], look: tuple[str, str]) -> None:
    """Measured points filled, interpolated ones hollow."""
    color, marker = look
    size = 4.6 if len(points) <= 400 else 3.2
    for hollow in (False, True):
        mine = [p for p in points if p.interpolated == hollow]
        if mine:
            fill: dict[str, Any] = (
                {"mfc": "white", "mec": color, "mew": 1.0} if hollow else {"mfc": color, "mec": "white", "mew": 0.4}
            )
            axes.plot([p.x for p in mine], [p.us for p in mine], marker, ms=size, ls="", **fill)


def _scale(
    axes: Axes, name: Literal["x", "y"], values: Sequence[float], logarithmic: bool | None = None, wide: bool = False
) -> None:
    """Logarithmic from LOG_FROM on, unless told; ticks at 1, 2, 5 times powers of ten where they have room."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = min(values), max(values)
    if logarithmic or (logarithmic is None and low > 0 and high / low >= LOG_FROM):
        axes.set(**{f"{name}scale": "log"})
        dense = wide or math.log10(high / low) <= DENSE_DECADES
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if dense else (1.0,)))
        axis.set_minor_locator(NullLocator())
    elif low == high:
        axis.set_major_locator(FixedLocator([low]))
    else:
        axis.set_major_locator(MaxNLocator(nbins=5, integer=all(float(value).is_integer() for value in values)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _number(value: float) -> str:
    """20000 -> 20k, 3e6 -> 3M, 0.05 -> 0.05"""
    for worth, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(worth, 1e4):
            return f"{value / worth:.4g}{suffix}"
    return f"{value:.4g}"


def _unit(us: Iterable[float]) -> tuple[str, float]:
    """Unit of an axis, and what it is worth in microseconds, by the median."""
    middle = float(np.median(list(us)))
    return ("ms", 1e3) if middle >= 1e4 else ("ns", 1e-3) if middle < 0.1 else ("µs", 1.0)


def _on(device: str) -> str:
    return f"{shorten(device)} · " if device else ""


def _legend(
    figure: Figure,
    looks: Mapping[str, tuple[str, str]],
    title: str,
    hollow: bool,
    lines: Sequence[Line2D] = (),
) -> None:
    """A marker for each name, then `lines`, then what hollow means where it occurs."""
    marks = [Line2D([], [], color=c, marker=m, ms=5, ls="", label=name) for name, (c, m) in looks.items()]
    marks += lines
    if hollow:
        marks.append(Line2D([], [], mfc="white", mec=FAINT, marker="o", ms=5, ls="", label="hollow: interpolated"))
    if marks:
        sizes = [6 + len(str(mark.get_label())) for mark in marks]
        columns = len(marks) if sum(sizes) <= LEGEND_WIDTH else max(1, LEGEND_WIDTH // max(sizes))
        legend = figure.legend(handles=marks, loc="outside upper left", ncols=columns, title=title)
        legend.set_alignment("left")
        legend.get_title().set_fontsize(9.5)
