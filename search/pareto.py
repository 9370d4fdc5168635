"""A Pareto front: several lists of budgets, each searched from the same warmed-up supernet, beside plain baselines.

Warm-up is most of what two searches have in common (weights under gates drawn from uniform alphas), so it is run once;
every point copies its state, searches under its own budgets, chooses, fine-tunes, and is evaluated on validation, and
on test once. Baselines, uniform bits and uniform bits at every narrower width (MobileNets' width multiplier, Howard et
al. 2017, arXiv:1704.04861), are fine-tuned in the same way, for as many epochs as the weights of a found network see
in warm-up, search and fine-tuning together, or as many as `finetune.baseline_epochs` says. Where bits are assigned by
sensitivity, nothing is warmed up, and every point is measured on the float network's weights.

Files, from each of which an interrupted sweep continues:
    warmup/{last.pt, metrics.jsonl}  points/<name>/{last.pt, metrics.jsonl}  points/<name>.safetensors
    points/<name>.json               a finished point; it is not run again
    pareto.json                      all finished points, as search.report reads them
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lut.files import atomic_write
from lut.lock import alone
from supernet.extract import Subnet
from supernet.supernet import Supernet

from . import stored
from .baselines import Baseline, baselines, widest
from .budget import Budget
from .config import RunConfig
from .costs import FIELDS, REPORTED, Costs, network_costs, predicted, resolve
from .evaluate import evaluate
from .outcome import TOP1, score, table
from .run import Run, say
from .solve import solve


def parse_point(text: str) -> list[Budget]:
    """`latency=80%,weights=60%`: the budgets of one point. Raises InputError."""
    return [Budget.parse(part) for part in text.split(",")]


def run_sweep(
    config: RunConfig,
    folder: Path,
    command: list[str],
    force: bool = False,
    contenders: bool = False,
    skip: Callable[[str], bool] = lambda name: False,
) -> list[dict[str, Any]]:
    """All points of `config.sweep`, then the baselines, in pareto.json and the report; with `contenders`, of the
    baselines those alone that are the widest of their bits inside some point's budgets. A baseline whose name `skip`
    accepts, asked when its turn comes, is left out. Raises BudgetError before anything is trained when a point is out
    of reach, InputError for a damaged file, and where another process is at work in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return _sweep(Run(config, folder), command, force, contenders, skip)


def _sweep(
    run: Run, command: list[str], force: bool, contenders: bool, skip: Callable[[str], bool]
) -> list[dict[str, Any]]:
    from .report import write_report

    lists = {text: parse_point(text) for text in run.config.sweep}
    run.start(command)
    every = [budget for budgets in lists.values() for budget in budgets]
    raw = run.supernet(copy.deepcopy(run.sources.model), run.space())
    run.measure_table(raw, run.float_subnet(run.sources.model), force)
    costs = point_costs(run, raw, every)
    limits = {text: resolve(raw, costs, budgets) for text, budgets in lists.items()}
    for budgets in limits.values():  # costs do not depend on weights: refuse before training
        solve(raw.choices(), raw.schedule(), np.zeros(raw.alpha.shape), costs, budgets, n=1)
    model = run.float_model()
    net = run.supernet(copy.deepcopy(model), run.space())
    float_subnet = run.float_subnet(model)
    costs = point_costs(run, net, every)
    points: list[dict[str, Any]] = []

    def add(name: str, kind: str, make: Callable[[], Subnet], extra: Mapping[str, Any] | None = None) -> None:
        points.append(kept(run, name, kind, make, extra or {}))
        atomic_write(run.folder / "pareto.json", json.dumps({"points": points}, indent=1))

    add("float32", "float", lambda: float_subnet)
    if not untrained(run) and not all(point_path(run, text).exists() for text in limits):
        warm_up(run, net)
    for text, budgets in limits.items():
        found = {"limits": {FIELDS[b.metric]: b.limit for b in budgets if b.metric in FIELDS}}
        add(text, "found", partial(searched, run, model, net, costs, text, budgets), found)
    plain = baselines(run)
    for entry in widest(run, model, plain, limits.values()) if contenders else plain:
        if not skip(entry.name):
            add(entry.name, entry.kind, partial(tuned_baseline, run, model, entry))
    write_report(run.folder)
    return points


def point_costs(run: Run, net: Supernet, budgets: Sequence[Budget]) -> Costs:
    """Cost models of the budgets' metrics and of a point's fields."""
    metrics = [*(budget.metric for budget in budgets), "latency", *REPORTED]
    return network_costs(net, metrics, run.table, run.device)


def warm_up(run: Run, net: Supernet) -> None:
    """Train the weights of `net` under its initial alphas; resumes from warmup/last.pt."""
    run.search(net, {}, [], run.folder / "warmup", replace(run.config.search, epochs=0))


def searched(run: Run, model: nn.Module, warm: Supernet, costs: Costs, name: str, limits: list[Budget]) -> Subnet:
    """Search from the warmed-up state under one list of budgets; the best candidate, fine-tuned."""
    say(f"sweep: {name}: " + ", ".join(b.describe() for b in limits))
    net, folder = copy.deepcopy(warm), folder_of(run, name)
    scores = run.search(net, costs, limits, folder, replace(run.config.search, warmup_epochs=0))
    best = run.chosen(net, scores, costs, limits, model, folder)
    return run.finetuned(best.net, best.arch, f"points/{slug(name)}", model)


def tuned_baseline(run: Run, model: nn.Module, entry: Baseline) -> Subnet:
    """A baseline, fine-tuned from the float network."""
    net, arch = entry.cut(run, model)
    search, tuning = run.config.search, run.config.finetune
    epochs = tuning.baseline_epochs
    if epochs is None:
        epochs = tuning.epochs + (0 if untrained(run) else search.warmup_epochs + search.epochs)
    return run.finetuned(net, arch, f"points/{slug(entry.name)}", model, epochs)


def untrained(run: Run) -> bool:
    """Whether a search trains no weight."""
    return run.config.search.method == "sensitivity"


FIGURES = ("name", "kind", "top1", "validation", "latency_us", "weights_bytes", "macs", "choices")
"""What a finished point's file holds at least."""
POINT = stored.fields(
    FIGURES,
    name=stored.text,
    kind=stored.text,
    metric=stored.text,
    top1=stored.number,
    validation=stored.number,
    latency_us=stored.figure,
    weights_bytes=stored.number,
    macs=stored.number,
    choices=stored.values(stored.number),
)


def kept(run: Run, name: str, kind: str, make: Callable[[], Subnet], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A finished point from its file; else it is made, evaluated (on test this once) and written."""
    path = point_path(run, name)
    if path.exists():
        return stored.read_stored(path, POINT, "delete it to run this point again")
    subnet = make().eval()
    point = {
        "name": name,
        "kind": kind,
        "metric": run.sources.scored,
        "top1": run.test_metric(subnet),
        "validation": evaluate(subnet, run.sources.data, "validation", run.sources.metric),
        **predicted(subnet, run.table, run.device),
        "choices": subnet.values(),
        **extra,
    }
    atomic_write(path, json.dumps(point, indent=1))
    return point


def text(points: Sequence[dict[str, Any]]) -> str:
    """A table for a person."""
    unit = " %" if all(p.get("metric", TOP1) == TOP1 for p in points) else ""
    rows = [("network", f"validation{unit}", f"test{unit}", "latency us", "KiB packed", "MMAC")]
    for p in points:
        latency = "-" if p["latency_us"] is None else f"{p['latency_us']:.1f}"
        figures = (score(p[key], p.get("metric", TOP1)) for key in ("validation", "top1"))
        rows.append((p["name"], *figures, latency,
                     f"{p['weights_bytes'] / 1024:.1f}", f"{p['macs'] / 1e6:.2f}"))  # fmt: skip
    return table(rows)


def slug(name: str) -> str:
    """A file name: `latency=80%,weights=60%` -> latency-80pct_weights-60pct."""
    return re.sub(r"[^\w.]+", "-", name.replace("%", "pct").replace(",", "_").replace(" ", "-"))


def folder_of(run: Run, name: str) -> Path:
    return run.folder / "points" / slug(name)


def point_path(run: Run, name: str) -> Path:
    return run.folder / "points" / f"{slug(name)}.json"
