"""Does the search win? Found networks beside the best uniform or width-scaled network that fits the same budgets.

    python scripts/bench_search.py --out runs/bench-digits
    python scripts/bench_search.py --out runs/bench-cifar10 --set data.name=cifar10 --set model.checkpoint=published \\
        --set finetune.epochs=10

One sweep per seed (search/pareto.py): the same code path, data and teacher for every network, and as many epochs for a
baseline's weights as those of a found network see in warm-up, search and fine-tuning together. The default budgets are
what the uniform 4-bit network and its 0.75 and 0.5 wide versions cost, rounded up: a rival fits each tightly. Of the
baselines inside a budget, the one that is best on validation is compared, of equal ones the one that is best on test;
test accuracy is read once per network. Resumes, within a point as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lut.cli import guard
from lut.errors import InputError
from search.budget import SLACK
from search.config import RunConfig
from search.costs import FIELDS
from search.environment import environment
from search.outcome import table
from search.pareto import parse_point, run_sweep

CONFIG = Path(__file__).parent / "configs" / "host-cpu.yaml"
BUDGETS = ("latency=65%,weights=53%", "latency=55%,weights=31%", "latency=30%,weights=15%")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", default=str(CONFIG))
    p.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    p.add_argument("--budget", action="append", metavar="A,B", help=f"default: {' and '.join(BUDGETS)}")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--out", required=True, help="folder; one sweep per seed in it")
    p.add_argument("--json", action="store_true")
    return p


def fits(point: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    """Whether a point's predicted costs are inside limits by the names of its fields."""
    return all(point[field] is not None and point[field] <= limit * (1 + SLACK) for field, limit in limits.items())


def compare(points: Sequence[Mapping[str, Any]], budgets: str) -> dict[str, Any]:
    """The found network of one list of budgets, and the best baseline inside it, of one seed."""
    found = next(p for p in points if p["name"] == budgets)
    rivals = [p for p in points if p["kind"] in ("uniform", "width") and fits(p, found["limits"])]
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


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    budgets = tuple(args.budget or BUDGETS)

    def run() -> int:
        for budget in (budget for text in budgets for budget in parse_point(text)):
            if budget.metric not in FIELDS:
                raise InputError(f"--budget {budget.metric}: baselines are compared by {', '.join(FIELDS)}")
        config = RunConfig.read(args.config, args.set)
        config = replace(config, sweep=budgets, budgets=())
        by_budget: dict[str, list[dict[str, Any]]] = {text: [] for text in budgets}
        for seed in args.seeds:
            seeded = replace(config, search=replace(config.search, seed=seed))
            points = run_sweep(seeded, Path(args.out, f"seed{seed}"), ["python", *sys.argv], contenders=True)
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
