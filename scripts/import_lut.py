"""Turn somebody else's latency table into one of Lutier's.

The format is told from the file (--format auto). One example of each:

    python scripts/import_lut.py mobile_trim.yaml --device pixel-1 --out tables/pixel-1.csv       (proxylessnas)
    python scripts/import_lut.py ofa_note10/ --device note10                                      (ofa: file or folder)
    python scripts/import_lut.py mobilenetv2_latency.npy --device bitfusion --clock '500 MHz'     (haq)
    python scripts/import_lut.py BitFusion.b1.json --device bitfusion                             (apq)
    python scripts/import_lut.py hawqv3_t4.json --device t4 --network ResNet18                    (hawq)
    python scripts/import_lut.py lookup_table.txt --device xeon                                   (fbnet)
    python scripts/import_lut.py speed_cpu.txt --device xeon --unit ms                            (fbnet_lines)
    python scripts/import_lut.py fbnet_lut.json --device raspi4 --source-device raspi4            (fbnet_hwnasbench)
    python scripts/import_lut.py pixel.csv --device pixel-1 --unit ms \\
        --columns "latency_us=lat,c_in=ic,c_out=oc,height=h,width=w,kernel=k,stride=s,pad=p" \\
        --set kind=conv2d batch=1 dilation=1 groups=1 w_bits=8 in_bits=8 out_bits=8               (csv)

csv: equal column names need no entry in --columns; what docs/your-device.md says of a column holds for its cells.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lut.cli import guard
from lut.device import quantity
from lut.errors import LutError
from lut.importers import FORMATS, sniff

FLAGS = {
    "columns": "--columns",
    "constants": "--set",
    "network": "--network",
    "source_device": "--source-device",
    "clock_hz": "--clock",
}
"""An importer's option -> the flag that gives it."""


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
    p.add_argument("--format", choices=("auto", *sorted(FORMATS)), default="auto", help="kind of source (%(default)s)")
    p.add_argument("--device", required=True, help="name of the device that the rows were measured on")
    p.add_argument("--out", metavar="CSV", help="the table (tables/<device>.csv)")
    p.add_argument(
        "--unit",
        choices=("ns", "us", "ms", "s"),
        help="of the latencies in FILE: needed for csv and fbnet_lines, known of the others",
    )
    p.add_argument("--network", metavar="NAME", help="hawq: which of the file's networks, such as ResNet18")
    p.add_argument("--source-device", metavar="NAME", help="fbnet_hwnasbench: which of the file's devices")
    p.add_argument("--clock", metavar="'1 MHz'", help="haq: what turns its cycles into time ('1 MHz')")
    p.add_argument("--columns", metavar="OURS=THEIRS,...", help="csv: their column for each of ours")
    p.add_argument("--set", nargs="+", metavar="OURS=VALUE", help="csv: constants for what the file leaves out")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return guard(lambda: run(args))


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The importers' options that the command line holds. Raises LutError for a clock without a unit."""
    found: dict[str, Any] = {"network": args.network, "source_device": args.source_device}
    if args.columns is not None:
        found["columns"] = pairs([c for c in args.columns.split(",") if c], "--columns")
    if args.set is not None:
        found["constants"] = pairs(args.set, "--set")
    if args.clock is not None:
        try:
            found["clock_hz"] = quantity(args.clock, "clock")
        except ValueError as error:
            raise LutError(f"--clock: {error}") from None
    return {name: value for name, value in found.items() if value is not None}


def options(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What the format's importer is called with. Raises LutError for an option that is missing or not the format's."""
    kind, found = FORMATS[name], given(args)
    for option in found:
        if option not in kind.options:
            owners = ", ".join(n for n, other in FORMATS.items() if option in other.options)
            raise LutError(f"{FLAGS[option]} is for {owners}, and {args.file} is {name}")
    if name == "csv":
        found = {"columns": {}, "constants": {}, **found}
    if kind.unit is None:
        if args.unit is None:
            raise LutError(f"--unit: {name} files do not say their unit; give ns, us, ms or s")
        found["unit"] = args.unit
    elif args.unit not in (None, kind.unit):
        raise LutError(f"--unit {args.unit}: {name} files hold {kind.unit}; leave --unit out")
    return found


def run(args: argparse.Namespace) -> int:
    out = Path(args.out or f"tables/{args.device}.csv")
    name = sniff(args.file) if args.format == "auto" else args.format
    table = FORMATS[name].read(args.file, device=args.device, **options(args, name))
    if not table:
        raise LutError(f"{args.file}: no rows")
    table.write(out)
    if args.json:
        result = {"table": str(out), "format": name, "rows": len(table), "provenance": dict(table.provenance)}
        print(json.dumps(result, indent=1))
    else:
        print(f"{out}: {len(table)} rows of {args.device} ({name})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
