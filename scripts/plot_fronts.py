"""Fronts from finished sweeps (scripts/bench_search.py): tables, and one figure with a panel for each cost.

    python -m scripts.plot_fronts docs/results/fronts-resnet8 docs/results/fronts-resnet8-bits --out docs/fronts.svg

A folder holds one sweep per seed. Folders of the same network share their panels: a search whose space has full width
alone is the series `bits alone`, any other one `found`; plain networks of the same bits are one series over their
widths, and count once where both folders have them. Every accuracy is a mean over the seeds that trained the network,
with the standard error of that mean in brackets; costs have the range over these seeds. `best plain` is chosen per seed
as bench_search.py does it.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lut.cli import guard
from lut.errors import InputError
from lut.files import atomic_write
from scripts.bench_search import FINISHED, RIVALS, compare, finished
from search.costs import FIELDS
from search.outcome import table
from search.pareto import parse_point
from search.plots import UNITS

FOUND, BITS_ALONE = "found", "bits alone"


@dataclass(frozen=True)
class Sweep:
    """One seed of a folder. network: model, data and device. series: what its searches are called. points: as
    finished.json has them."""

    network: tuple[str, str, str]
    series: str
    budgets: tuple[str, ...]
    points: Sequence[Mapping[str, Any]]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="RUN", help="an --out of bench_search.py")
    p.add_argument("--out", type=Path, metavar="FILE.svg", help="write the figure")
    p.add_argument("--markdown", action="store_true", help="tables as Markdown has them")
    return p


def sweeps(folder: Path) -> Iterator[Sweep]:
    """The finished seeds of a folder. Raises InputError where there is none, or a damaged one."""
    paths = sorted(folder.glob(f"seed*/{FINISHED}"))
    if not paths:
        raise InputError(f"{folder}: no seed*/{FINISHED} in it; bench_search.py --out writes them")
    for path in paths:
        config, points = finished(path)
        series = BITS_ALONE if config.space.widths == (1.0,) else FOUND
        yield Sweep((config.model.name, config.data.name, config.device), series, config.sweep, points)


def metrics_of(budgets: str) -> list[str]:
    return [budget.metric for budget in parse_point(budgets)]


def family(name: str) -> str:
    """The series of a plain network: `uniform 8-bit` and `8-bit, 0.5 wide` are both `8-bit`."""
    return name.removeprefix("uniform ").partition(",")[0]


def plain_points(seeds: Sequence[Sweep]) -> list[Mapping[str, Any]]:
    """Those of the whole space's sweeps, which those of bits alone beside them have again; else of all."""
    whole = [sweep for sweep in seeds if sweep.series == FOUND]
    return [point for sweep in whole or seeds for point in sweep.points if point["kind"] in RIVALS]


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, 0 of one value."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)


def dots(seeds: Sequence[Sweep], metric: str) -> dict[str, list[tuple[float, float, float]]]:
    """Of each series: cost in the metric's base unit, top-1 in percent, standard error; one per network."""
    seen: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    named = [(sweep.series, p) for sweep in seeds for p in sweep.points if p["kind"] == "found"]
    searched = [(series, p) for series, p in named if metric in metrics_of(p["name"])]
    for series, point in [*searched, *((family(p["name"]), p) for p in plain_points(seeds))]:
        if point[FIELDS[metric]] is not None:
            seen[series, point["name"]].append((point[FIELDS[metric]], 100 * point["top1"]))
    found: dict[str, list[tuple[float, float, float]]] = {FOUND: [], BITS_ALONE: []}
    for (series, _), networks in seen.items():
        costs, scores = zip(*networks)
        found.setdefault(series, []).append((float(np.mean(costs)), *mean(scores)))
    return found


def metrics_in(seeds: Sequence[Sweep]) -> list[str]:
    return list(dict.fromkeys(metric for sweep in seeds for text in sweep.budgets for metric in metrics_of(text)))


def heads(metrics: Sequence[str]) -> list[str]:
    """Headings of `costs`."""
    return [f"{metric}, {UNITS[metric][0]}" for metric in metrics]


def costs(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Per metric: the range of what these points cost."""
    return [span([p[FIELDS[m]] / UNITS[m][1] for p in points if p[FIELDS[m]] is not None]) for m in metrics]


def limited(seeds: Sequence[Sweep], metric: str) -> list[tuple[str, str]]:
    """Budgets of these sweeps that limit the metric, and their limit."""
    unit, worth = UNITS[metric]
    found = {p["name"]: p["limits"] for s in seeds for p in s.points if p["kind"] == "found"}
    texts = dict.fromkeys(text for s in seeds for text in s.budgets if metric in metrics_of(text))
    return [(text, f"{found[text][FIELDS[metric]] / worth:.1f} {unit}") for text in texts]


def inside(seeds: Sequence[Sweep], text: str) -> str:
    """`3 of 3`: of how many sweeps the network of this budget keeps to it."""
    return f"{sum(compare(sweep.points, text)['inside'] for sweep in seeds)} of {len(seeds)}"


def found_rows(seeds: Sequence[Sweep], metric: str) -> list[tuple[str, ...]]:
    """Per budget that has the metric: what was found, and the best plain network inside."""
    whole, metrics = [s for s in seeds if s.series == FOUND], metrics_in(seeds)
    rows = [("budget", "limit", *heads(metrics), "found %", "best plain %", "plain network", "gain", "inside")]
    for text, limit in limited(whole, metric):
        sweeps = [s for s in whole if text in s.budgets]
        pairs = [compare(s.points, text) for s in sweeps]
        rivalled = [pair for pair in pairs if pair["rival"] is not None]
        names = ", ".join(sorted({str(pair["rival_name"]) for pair in rivalled}))
        gains = [pair["found"] - pair["rival"] for pair in rivalled]
        plain = percent([pair["rival"] for pair in rivalled])
        found = percent([pair["found"] for pair in pairs])
        spent = costs([p for s in sweeps for p in s.points if p["name"] == text], metrics)
        rows.append((text, limit, *spent, found, plain, names or "-", percent(gains), inside(sweeps, text)))
    return rows


def bits_rows(seeds: Sequence[Sweep]) -> list[tuple[str, ...]]:
    """Per budget of a search of bits alone: what it found, and what the whole space has."""
    alone, metrics = [s for s in seeds if s.series == BITS_ALONE], metrics_in(seeds)
    rows = [("budget", "limit", *heads(metrics), f"{BITS_ALONE} %", "found %", "inside")]
    for metric in metrics:
        for text, limit in limited(alone, metric):
            found = {
                series: [p for s in seeds if s.series == series for p in s.points if p["name"] == text]
                for series in (FOUND, BITS_ALONE)
            }
            scores = [percent([p["top1"] for p in found[series]]) for series in (BITS_ALONE, FOUND)]
            sweeps = [s for s in alone if text in s.budgets]
            rows.append((text, limit, *costs(found[BITS_ALONE], metrics), *scores, inside(sweeps, text)))
    return rows


def plain_rows(seeds: Sequence[Sweep]) -> list[tuple[str, ...]]:
    """Every plain network, in the order of the sweeps."""
    metrics, points = metrics_in(seeds), plain_points(seeds)
    same = {p["name"]: [q for q in points if q["name"] == p["name"]] for p in points}
    rows = [("plain network", *heads(metrics), "top-1 %")]
    return rows + [(n, *costs(each, metrics), percent([p["top1"] for p in each])) for n, each in same.items()]


def span(values: Sequence[float]) -> str:
    """`79.8 to 84.0`: the least and the largest; one figure where they agree, `-` of nothing."""
    if not values:
        return "-"
    least, largest = f"{min(values):.1f}", f"{max(values):.1f}"
    return least if least == largest else f"{least} to {largest}"


def percent(values: Sequence[float]) -> str:
    """`87.19 (0.11)`: mean and standard error in percent; `-` of nothing."""
    if not values:
        return "-"
    middle, error = mean([100 * value for value in values])
    return f"{middle:.2f} ({error:.2f})" if len(values) > 1 else f"{middle:.2f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def run() -> int:
        from search.front_plots import Dot, Panel, fronts

        by_network: dict[tuple[str, str, str], list[Sweep]] = defaultdict(list)
        for folder in args.runs:
            for sweep in sweeps(Path(folder)):
                by_network[sweep.network].append(sweep)
        panels = []
        for (model, data, device), seeds in by_network.items():
            network = f"{model}, {data}, {Path(device).stem}"
            metrics = metrics_in(seeds)
            print(network, end="\n\n")
            for rows in (*(found_rows(seeds, metric) for metric in metrics), bits_rows(seeds), plain_rows(seeds)):
                if len(rows) > 1:
                    print(markdown(rows) if args.markdown else table(rows), end="\n\n")
            for metric in metrics:
                unit, worth = UNITS[metric]
                series = {
                    name: [Dot(cost / worth, score, error) for cost, score, error in each]
                    for name, each in dots(seeds, metric).items()
                }
                cost = "packed weights" if metric == "weights" else metric
                panels.append(Panel(network, f"{cost}, {unit}", "top-1, %", series))
        if args.out:
            atomic_write(args.out, fronts(panels) + "\n")
            print(args.out)
        return 0

    return guard(run, "the same command")


if __name__ == "__main__":
    sys.exit(main())
