"""Turn somebody else's latency table into one of Lutier's.

    python scripts/import_lut.py pixel.csv --device pixel-1 --unit ms \\
        --columns "latency_us=lat,c_in=ic,c_out=oc,height=h,width=w,kernel=k,stride=s,pad=p" \\
        --set kind=conv2d batch=1 dilation=1 groups=1 w_bits=8 in_bits=8 out_bits=8

Equal column names need no entry in --columns. What docs/your-device.md says of a column holds for its cells.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lut.cli import guard
from lut.errors import LutError
from lut.importers import IMPORTERS


def pairs(items: list[str], option: str) -> dict[str, str]:
    """'a=b' items as a dict. Raises LutError for an item without '=' or a name given twice."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise LutError(f"{option}: {item!r} is not name=value")
        if name.strip() in found:
            raise LutError(f"{option}: {name.strip()} is given twice")
        found[name.strip()] = value.strip()
    return found


def parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("file", metavar="FILE")
    p.add_argument("--format", choices=sorted(IMPORTERS), default="csv", help="kind of source (%(default)s)")
    p.add_argument("--columns", default="", metavar="OURS=THEIRS,...", help="their column for each of ours")
    p.add_argument("--set", nargs="+", default=[], metavar="OURS=VALUE", help="constants for what the file leaves out")
    p.add_argument("--device", required=True, help="name of the device that the rows were measured on")
    p.add_argument("--unit", required=True, choices=("ns", "us", "ms", "s"), help="of the latencies in FILE")
    p.add_argument("--out", metavar="CSV", help="the table (tables/<device>.csv)")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return guard(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    out = Path(args.out or f"tables/{args.device}.csv")
    table = IMPORTERS[args.format](
        args.file,
        device=args.device,
        columns=pairs([c for c in args.columns.split(",") if c], "--columns"),
        constants=pairs(args.set, "--set"),
        unit=args.unit,
    )
    if not table:
        raise LutError(f"{args.file}: no rows")
    table.write(out)
    if args.json:
        print(json.dumps({"table": str(out), "rows": len(table), "provenance": dict(table.provenance)}, indent=1))
    else:
        print(f"{out}: {len(table)} rows of {args.device}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
