"""Explain a latency table to the person who has one.

python -m lut describe tables/host-cpu.csv
python -m lut describe tables/pixel.csv --specs specs.csv      # which of these operators the table can't answer for
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from .cli import guard
from .describe import WHOLE_GRID, coverage, duration, percent, summary
from .table import LatencyTable

WIDTH = 116
SHOWN_KINDS = 6
"""Kinds whose fields are written out; a table of all kinds stands above them."""
SHOWN_VALUES = 8
MADE = (
    "profiler",
    "origin",
    "unit",
    "date",
    "cpu",
    "isa",
    "threads",
    "clock",
    "compiler",
    "flags",
    "kernels",
    "spread",
)
RULED = (
    "device",
    "collapse",
    "interpolation",
    "lanes",
    "word",
    "free",
    "alias",
    "promote",
    "ignores",
    "held_out",
    "calibration_",
)


def parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m lut",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    d = commands.add_parser("describe", help="coverage, ranges, provenance and look-up rules of a table")
    d.add_argument("table", metavar="TABLE.csv")
    d.add_argument("--specs", metavar="CSV", help="operators to look up: OpSpec's columns; a table will do")
    d.add_argument("--json", action="store_true", help="print the result as JSON, times in microseconds")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return guard(lambda: run_describe(args))


def run_describe(args: argparse.Namespace) -> int:
    table = LatencyTable.read(args.table)
    body = summary(table)
    if args.specs is not None:
        from .build import read_specs

        body["coverage"] = coverage(table, read_specs(args.specs))
    print(json.dumps(body, indent=1) if args.json else page(body))
    return 0


def page(body: Mapping[str, Any]) -> str:
    """A summary (and its coverage, if any) as text, at most WIDTH characters wide."""
    sources = ", ".join(f"{count} {source}" for source, count in body["sources"].items()) or "it is empty"
    said = body["provenance"]
    lines = [
        f"{body['table']}: {_many(body['rows'], 'row')} of {body['device'] or 'a device without a name'} ({sources})"
    ]
    made = (f"{name} {said[name]}{' MHz' if _bare_clock(name, said) else ''}" for name in MADE if said.get(name))
    lines += _wrapped("made by", "; ".join(made) or "not said")
    rest = [f"{name}: {value}" for name, value in said.items() if name not in MADE and not name.startswith(RULED)]
    lines += _wrapped("header", "; ".join(rest)) if rest else []
    lines += ["", *_latencies(body["kinds"])] if body["kinds"] else []
    lines += [""] if body["kinds"] else []
    for kind in body["kinds"][:SHOWN_KINDS]:
        lines += [kind["kind"], *(line for name, text in _facts(kind) for line in _wrapped(name, text))]
    if more := [kind["kind"] for kind in body["kinds"][SHOWN_KINDS:]]:
        lines += ["", *textwrap.wrap(f"and {len(more)} kinds more (--json has all): {', '.join(more)}", WIDTH)]
    lines += ["", "look-up"]
    lines += [line for rule in body["rules"] for line in _wrapped(*rule.split(": ", 1))]
    return "\n".join([*lines, *(_coverage(body["coverage"]) if "coverage" in body else [])])


def _latencies(kinds: list[Mapping[str, Any]]) -> list[str]:
    """A line per kind; p10..p90 is the distance between these quantiles over the latency."""
    rows = [("kind", "rows", "lowest", "median", "highest", "p10..p90: median", "90 % of rows", "samples", "also")]
    for kind in kinds:
        us, spread, n = kind["latency_us"], kind["spread"], kind["n"]
        wide = (percent(spread["median"]), f"<= {percent(spread['p90'])}") if spread else ("-", "-")
        samples = str(n["min"]) if n["min"] == n["max"] else f"{n['min']}-{n['max']}"
        times = (duration(us[name]) for name in ("min", "median", "max"))
        also = " ".join(name.partition("_")[0] for name, count in kind["optional"].items() if count)
        rows.append((kind["kind"], str(kind["rows"]), *times, *wide, samples, also))
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]] for row in rows)
    return ["  ".join(row).rstrip() for row in cells]


def _facts(kind: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, text) of what one kind's rows cover."""
    facts = [("channels", f"in {_range(kind['c_in'])}; out {_range(kind['c_out'])}")]
    shape = f"image {_values(kind['size'])}; kernel {_values(kind['kernel'])}; stride {_values(kind['stride'])}"
    odd = {"batch": {"1"}, "dilation": {"1x1"}}
    shape += "".join(f"; {n} {_values(kind[n])}" for n, usual in odd.items() if set(map(str, kind[n])) != usual)
    facts += [("shape", f"{shape}; groups {_values(kind['groups'])}"), ("bits", _values(kind["bits"]))]
    if len(kind["sources"]) > 1 or "interpolated" in kind["sources"]:
        facts.append(("source", _values(kind["sources"])))
    if sites := kind["sites"]["distinct"]:
        dots = ", .." if sites > len(kind["sites"]["first"]) else ""
        facts.append(
            ("sites", f"{_many(kind['sites']['rows'], 'row')} at {sites}: {', '.join(kind['sites']['first'])}{dots}")
        )
    if kind["attrs"]:
        facts.append(("attrs", "; ".join(f"{name} = {_values(values)}" for name, values in kind["attrs"].items())))
    grid, near = kind["grid"], kind["grid_within_geometries"]
    within = "one geometry" if near["grids"] == 1 else f"each of {near['grids']} geometries"
    text = f"{near['measured']} of {near['cells']} cells measured, channels x bits in {within}"
    if near["grids"] == near["cells"] > 1:
        text = "none; every row has a geometry of its own"
    elif near["grids"] > 1 and grid["share"] >= WHOLE_GRID:
        text += f"; {grid['measured']} of {grid['cells']} with all values combined"
    if near["share"] >= WHOLE_GRID and near["holes"]:
        text += f"; first hole: {near['holes'][0]}"
    return [*facts, ("grid", text)]


def _bare_clock(name: str, said: Mapping[str, str]) -> bool:
    return name == "clock" and said[name].replace(".", "", 1).isdigit()


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _values(counts: Mapping[Any, int]) -> str:
    """Values, with how often each occurs where there are several."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    shown = [f"{value} ({count})" for value, count in list(counts.items())[:SHOWN_VALUES]]
    return ", ".join(shown) + (f", and {len(counts) - SHOWN_VALUES} more" if len(counts) > SHOWN_VALUES else "")


def _range(counts: Mapping[int, int]) -> str:
    values = sorted(counts)
    if len(values) <= SHOWN_VALUES:
        return ", ".join(map(str, values))
    return f"{values[0]} to {values[-1]} ({len(values)} values)"


def _coverage(found: Mapping[str, Any]) -> list[str]:
    answers = ", ".join(f"{count} {source}" for source, count in found["answers"].items()) or "none"
    lines = ["", f"specs: {_many(found['specs'], 'operator')}, answered: {answers}; missing: {found['missing']}"]
    for near in found["nearest"]:
        if near["row"] is None:
            lines.append(f"  {near['spec']}")
            continue
        differs = ", ".join(
            f"{name} {asked or '-'}, not {row or '-'}" for name, (asked, row) in near["differs"].items()
        )
        text = f"nearest: {near['row']}, {duration(near['us'])} ({differs})"
        lines += [f"  {near['spec']}", *textwrap.wrap(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 13)]
    return lines


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16)


if __name__ == "__main__":
    sys.exit(main())
