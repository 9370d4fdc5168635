"""Build, check and measure the networks of a finished run again; rewrites its validation.json and its report.

python scripts/run_deploy.py --run runs/<id>
python scripts/run_deploy.py --run runs/<id> --onnx    # its network as runs/<id>/deploy/model.onnx; measures nothing
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from lut.cli import guard


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True, type=Path, help="folder of a run that is finished")
    p.add_argument("--force", action="store_true", help="rebuild a table that another machine or version made")
    p.add_argument(
        "--onnx",
        action="store_true",
        help="write the found network as deploy/model.onnx, check it in ONNX Runtime, and do nothing else",
    )
    p.add_argument("--json", action="store_true", help="print validation.json (with --onnx: deploy/onnx.json)")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def export() -> int:
        from search.export import describe, export_onnx

        about = export_onnx(args.run)
        print(json.dumps(about) if args.json else describe(about))
        return 0

    def start() -> int:
        from search.outcome import budgets, networks, provenance
        from search.redeploy import redeploy

        validation = redeploy(args.run, args.force)
        words = [networks(validation), budgets(validation), provenance(validation)]
        print(json.dumps(validation) if args.json else "\n\n".join([*words, f"report: {args.run / 'report.html'}"]))
        return 0 if all(row["met"] for row in validation["budgets"]) else 3

    given = ["--run", str(args.run), *(f"--{name}" for name in ("force", "onnx", "json") if getattr(args, name))]
    return guard(export if args.onnx else start, f"python scripts/run_deploy.py {shlex.join(given)}")


if __name__ == "__main__":
    sys.exit(main())
