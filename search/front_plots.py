"""Fronts of several seeds in one figure: accuracy against one cost per panel, means with their standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from .plots import SERIES, STYLE, plain_log, svg

MARKERS = ("D", "o", "s", "^", "v", "P", "X", "<", ">", "*")


@dataclass(frozen=True)
class Dot:
    """One network over seeds. cost: in the panel's unit. score: mean, in the panel's scale. error: the standard error
    of that mean, 0 where there is one seed."""

    cost: float
    score: float
    error: float


@dataclass(frozen=True)
class Panel:
    """series: the dots of each name; a name has the same look in every panel."""

    title: str
    cost: str
    score: str
    series: Mapping[str, Sequence[Dot]]


def fronts(panels: Sequence[Panel], columns: int = 2) -> str:
    """One panel per cost, costs on a logarithmic axis; dots of a series are joined in the order of their costs.

    Raises ValueError without a dot."""
    names = list(dict.fromkeys(name for panel in panels for name, dots in panel.series.items() if dots))
    if not names:
        raise ValueError("no networks to draw")
    lines = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * min(columns, len(panels)), 3.7 * lines))
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(lines, min(columns, len(panels)), i + 1)
            axes.set_xscale("log")
            for name, dots in panel.series.items():
                if not dots:
                    continue
                place, ordered = names.index(name), sorted(dots, key=lambda dot: dot.cost)
                axes.errorbar(
                    [dot.cost for dot in ordered],
                    [dot.score for dot in ordered],
                    [dot.error for dot in ordered],
                    color=SERIES[place % len(SERIES)],
                    marker=MARKERS[place % len(MARKERS)],
                    ms=7 if place == 0 else 5,
                    mec="white",
                    mew=0.6,
                    lw=2.0 if place == 0 else 1.0,
                    ls="-" if place < len(SERIES) else "--",
                    zorder=3 if place == 0 else 2,
                    capsize=2.5,
                    label=name,
                )
            plain_log(axes.xaxis)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.cost)
            axes.set_ylabel(panel.score)
        known = {name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels())}
        figure.legend([known[name] for name in names], names, loc="outside lower center", ncols=4, handlelength=1.6)
        return svg(figure, "Accuracy against cost, means of seeds", "fronts")
