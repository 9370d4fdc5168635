"""From a searched supernet to one architecture, and the public `search`.

The argmax of every choice when it is inside the budgets, and the n most probable architectures that `solve` finds
there; each is extracted, its batch-norm statistics are estimated anew, and the best on the validation split is taken.
What it leaves of the budgets is filled (`fill.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lut.table import LatencyTable
from supernet.arch import Arch
from supernet.extract import extract
from supernet.supernet import Supernet

from .bilevel import SearchResult, run_search
from .budget import Budget
from .config import SearchConfig
from .costs import Costs, expected_costs, network_costs, resolve
from .evaluate import Metric, evaluate, reestimate_batchnorm, require_own, top1
from .fill import fill
from .solve import cost_of, solve
from .user_code import as_data


@dataclass(frozen=True)
class Candidate:
    """An architecture inside the budgets, and its metric on validation before any fine-tuning."""

    arch: Arch
    metric: float


@dataclass(frozen=True)
class Found:
    """arch: the chosen one. candidates: as `choose` gives them. budgets: resolved. result: the search's."""

    arch: Arch
    candidates: tuple[Candidate, ...]
    budgets: tuple[Budget, ...]
    result: SearchResult


def choose(
    net: Supernet,
    scores: np.ndarray,
    costs: Costs,
    budgets: Sequence[Budget],
    data: Any,
    *,
    n: int = 5,
    metric: Metric = top1,
    seed: int = 0,
) -> list[Candidate]:
    """Architectures inside `budgets` (resolved): the best on validation with its budgets filled, which is the chosen
    one, then all that were compared, best first. Raises BudgetError when none fits."""
    schedule = net.schedule()
    argmax = net.arch()
    predicted = {name: cost_of(schedule, cost, argmax.choices) for name, cost in costs.items()}
    archs = solve(net.choices(), schedule, scores, costs, budgets, n, seed=seed)
    if all(budget.fits(predicted[budget.metric]) for budget in budgets):
        archs.insert(0, replace(argmax, predicted=predicted, seed=seed))
    distinct = list({tuple(sorted(arch.choices.items())): arch for arch in archs}.values())

    def scored(arch: Arch) -> Candidate:
        subnet = extract(net, replace(arch, space=net.space.hash()))
        reestimate_batchnorm(subnet, data, batches=10, seed=seed)
        return Candidate(subnet.arch, evaluate(subnet, data, "validation", metric))

    compared = sorted(map(scored, distinct), key=lambda candidate: -candidate.metric)
    filled = fill(net.choices(), schedule, compared[0].arch, costs, budgets)
    return compared if filled.choices == compared[0].arch.choices else [scored(filled), *compared]


def search(
    net: Supernet,
    loaders: Any,
    table: LatencyTable | None = None,
    budgets: Sequence[Budget] = (),
    config: SearchConfig | None = None,
    *,
    folder: str | Path | None = None,
    **options: Any,
) -> Found:
    """Train `net` and its choices under `budgets`, then choose the best architecture inside them.

    loaders: a data source, or train, validation and test iterables of (x, y). table: needed for a latency budget.
    folder: checkpoints and metrics go there, and an interrupted search resumes. options: loss, metric, augment of
    `run_search`. Raises BudgetError naming the smallest reachable cost when nothing fits.
    """
    config = config or SearchConfig()
    require_own(net, options.get("loss"), options.get("metric", top1))
    data = as_data(loaders, classes=options.get("loss") is None)
    costs = network_costs(net, [budget.metric for budget in budgets], table)
    limits = resolve(net, costs, budgets)
    solve(net.choices(), net.schedule(), np.zeros(net.alpha.shape), costs, limits, n=1)  # refuse before training
    result = run_search(net, data, expected_costs(net, costs), limits, config, folder=folder, **options)
    scores = result.scores.double().numpy()
    candidates = choose(net, scores, costs, limits, data, metric=options.get("metric", top1), seed=config.seed)
    return Found(candidates[0].arch, tuple(candidates), tuple(limits), result)
