"""Draw the report of a run anew from the files in its folder.

python scripts/write_report.py --run runs/<id>
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lut.cli import guard


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True, type=Path, help="folder of a run")
    p.add_argument("--json", action="store_true", help="print the path as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def start() -> int:
        from search.report import write_report

        path = write_report(args.run)
        print(json.dumps({"report": str(path)}) if args.json else path)
        return 0

    return guard(start)


if __name__ == "__main__":
    sys.exit(main())
