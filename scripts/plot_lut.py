"""Draw a latency table: latency by channels, by kind of operator, and against another table.

    python scripts/plot_lut.py tables/host-cpu.csv --kind conv2d --where kernel=3x3 w_bits=4
    python scripts/plot_lut.py tables/host-cpu.csv tables/pixel-1.csv --out comparison.svg

A folder gets every figure. A file gets one: the comparison where there are two tables, else latency by channels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from lut.cli import guard
from lut.columns import PARSE, SPEC_COLUMNS, describe, format_cell, nearest
from lut.compare import Comparison, compare
from lut.errors import LutError
from lut.files import atomic_write
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable

OUTLIERS = 3
"""Common rows farthest from the median ratio that are printed."""


def parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("table", metavar="TABLE.csv")
    p.add_argument("other", metavar="OTHER.csv", nargs="?", help="a table to compare with")
    p.add_argument("--kind", help="rows of this kind alone")
    p.add_argument("--where", nargs="+", default=[], metavar="FIELD=VALUE", help="rows with these values alone")
    p.add_argument("--out", metavar="SVG|FOLDER", help="a .svg file, or a folder (<table>-figures)")
    p.add_argument("--json", action="store_true", help="print the files and the comparison as JSON")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return guard(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    wanted = conditions(args.kind, args.where)
    tables = [LatencyTable.read(path) for path in (args.table, args.other) if path is not None]
    rows = [select(table, wanted) for table in tables]

    from search import table_plots

    out = Path(args.out or f"{Path(args.table).stem}-figures")
    names = (titles := [title(table, tables) for table in tables])[0], titles[-1]
    found = compare(rows[0], rows[1], names) if len(rows) > 1 else None
    figures: dict[Path, str] = {}
    if found is not None:
        figures[out if out.suffix == ".svg" else out / "comparison.svg"] = table_plots.comparison(found, names)
    elif out.suffix == ".svg":
        figures[out] = table_plots.channels(rows[0], names[0])
    if out.suffix != ".svg":
        figures[out / "channels.svg"] = table_plots.channels(rows[0], names[0])
        figures[out / "latencies.svg"] = table_plots.latencies(rows[0], names[0])
    for path, svg in figures.items():
        atomic_write(path, svg)
    body = {"figures": list(map(str, figures)), "rows": [len(r) for r in rows]}
    if found is not None:
        body["comparison"] = numbers(found)
    print(json.dumps(body, indent=1) if args.json else text(body))
    return 0


def conditions(kind: str | None, where: list[str]) -> dict[str, Any]:
    """--kind and --where as values by field of OpSpec. Raises LutError for what is no field or not a value of it."""
    wanted: dict[str, Any] = {} if kind is None else {"kind": kind}
    for item in where:
        name, equals, cell = item.partition("=")
        if not equals:
            raise LutError(f"--where: {item!r} is not field=value, such as kernel=3x3")
        if name not in SPEC_COLUMNS:
            raise LutError(f"--where: {name}: no field of an operator; {nearest(name, SPEC_COLUMNS)}")
        if name in wanted:
            raise LutError(f"--where: {name} is given twice")
        try:
            wanted[name] = PARSE[name](cell)
        except ValueError as error:
            raise LutError(f"--where: {name}: {error}") from None
    return wanted


def select(table: LatencyTable, wanted: dict[str, Any]) -> dict[OpSpec, Latency]:
    """The rows with the wanted values. Raises LutError that says what there is where none has them."""
    rows = dict(table)
    if not rows:
        raise LutError(f"{table.path}: the table has no rows")
    for name, value in wanted.items():
        there = Counter(format_cell(name, getattr(spec, name)) for spec in rows)
        rows = {spec: latency for spec, latency in rows.items() if getattr(spec, name) == value}
        if not rows:
            known = [cell or "(nothing)" for cell, _ in there.most_common(12)]
            raise LutError(
                f"{table.path}: {name}: no row has {format_cell(name, value)!r}; {nearest(str(value), known)}"
            )
    return rows


def title(table: LatencyTable, tables: list[LatencyTable]) -> str:
    """The device's name; the file's where that is missing or names both tables."""
    device = table.provenance.get("device", "")
    alone = [other.provenance.get("device", "") for other in tables].count(device) == 1
    return device if device and alone else table.path.stem


def numbers(found: Comparison) -> dict[str, Any]:
    """The comparison without its points; the outliers' ratios are relative to the median ratio."""
    far = sorted(found.pairs, key=lambda pair: -max(pair.ratio / found.ratio, found.ratio / pair.ratio))[:OUTLIERS]
    return {
        "rows": len(found.pairs),
        "sites_aside": not found.by_site,
        "spearman": found.spearman,
        "median_ratio": found.ratio,
        "outliers": [{"row": describe(pair.spec), "ratio": pair.ratio} for pair in far],
    }


def text(body: dict[str, Any]) -> str:
    lines = list(body["figures"])
    if found := body.get("comparison"):
        rank = "undefined" if found["spearman"] is None else f"{found['spearman']:.3f}"
        aside = " (sites aside)" if found["sites_aside"] else ""
        lines.append(f"{found['rows']} common rows{aside}: Spearman {rank}, median ratio {found['median_ratio']:.3g}")
        lines += [f"  {far['ratio']:.3g} x: {far['row']}" for far in found["outliers"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
