"""Fit a network to a device: table, search, fine-tuning, deployment, measurement and report, in one command.

    python scripts/run_search.py                                        # the default: ResNet-8 on digits, this CPU
    python scripts/run_search.py --dataset cifar10 --model resnet20 --budget latency=0.2ms --budget weights=60KiB
    python scripts/run_search.py --model mynet.py:build --data mydata.py:loaders --budget latency=5ms
    python scripts/run_search.py --run runs/<id>                        # resume
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import date
from pathlib import Path

from lut.errors import InputError
from search.config import RunConfig

CONFIGS = Path(__file__).parent / "configs"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", help="YAML of settings; default scripts/configs/<device>.yaml")
    p.add_argument("--device", default="host-cpu", help="a device of lut/devices, or a .yaml file (default host-cpu)")
    p.add_argument("--dataset", help="digits | mnist | cifar10 | cifar100 | fsdd, or a folder of images per class")
    p.add_argument("--data", help="FILE.py:FUNCTION that returns train, validation and test iterables of (x, y)")
    p.add_argument("--data-root", help="folder of the data archives; else $LUTIER_DATA")
    p.add_argument("--model", help="a network of supernet/networks, or FILE.py:FUNCTION that returns an nn.Module")
    p.add_argument("--checkpoint", help="float weights: a .safetensors state_dict, or 'published'")
    p.add_argument("--loss", help="FILE.py:FUNCTION(output, target) -> scalar tensor")
    p.add_argument("--metric", help="FILE.py:FUNCTION(output, target) -> number, higher is better")
    p.add_argument("--budget", action="append", metavar="METRIC=LIMIT",
                   help="latency=5ms, weights=40KiB, ram=64KiB, macs=12M, latency=60%% ...; may be repeated")  # fmt: skip
    p.add_argument("--table", help="latency table (CSV); default tables/<device>.csv, built when absent")
    p.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    p.add_argument("--out", help="run folder; default runs/<date>-<device>-<model>")
    p.add_argument("--run", help="resume the run in this folder; other options but --force are its own")
    p.add_argument("--force", action="store_true", help="rebuild a table that another machine or version made")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def settings(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    """The run's settings and folder, from the command line. Raises InputError."""
    if args.run:
        folder = Path(args.run)
        return RunConfig.read(folder / "config.yaml"), folder
    overrides = [f"device={args.device}", *args.set]
    for option, path in (("data", "data.name"), ("dataset", "data.name"), ("data_root", "data.root"),
                         ("model", "model.name"), ("checkpoint", "model.checkpoint"), ("loss", "model.loss"),
                         ("metric", "model.metric"), ("table", "table")):  # fmt: skip
        if getattr(args, option):
            overrides.append(f"{path}={getattr(args, option)}")
    if args.budget:
        overrides.append("budgets=" + json.dumps(args.budget))
    default = CONFIGS / f"{Path(args.device).stem}.yaml"
    path = args.config or (default if default.exists() else None)
    config = RunConfig.read(path, overrides) if path else RunConfig.default(overrides)
    model = Path(config.model.name.split(":")[0]).stem
    return config, Path(args.out or config.out or f"runs/{date.today()}-{Path(config.device).stem}-{model}")


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    folder = None
    try:
        config, folder = settings(args)
        from search.outcome import summary
        from search.run import run_chain

        validation = run_chain(config, folder, ["python", *map(shlex.quote, sys.argv)], args.force)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\nstopped; resume with: python scripts/run_search.py --run {folder}", file=sys.stderr)
        return 130
    print(json.dumps(validation) if args.json else summary(folder, validation))
    missed = [row for row in validation["budgets"] if not row["met"]]
    for row in missed:
        print(f"error: {row['metric']}: measured {row['measured']:.4g} {row['unit']}, above the limit of "
              f"{row['limit']:.4g} by {row['measured'] / row['limit'] - 1:.1%}", file=sys.stderr)  # fmt: skip
    return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
