"""The report's figures, each a function from plain values to an inline SVG string that scales with the page.

Drawn by matplotlib without a display and without pyplot's global state. Text stays text (it can be selected and
searched), is never parsed as mathematics, and is escaped by the SVG writer.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from .outcome import TOP1

INK, FAINT, GRID, PLAIN, ACCENT, LIMIT = "#1c2430", "#6b7685", "#e4e8ee", "#d5dbe3", "#0b6e99", "#c2410c"
BITS = {
    1: "#fde2c8", 2: "#f9b572", 3: "#f3c98b", 4: "#5fb0b7", 5: "#4b98ab", 6: "#37809f", 7: "#2a5f8a", 8: "#234a76",
    16: "#161f3d", 32: "#161f3d",
}  # fmt: skip
UNITS = {
    "latency": ("µs", 1.0),
    "latency.p90": ("µs", 1.0),
    "ram": ("KiB", 1024.0),
    "weights": ("KiB", 1024.0),
    "flash": ("KiB", 1024.0),
    "energy": ("µJ", 1.0),
    "macs": ("million", 1e6),
    "bitops": ("million", 1e6),
    "params": ("thousand", 1e3),
}
"""Unit of an axis by metric, and what it is worth in the metric's base unit (µs, bytes, a count)."""
SIDES = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
    (6, 6, "left", "bottom"), (6, -6, "left", "top"), (-6, 6, "right", "bottom"), (-6, -6, "right", "top"),
)  # fmt: skip
"""Offsets (points) and alignments at which a label is tried."""
SERIES = ("#0b6e99", "#d97706", "#4d7c0f", "#9d3c72", "#5b5bd6", "#6b7685")
FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lutier",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#aab3bf",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
    "figure.constrained_layout.use": True,
}


def layers(rows: Sequence[Mapping[str, Any]]) -> str:
    """One bar per layer: outline the full width, filled the channels that are kept, coloured by weight bits.

    rows: {name, kind, channels, max_channels, weight_bits, act_bits}, as many as there are (tested from 1 to 60).
    """
    pitch = 0.30 if len(rows) <= 24 else 0.21
    with mpl.rc_context({**STYLE, "font.size": 9.5 if len(rows) <= 24 else 8.0}):
        figure, axes = _figure(10.4, max(1.2, 0.8 + pitch * len(rows)))
        widest = max(row["max_channels"] for row in rows)
        for y, row in enumerate(rows):
            bits = row.get("weight_bits") or 0
            axes.barh(y, row["max_channels"], height=0.72, facecolor="#f4f6f9", edgecolor="#c9d1db", linewidth=0.8)
            axes.barh(y, row["channels"], height=0.72, color=BITS.get(bits, PLAIN))
            axes.text(row["max_channels"] + widest * 0.012, y, _layer_label(row), va="center", color=INK)
        axes.set_yticks(range(len(rows)), [shorten(row["name"]) for row in rows], color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, widest * 1.32)
        axes.set_xlabel("output channels: filled = kept, outline = full width")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        used = sorted({row["weight_bits"] for row in rows if row.get("weight_bits")})
        _bits_legend(axes, used)
        return svg(figure, "Channels and bits of every layer", "layers")


def _layer_label(row: Mapping[str, Any]) -> str:
    bits = f"w{row['weight_bits']} · " if row.get("weight_bits") else ""
    activation = f"a{row['act_bits']} · " if row.get("act_bits") else ""
    return f"{bits}{activation}{row['channels']} of {row['max_channels']}"


def _bits_legend(axes: Axes, used: Sequence[int]) -> None:
    if used:
        patches = [Patch(color=BITS.get(bits, PLAIN), label=f"{bits}-bit weights") for bits in used]
        axes.legend(handles=patches, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(used))


def pareto(points: Sequence[Mapping[str, Any]], limits: Mapping[str, float], metric: str = TOP1) -> str:
    """Accuracy against latency and against weight bytes, costs on a logarithmic axis; the front is a line.

    points: {name, kind, top1, latency_us, weights_bytes}, a cost None where unknown. limits: by metric, in base
    units. metric: what `top1` is, a share for TOP1.
    """
    views = [("latency_us", "latency"), ("weights_bytes", "weights")]
    shown = [v for v in views if any(p.get(v[0]) is not None for p in points)]
    kinds = list(dict.fromkeys(p["kind"] for p in points))
    whole, scored = (100, f"{metric}, %") if metric == TOP1 else (1, metric)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.2))
        for i, (key, name) in enumerate(shown):
            unit, worth = UNITS[name]
            axes = figure.add_subplot(1, len(shown), i + 1)
            priced = [p for p in points if p.get(key) is not None]
            known = [(p[key] / worth, whole * p["top1"], p["name"], p["kind"]) for p in priced]
            axes.set_xscale("log")
            axes.margins(0.14, 0.14)
            front = _front(axes, [(x, y) for x, y, *_ in known])
            for kind in kinds:
                x, y = zip(*[(x, y) for x, y, _, k in known if k == kind] or [((), ())])
                size = 9 if kind == "found" else 7
                axes.plot(x, y, "o", color=SERIES[kinds.index(kind) % len(SERIES)], ms=size, mec="white", label=kind)
            _limit_line(axes, limits.get(name), worth, vertical=True)
            plain_log(axes.xaxis)
            axes.set_xlabel(f"{'packed weights' if name == 'weights' else name}, {unit}")
            axes.set_ylabel(scored if i == 0 else "")
            _label_points(figure, axes, [(x, y, label) for x, y, label, _ in known], front)
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=len(kinds), handlelength=1.0)
        return svg(figure, "Accuracy against cost", "pareto")


def _front(axes: Axes, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Draw a step line through the points that no other beats in both cost and accuracy; its corners."""
    corners: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda p: (p[0], -p[1])):
        if not corners or score > corners[-1][1]:
            corners += [(cost, corners[-1][1])] if corners else []
            corners.append((cost, score))
    axes.plot(*zip(*corners), color="#aab3bf", lw=1.2, zorder=1)
    return corners


def _label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], line: Sequence[tuple[float, float]]
) -> None:
    """Names beside up to 16 points, each on the side where it covers the least of what stands there already."""
    if len(points) > 16:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    frame, pixels = axes.get_window_extent(), axes.transData.transform
    corners = pixels(line)
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in pixels([(x, y) for x, y, _ in points])]
    taken += [Bbox.union([Bbox([a, a]), Bbox([b, b])]).padded(4) for a, b in itertools.pairwise(corners)]
    for x, y, name in points:
        boxes = []
        for side in SIDES:
            text = _note(axes, name, (x, y), side)
            boxes.append(text.get_window_extent(renderer))
            text.remove()
        outside = [box.width * box.height - _overlap(box, frame) for box in boxes]
        covered = [sum(_overlap(box, other) for other in taken) + 10 * out for box, out in zip(boxes, outside)]
        best = covered.index(min(covered))
        _note(axes, name, (x, y), SIDES[best])
        taken.append(boxes[best])


def _note(axes: Axes, name: str, at: tuple[float, float], side: tuple[int, int, str, str]) -> Annotation:
    dx, dy, ha, va = side
    text = axes.annotate(name, at, (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8.5)
    text.set_in_layout(False)
    return text


def _overlap(a: Bbox, b: Bbox) -> float:
    """Area that two boxes share, square pixels."""
    return max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))


def plain_log(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written out."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def history(rows: Sequence[Mapping[str, Any]]) -> str:
    """Entropy of the choices by kind, then each expected cost with its limit, over the epochs of the search.

    rows of phase `search`: {epoch, entropy: {kind: share of the maximum}, costs, limits: {metric: in base units}}.
    """
    metrics = list(dict.fromkeys(m for row in rows for m in row.get("costs", {})))
    columns = min(3, 1 + len(metrics))
    lines = math.ceil((1 + len(metrics)) / columns)
    epochs = [row["epoch"] for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.9 * lines))
        axes = figure.add_subplot(lines, columns, 1)
        kinds = list(dict.fromkeys(kind for row in rows for kind in row.get("entropy", {})))
        for color, kind in zip(SERIES, kinds):
            values = [row.get("entropy", {}).get(kind) for row in rows]
            axes.plot(epochs, values, color=color, lw=1.8, label=kind.replace("_", " "))
        axes.set_title("entropy of the choices")
        axes.set_ylim(-0.03, 1.05)
        axes.set_ylabel("share of the maximum")
        if kinds:
            axes.legend(loc="best", fontsize=8.5)
        axes.set_xlabel("epoch")
        for i, metric in enumerate(metrics):
            axes = figure.add_subplot(lines, columns, i + 2)
            unit, worth = UNITS.get(metric, ("", 1.0))
            known = [(row["epoch"], row["costs"][metric] / worth) for row in rows if metric in row.get("costs", {})]
            axes.plot(*zip(*known), color=ACCENT, lw=1.8)
            _limit_line(axes, rows[-1].get("limits", {}).get(metric), worth, vertical=False)
            axes.set_title(f"expected {metric}")
            axes.set_ylabel(unit)
            axes.set_xlabel("epoch")
            axes.margins(y=0.15)
        for axes in figure.axes:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return svg(figure, "Entropy and expected costs during the search", "history")


def agreement(ops: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]], how: str = "measured") -> str:
    """Predicted against measured, per operator and per whole network, on logarithmic axes.

    ops, networks: {network, predicted, measured} in microseconds, positive. how: the word for the latter.
    """
    panels = [("operators", ops, "o", 5), ("whole networks", networks, "D", 7)]
    names = list(dict.fromkeys(row["network"] for row in (*networks, *ops)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.3))
        shown = [panel for panel in panels if panel[1]]
        for i, (title, rows, marker, size) in enumerate(shown):
            axes = figure.add_subplot(1, len(shown), i + 1)
            values = [row[key] for row in rows for key in ("predicted", "measured")]
            low, high = min(values) / 1.3, max(values) * 1.3
            axes.fill_between([low, high], [low * 0.95, high * 0.95], [low * 1.05, high * 1.05], color="#eef2f6", lw=0)
            axes.plot([low, high], [low, high], color="#aab3bf", lw=1)
            for name in names:
                mine = [row for row in rows if row["network"] == name]
                color = SERIES[names.index(name) % len(SERIES)]
                x, y = [row["predicted"] for row in mine], [row["measured"] for row in mine]
                if mine:
                    axes.plot(x, y, marker, color=color, ms=size, mec="white", mew=0.6, ls="", label=name)
            axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
            axes.set_title(f"{title} (band: ±5 %)")
            axes.set_xlabel("predicted, µs")
            axes.set_ylabel(f"{how}, µs")
            for axis in (axes.xaxis, axes.yaxis):
                plain_log(axis)
            axes.legend(loc="upper left", fontsize=8.5)
        return svg(figure, f"Predicted against {how} latency", "agreement")


def _limit_line(axes: Axes, limit: float | None, unit: float, vertical: bool) -> None:
    if limit is None:
        return
    draw = axes.axvline if vertical else axes.axhline
    draw(limit / unit, color=LIMIT, lw=1.2, ls=(0, (4, 3)), zorder=1)
    place: dict[str, Any]
    if vertical:
        place = {"xy": (limit / unit, 1.0), "xycoords": axes.get_xaxis_transform(), "xytext": (-4, -2), "ha": "right"}
    else:
        place = {"xy": (1.0, limit / unit), "xycoords": axes.get_yaxis_transform(), "xytext": (-2, 3), "ha": "right"}
    axes.annotate(
        "budget",
        **place,
        textcoords="offset points",
        va="top" if vertical else "bottom",
        color=LIMIT,
        fontsize=8.5,
    )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def shorten(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"


def svg(figure: Figure, title: str, prefix: str) -> str:
    """The figure as an <svg> element: no prolog, no metadata, ids prefixed so that several can stand on one page."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = text.replace("'DejaVu Sans'", FONT)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{title}">{rest}'
