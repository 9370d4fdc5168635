"""Fit a network to a device: table, search, fine-tuning, deployment, measurement and report, in one command.

python scripts/run_search.py                                        # the default: ResNet-8 on digits, this CPU
python scripts/run_search.py --plan                                 # what it would do, without doing it
python scripts/run_search.py --quick                                # bits by sensitivity, nothing is searched
python scripts/run_search.py --dataset cifar10 --model resnet20 --budget latency=0.2ms --budget weights=60KiB
python scripts/run_search.py --model mynet.py:build --data mydata.py:loaders --budget latency=5ms
python scripts/run_search.py --sweep latency=80%,weights=60% --sweep latency=60%,weights=40%
python scripts/run_search.py --run runs/<id>                        # resume
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Any

from lut.cli import guard
from lut.errors import InputError
from lut.spec import how
from search.budget import Budget
from search.config import RunConfig

CONFIGS = Path(__file__).parent / "configs"
UNREACHABLE = 3
SETTINGS = {
    "data": "data.name",
    "dataset": "data.name",
    "data_root": "data.root",
    "model": "model.name",
    "checkpoint": "model.checkpoint",
    "loss": "model.loss",
    "metric": "model.metric",
    "table": "table",
    "accelerator": "accelerator",
}
"""Options that stand for one setting."""
OTHERS = ("config", "device", "budget", "sweep", "set", "out")
"""Options that make a new run, as those of SETTINGS and --quick do."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", help="YAML of settings; default scripts/configs/<device>.yaml")
    p.add_argument("--device", help="a device of lut/devices, or a .yaml file (default host-cpu)")
    p.add_argument("--dataset", help="digits | mnist | cifar10 | cifar100 | fsdd, or a folder of images per class")
    p.add_argument("--data", help="FILE.py:FUNCTION that returns train, validation and test iterables of (x, y)")
    p.add_argument("--data-root", help="folder of the data archives; else $LUTIER_DATA")
    p.add_argument("--model", help="a network of supernet/networks, or FILE.py:FUNCTION that returns an nn.Module")
    p.add_argument("--checkpoint", help="float weights: a .safetensors state_dict, or 'published'; if trained to "
                   "the end, lower rates keep them: --set search.lr=0.01 --set finetune.lr=0.02")  # fmt: skip
    p.add_argument("--loss", help="FILE.py:FUNCTION(output, target) -> scalar tensor")
    p.add_argument("--metric", help="FILE.py:FUNCTION(output, target) -> number, higher is better")
    p.add_argument("--budget", action="append", metavar="METRIC=LIMIT",
                   help="latency=5ms, weights=40KiB, ram=64KiB, macs=12M, latency=60%% ..; repeatable")  # fmt: skip
    p.add_argument("--sweep", action="append", metavar="BUDGET,BUDGET",
                   help="one point of a Pareto front, all searched from one warm-up; repeatable")  # fmt: skip
    p.add_argument("--quick", nargs="?", const=0, type=int, metavar="EPOCHS",
                   help="assign bits by sensitivity, without a search; fine-tune for EPOCHS (default 0)")  # fmt: skip
    p.add_argument("--plan", action="store_true", help="rows to measure and reachable costs; nothing is trained")
    p.add_argument("--accelerator", help="where networks are trained: cpu (default), cuda, cuda:1")
    p.add_argument("--table", help="latency table (CSV); default tables/<device>.csv, built when absent")
    p.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    p.add_argument(
        "--out", help="run folder; default runs/<date>-<device>-<model>, or that of an unfinished run of these settings"
    )
    p.add_argument("--run", help="resume the run in this folder; its settings are its own")
    p.add_argument("--force", action="store_true", help="rebuild a table that another machine or version made")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def settings(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    """The run's settings and folder, from the command line. Raises InputError."""
    if args.run:
        given = [name for name in (*SETTINGS, *OTHERS, "quick") if getattr(args, name) not in (None, [])]
        if given:
            option = given[0].replace("_", "-")
            raise InputError(f"--{option}: --run resumes with the settings of {args.run}; leave it out")
        folder = Path(args.run)
        if not folder.is_dir():
            raise InputError(f"--run {folder}: no such run folder")
        config = RunConfig.read(folder / "config.yaml")
    else:
        config = new_settings(args)
        folder = Path(args.out or config.out or default_folder(config))
    for budget in [*config.budgets, *(part for point in config.sweep for part in point.split(","))]:
        Budget.parse(budget)
    return config, folder


def new_settings(args: argparse.Namespace) -> RunConfig:
    """From the YAML file, then the options, then --set."""
    if args.budget and args.sweep:
        raise InputError(
            "--budget: the points of --sweep have budgets of their own; add it to each of them, or leave it out"
        )
    device = args.device or "host-cpu"
    default = CONFIGS / f"{Path(device).stem}.yaml"
    path = args.config or (default if default.exists() else None)
    given = [(setting, getattr(args, name)) for name, setting in SETTINGS.items()]
    given += [("device", args.device), ("budgets", args.budget), ("sweep", args.sweep)]
    overrides = [f"{setting}={json.dumps(value, ensure_ascii=False)}" for setting, value in given if value]
    if args.quick is not None:
        overrides += ["search.method=sensitivity", f"finetune.epochs={args.quick}"]
    overrides += args.set
    return RunConfig.read(path, overrides) if path else RunConfig.default(overrides)


def default_folder(config: RunConfig) -> Path:
    """Today's run with these settings; else the newest one of another day that is not finished; else
    runs/<date>-<device>-<model>, numbered when runs with other settings have the name."""
    name = f"{Path(config.device).stem}-{Path(config.model.name.split(':')[0]).stem}"
    base = Path(f"runs/{date.today()}-{name}")
    named = re.compile(rf"(\d{{4}}-\d\d-\d\d)-{re.escape(name)}(?:-(\d+))?")
    same = {
        (m[1], int(m[2] or 1)): p for p in Path("runs").glob("*") if (m := named.fullmatch(p.name)) and has(p, config)
    }
    today = [same[key] for key in sorted(same) if key[0] == str(date.today())]
    left = [same[key] for key in sorted(same, reverse=True) if not finished(same[key], config)]
    free = (base.with_name(f"{base.name}-{count}") if count > 1 else base for count in itertools.count(1))
    return next(iter(today + left), None) or next(folder for folder in free if not (folder / "config.yaml").exists())


def has(folder: Path, config: RunConfig) -> bool:
    """Whether the run in `folder` has these settings; what cannot be read has others."""
    try:
        return RunConfig.read(folder / "config.yaml") == config
    except InputError:
        return False


def finished(folder: Path, config: RunConfig) -> bool:
    """Whether a run came to its end: a report may be written of one that did not."""
    return (folder / "report.html").exists() and (bool(config.sweep) or (folder / "validation.json").exists())


def chain(args: argparse.Namespace, config: RunConfig, folder: Path, command: list[str]) -> int:
    from search.chain import run_chain
    from search.outcome import summary

    validation = run_chain(config, folder, command, args.force)
    show(args, validation, summary(folder, validation))
    missed = [row for row in validation["budgets"] if not row["met"]]
    for row in missed:
        key = "predicted" if row["measured"] is None else "measured"
        word = key if key == "predicted" else how(validation["source"])
        print(f"error: {row['metric']}: {word} {row[key]:.4g} {row['unit']}, above the limit of "
              f"{row['limit']:.4g} by {row[key] / row['limit'] - 1:.1%}", file=sys.stderr)  # fmt: skip
    return UNREACHABLE if missed else 0


def sweep(args: argparse.Namespace, config: RunConfig, folder: Path, command: list[str]) -> int:
    from search.pareto import run_sweep, text

    points = run_sweep(config, folder, command, args.force)
    show(args, {"points": points}, f"{text(points)}\n\nreport: {folder / 'report.html'}")
    return 0


def plan(args: argparse.Namespace, config: RunConfig, folder: Path) -> int:
    from search.plan_report import make_plan, text
    from search.run import Run

    body = make_plan(Run(config, folder))
    show(args, body, text(body))
    if body["problem"]:
        print(f"error: {body['problem']}", file=sys.stderr)
    return UNREACHABLE if body["problem"] else 0


def show(args: argparse.Namespace, body: Any, words: str) -> None:
    print(json.dumps(body) if args.json else words)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def start() -> int:
        config, folder = settings(args)
        if args.plan:
            return plan(args, config, folder)
        command = ["python", "scripts/run_search.py", *map(shlex.quote, sys.argv[1:] if argv is None else argv)]
        step = sweep if config.sweep else chain
        if (folder / "config.yaml").exists():
            print(f"going on with {folder}", file=sys.stderr)
        force = " --force" if args.force else ""
        resume = f"python scripts/run_search.py --run {shlex.quote(str(folder))}{force}"
        return guard(lambda: step(args, config, folder, command), resume)

    return guard(start)


if __name__ == "__main__":
    sys.exit(main())
