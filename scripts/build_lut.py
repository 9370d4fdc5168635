"""Measure a latency table: plan which rows, run them on the device, say how well the rest interpolates.

python scripts/build_lut.py --specs specs.csv
python scripts/build_lut.py --specs tables/host-cpu.csv --every-row --force     # the same rows once more
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from lut.build import read_specs, run_build
from lut.cli import guard
from lut.columns import describe
from lut.errors import LutError
from lut.spec import how


def parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--device", default="host-cpu", help="a device that ships with Lutier, or a .yaml file (%(default)s)"
    )
    p.add_argument(
        "--specs", required=True, metavar="CSV", help="operators to answer for: OpSpec's columns; a table will do"
    )
    p.add_argument("--out", metavar="CSV", help="the table (tables/<device>.csv)")
    p.add_argument("--quick", action="store_true", help="measure fewer rows and interpolate more")
    p.add_argument("--every-row", action="store_true", help="measure every row, interpolate none")
    p.add_argument("--schedules", type=int, default=1, metavar="N",
                   help="try N schedules of every kernel and keep the fastest (%(default)s)")  # fmt: skip
    p.add_argument("--tune", type=int, default=0, metavar="N",
                   help="N trials of MetaSchedule per row that has a search space, kept where they beat the template; "
                   "seconds to minutes a row (%(default)s)")  # fmt: skip
    p.add_argument("--force", action="store_true", help="measure anew, whatever machine made the table that is there")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    return guard(lambda: run(args), shlex.join(["python", "scripts/build_lut.py", *given]))


def run(args: argparse.Namespace) -> int:
    out = Path(args.out or f"tables/{Path(args.device).stem}.csv")
    start = time.monotonic()
    if args.schedules < 1:
        raise LutError(f"--schedules {args.schedules}: at least 1, the default schedule, is tried")
    if args.tune < 0:
        raise LutError(f"--tune {args.tune}: a number of trials, 0 for none")
    result = run_build(
        args.device,
        read_specs(args.specs),
        out,
        quick=args.quick,
        force=args.force,
        every_row=args.every_row,
        schedules=args.schedules,
        tune=args.tune,
    )
    seconds = time.monotonic() - start
    if args.json:
        body = {
            "table": str(out),
            "rows": len(result.table),
            "measured": result.measured,
            "seconds": round(seconds, 1),
            "failures": [
                {"row": describe(s), "reason": f.reason, "detail": f.detail} for s, f in result.failures.items()
            ],
            "provenance": dict(result.table.provenance),
        }
        print(json.dumps(body, indent=1))
        return 0
    print(
        f"{out}: {len(result.table)} rows, {result.measured} of them {how(result.table.source)} now, in {seconds:.0f} s"
    )
    for spec, failure in result.failures.items():
        print(f"  not measured: {describe(spec)}: {failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
