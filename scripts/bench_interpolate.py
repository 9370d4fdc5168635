"""How few rows of a table suffice: a share of them is kept as the sampling plan chooses, the rest is interpolated.

    python scripts/bench_interpolate.py --table tables/bitfusion.csv

The share is of all rows. Errors are |interpolated / row - 1| over the rows that were left out; rows outside the range
of those that were kept are not interpolated and are counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from lut.cli import guard
from lut.errors import LutError
from lut.plan import Plan, plan
from lut.table import LatencyTable
from search.environment import environment
from search.outcome import table


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--table", required=True, metavar="CSV")
    p.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.35], help="of all rows (%(default)s)")
    p.add_argument("--lanes", type=int, default=1, help="width of the device's vectors; 1: not known (%(default)s)")
    p.add_argument("--json", action="store_true")
    return p


def sample(rows: LatencyTable, share: float, lanes: int) -> Plan:
    """The sampling plan whose rows are at most `share` of all. Raises LutError when the least that it takes is more."""
    specs = [spec for spec in rows if not spec.site]
    for part in np.linspace(share, 0.001, 200):
        chosen = plan(specs, lanes, float(part), small_group=2)
        if len(chosen.measure) <= share * len(specs):
            return chosen
    raise LutError(f"{rows.path}: {share:.0%} of {len(specs)} rows do not reach the corners of every group; take more")


def errors(rows: LatencyTable, chosen: Plan, lanes: int) -> tuple[np.ndarray, int]:
    """Relative errors of the rows that were left out, and how many of them are out of range."""
    rules = {**rows.provenance, "interpolation": "kriging", "lanes": str(lanes)}
    known = LatencyTable({spec: rows[spec] for spec in chosen.measure}, rules, rows.path)
    inside = sorted(set(chosen.interpolate) - set(known.missing(chosen.interpolate)), key=repr)
    found = np.array([abs(known.lookup(spec).us / rows[spec].us - 1) for spec in inside])
    return found, len(chosen.interpolate) - len(inside)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def run() -> int:
        rows = LatencyTable.read(args.table)
        results = []
        for share in args.shares:
            chosen = sample(rows, share, args.lanes)
            found, outside = errors(rows, chosen, args.lanes)
            median, p90 = (float(np.quantile(found, q)) for q in (0.5, 0.9))
            results.append({"share": len(chosen.measure) / len(rows), "kept": len(chosen.measure),
                            "interpolated": len(found), "outside": outside, "median": median, "p90": p90})  # fmt: skip
        if args.json:
            print(json.dumps({"results": results, "environment": environment(["python", *sys.argv], 0)}, indent=1))
            return 0
        lines = [("rows kept", "share", "interpolated", "out of range", "median error", "90th percentile")]
        lines += [(str(r["kept"]), f"{r['share']:.1%}", str(r["interpolated"]), str(r["outside"]), f"{r['median']:.2%}",
                   f"{r['p90']:.2%}") for r in results]  # fmt: skip
        print(table(lines))
        return 0

    return guard(run)


if __name__ == "__main__":
    sys.exit(main())
