"""Does the search win? Found networks beside the best uniform or width-scaled network that fits the same budgets.

    python scripts/bench_search.py --out runs/bench-digits
    python scripts/bench_search.py --out runs/bench-cifar10 --set data.name=cifar10 --set model.checkpoint=published \\
        --set finetune.epochs=10

One sweep per seed (search/pareto.py): the same code path, data and teacher for every network, and as many epochs for a
rival's weights as those of a found network see in warm-up, search and fine-tuning together: equal training. With
`--set finetune.baseline_epochs=N` a rival sees N: equal fine-tuning where N is `finetune.epochs`. The default budgets
are what the uniform 4-bit network and its 0.75 and 0.5 wide versions cost on the device, rounded up, in latency and
packed weights or, on a microcontroller, in RAM and flash: a rival fits each tightly. Of the baselines inside a budget,
the one that is best on validation is compared, of equal ones the one that is best on test; test accuracy is read once
per network. Rivals that the first seed showed to be hopeless (more than MARGIN below the best of every budget that they
fit, on validation) are not trained for the others. With --every-rival all are, whether they fit a budget or not: for
fronts (scripts/plot_fronts.py). Resumes, within a point as well. Seeds may be run by themselves, side by side too
(--seeds 1 --first 0); all together then print the result.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lut.cli import guard
from lut.errors import InputError
from lut.files import atomic_write
from lut.strict import dump, loads
from search.baselines import Baseline
from search.budget import SLACK
from search.config import RunConfig
from search.costs import FIELDS, predicted
from search.environment import environment
from search.outcome import table
from search.pareto import parse_point, run_sweep
from search.run import Run
from supernet import extract

CONFIG = Path(__file__).parent / "configs" / "host-cpu.yaml"
RIVALS = ("uniform", "width")
"""Kinds of points (search/pareto.py) that a found network is compared with."""
TIGHT = (Baseline(4, 4), Baseline(4, 4, 0.75), Baseline(4, 4, 0.5))
"""The rivals whose costs are the default budgets."""
FINISHED = "finished.json"
"""Of a seed, once all of its points are there: {points, settings, environment}."""
MARGIN = 0.02
"""Top-1 on validation by which a rival must be behind to be given up: five to ten standard errors of seeds."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", default=str(CONFIG))
    p.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    p.add_argument("--budget", action="append", metavar="A,B", help="default: what the 4-bit rivals cost")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--first", type=int, metavar="SEED", help="for which every rival is trained; default: of --seeds")
    p.add_argument(
        "--without", nargs="+", default=[], metavar="RIVAL", help="not trained: those that are known to be behind"
    )
    p.add_argument("--every-rival", action="store_true", help="train them for every seed, and those that fit no budget")
    p.add_argument("--out", required=True, help="folder; one sweep per seed in it")
    p.add_argument("--json", action="store_true")
    return p


def fits(point: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    """Whether a point's predicted costs are inside limits by the names of its fields."""
    return all(point[field] is not None and point[field] <= limit * (1 + SLACK) for field, limit in limits.items())


def tight_budgets(config: RunConfig, folder: Path) -> tuple[str, ...]:
    """The default budgets, kept in <folder>/budgets.json: shares of what the uniform 8-bit network costs."""
    path = folder / "budgets.json"
    if not path.exists():
        run = Run(config, folder)
        metrics = ("latency", "weights") if run.device.core is None else ("ram", "flash")
        run.measure_table(run.supernet(run.sources.model, run.space()), run.float_subnet(run.sources.model))
        whole, *costs = (costs_of(run, entry) for entry in (Baseline(8, 8), *TIGHT))
        shares = [{m: math.ceil(100 * cost[FIELDS[m]] / whole[FIELDS[m]]) for m in metrics} for cost in costs]
        folder.mkdir(parents=True, exist_ok=True)
        texts = dict.fromkeys(",".join(f"{m}={percent}%" for m, percent in share.items()) for share in shares)
        atomic_write(path, json.dumps(list(texts)))
    try:
        texts = json.loads(path.read_text())
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: no list of budgets; delete it to have them computed anew")
    return tuple(texts)


def costs_of(run: Run, entry: Baseline) -> dict[str, Any]:
    """Costs of a baseline by the run's table."""
    return predicted(extract(*entry.cut(run, run.sources.model)), run.table, run.device)


def hopeless(points: Sequence[Mapping[str, Any]], budgets: Sequence[str]) -> set[str]:
    """Names of the rivals that are behind by more than MARGIN, on validation, in every budget that they fit."""
    kept, rivals = set(), [p for p in points if p["kind"] in RIVALS]
    for text in budgets:
        limits = next(p["limits"] for p in points if p["name"] == text)
        fitting = [p for p in rivals if fits(p, limits)]
        best = max((p["validation"] for p in fitting), default=0)
        kept |= {p["name"] for p in fitting if p["validation"] >= best - MARGIN}
    return {p["name"] for p in rivals} - kept


def compare(points: Sequence[Mapping[str, Any]], budgets: str) -> dict[str, Any]:
    """The found network of one list of budgets, and the best baseline inside it, of one seed."""
    found = next(p for p in points if p["name"] == budgets)
    rivals = [p for p in points if p["kind"] in RIVALS and fits(p, found["limits"])]
    best = max(rivals, key=lambda p: (p["validation"], p["top1"]), default=None)
    return {
        "found": found["top1"],
        "inside": fits(found, found["limits"]),
        "rival": None if best is None else best["top1"],
        "rival_name": None if best is None else best["name"],
    }


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means in percent, and the standard error of the paired difference over seeds."""
    pairs = np.array([(r["found"], r["rival"]) for r in rows if r["rival"] is not None], float) * 100
    if not len(pairs):
        return {}
    gain = pairs[:, 0] - pairs[:, 1]
    error = float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else float("nan")
    return {"found": pairs[:, 0].mean(), "rival": pairs[:, 1].mean(), "gain": gain.mean(), "standard_error": error}


def finished(path: Path) -> tuple[RunConfig, list[dict[str, Any]]]:
    """Settings, those of seed 0, and points of a finished seed. Raises InputError for a damaged file."""
    try:
        kept = json.loads(path.read_text())
        settings, points = kept["settings"], kept["points"]
        if not isinstance(settings, str) or not isinstance(points, list):
            raise TypeError("settings are text, points a list")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a finished sweep: {error!r}; delete it to run this seed again") from None
    return loads(RunConfig, settings, str(path)), points


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    folder, first = Path(args.out), args.seeds[0] if args.first is None else args.first

    def given_up(seed: int, budgets: Sequence[str]) -> Callable[[str], bool]:
        """Whether a rival is left out, or hopeless by the first seed's points, which must be finished when it asks."""
        if seed == first or args.every_rival:
            return lambda name: name in args.without

        def skip(name: str) -> bool:
            if name in args.without:
                return True
            path = folder / f"seed{first}" / FINISHED
            if not path.exists():
                raise InputError(f"{path}: not there yet: --seeds {first} has to finish before other seeds' rivals")
            return name in hopeless(finished(path)[1], budgets)

        return skip

    def points_of(seed: int, config: RunConfig) -> list[dict[str, Any]]:
        """All points of a seed; of one that is finished no other file than FINISHED is needed."""
        path, same = folder / f"seed{seed}" / FINISHED, replace(config, search=replace(config.search, seed=0))
        if path.exists():
            settings, points = finished(path)
            if settings != same:
                raise InputError(f"{path}: a seed with other settings; give another --out")
            return points
        command = ["python", *sys.argv]
        skip = given_up(seed, config.sweep)
        points = run_sweep(config, path.parent, command, contenders=not args.every_rival, skip=skip)
        about = environment(command, seed)
        atomic_write(path, json.dumps({"points": points, "settings": dump(same), "environment": about}, indent=1))
        return points

    def run() -> int:
        config = RunConfig.read(args.config, args.set)
        budgets = tuple(args.budget or tight_budgets(config, folder))
        for budget in (budget for text in budgets for budget in parse_point(text)):
            if budget.metric not in FIELDS:
                raise InputError(f"--budget {budget.metric}: baselines are compared by {', '.join(FIELDS)}")
        config = replace(config, sweep=budgets, budgets=())
        by_budget: dict[str, list[dict[str, Any]]] = {text: [] for text in budgets}
        for seed in args.seeds:
            points = points_of(seed, replace(config, search=replace(config.search, seed=seed)))
            for text in budgets:
                by_budget[text].append(compare(points, text))
        result = {text: {"seeds": rows, **summarise(rows)} for text, rows in by_budget.items()}
        if args.json:
            print(json.dumps({"budgets": result, "environment": environment(["python", *sys.argv], 0)}, indent=1))
            return 0
        lines = [("budgets", "found %", "best rival %", "gain", "standard error", "rivals", "inside")]
        for text, body in result.items():
            rows = body["seeds"]
            figures = [f"{body[k]:.2f}" if k in body else "-" for k in ("found", "rival", "gain", "standard_error")]
            names = ", ".join(sorted({str(r["rival_name"]) for r in rows}))
            lines.append((text, *figures, names, f"{sum(r['inside'] for r in rows)}/{len(rows)}"))
        print(table(lines))
        return 0

    return guard(run, "the same command")


if __name__ == "__main__":
    sys.exit(main())
