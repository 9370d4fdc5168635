"""Published numbers beside Lutier's own.

    python scripts/reproduce.py --list
    python scripts/reproduce.py haq-w8a8
    python scripts/reproduce.py all --luts downloads/

So far what tables alone can check: no training, no device. Each entry says what the paper reports, what comes out here,
and how the two protocols differ. --luts names the folder that holds the published files; default: `luts` beside the
folder of LUTIER_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from lut.cli import guard
from lut.errors import InputError
from search.outcome import table
from search.published import ENTRIES, Entry


def parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="entries of --list, or `all`")
    p.add_argument("--list", action="store_true", help="what can be reproduced")
    p.add_argument("--luts", metavar="FOLDER", help="the published tables")
    p.add_argument("--json", action="store_true", help="print the results, or the list, as JSON")
    return p


def folder_of(given: str | None) -> Path:
    """Where the published files are. Raises InputError."""
    data = os.environ.get("LUTIER_DATA")
    if given is None and data is None:
        raise InputError("--luts: name the folder that holds the published tables, or set LUTIER_DATA")
    folder = Path(given) if given is not None else Path(str(data)).parent / "luts"
    if not folder.is_dir():
        raise InputError(f"--luts: {folder}: no such folder")
    return folder


def chosen(names: list[str]) -> list[Entry]:
    """Entries by name, in the list's order. Raises InputError with the nearest name."""
    from lut.columns import nearest

    for name in names:
        if name != "all" and name not in ENTRIES:
            raise InputError(f"{name}: nothing is called so; {nearest(name, ENTRIES)}")
    return [entry for entry in ENTRIES.values() if "all" in names or entry.name in names]


def listing(as_json: bool) -> str:
    rows = [{"name": e.name, "what": e.what, "file": e.file} for e in ENTRIES.values()]
    return json.dumps(rows, indent=1) if as_json else table([tuple(rows[0]), *(tuple(row.values()) for row in rows)])


def run(args: argparse.Namespace) -> int:
    if args.list or not args.names:
        print(listing(args.json))
        return 0
    entries, folder = chosen(args.names), folder_of(args.luts)
    results: list[dict[str, Any]] = [entry.run(folder) for entry in entries]
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    for result in results:
        print(f"{result['name']}: {result['what']} ({result['source']})")
        print(table([("", "paper", "here", "difference"), *(tuple(row) for row in result["rows"])]))
        print(f"protocol: {result['protocol']}\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return guard(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
