"""From a searched supernet to one architecture, and the public `search`.

The argmax of every choice when it is inside the budgets, and the n most probable architectures that `solve` finds
there; each is extracted, its batch-norm statistics are estimated anew, and the best on the validation split is taken.
What it leaves of the budgets is filled (`fill.py`). With a trial (`trial.py`), plain networks inside the budgets, and
one whose bits alone are as searched, compete with it, filled as well (`finalists.py`). Finalists inherit from the
searched supernet or, where that serves them better, from the one that it was before: a search trains weights for all
architectures at once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from .finalists import evenly_wide, plain
from .finetune import finetune
from .solve import cost_of, solve
from .trial import Trial, make_trial
from .user_code import as_data


@dataclass(frozen=True)
class Candidate:
    """An architecture inside the budgets, and its metric on validation: with the weights that it inherits from `net`,
    or after a trial that began with them. name: `searched`, or what a plain network is called."""

    arch: Arch
    metric: float
    net: Supernet = field(repr=False)
    name: str = "searched"
    tried: bool = False


@dataclass(frozen=True)
class Found:
    """arch: the chosen one. net: the supernet whose weights serve it best, the searched one or a copy from before.
    candidates: as `choose` gives them. budgets: resolved. result: the search's."""

    arch: Arch
    net: Supernet = field(repr=False)
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
    trial: Trial | None = None,
    before: Supernet | None = None,
) -> list[Candidate]:
    """Architectures inside `budgets` (resolved): the best on validation with its budgets filled, which is the chosen
    one, then all that were compared, best first; with `trial`, the finalists by it come before these. before: the
    same supernet with the weights from before its search. Raises BudgetError when none fits."""
    schedule = net.schedule()
    argmax = net.arch()
    predicted = {name: cost_of(schedule, cost, argmax.choices) for name, cost in costs.items()}
    archs = solve(net.choices(), schedule, scores, costs, budgets, n, seed=seed)
    if all(budget.fits(predicted[budget.metric]) for budget in budgets):
        archs.insert(0, replace(argmax, predicted=predicted, seed=seed))
    distinct = list({tuple(sorted(arch.choices.items())): arch for arch in archs}.values())

    def scored(arch: Arch, nets: Sequence[Supernet], name: str = "searched") -> Candidate:
        """With the weights of the net that is best for it."""
        candidates = []
        for origin in nets:
            subnet = extract(origin, replace(arch, space=net.space.hash()))
            reestimate_batchnorm(subnet, data, batches=10, seed=seed)
            candidates.append(Candidate(subnet.arch, evaluate(subnet, data, "validation", metric), origin, name))
        return max(candidates, key=lambda candidate: candidate.metric)

    compared = sorted((scored(arch, [net]) for arch in distinct), key=lambda candidate: -candidate.metric)
    best = compared[0].arch
    archs_by_name = {"searched": fill(net.choices(), schedule, best, costs, budgets)}
    if trial is not None:
        rivals = plain(net, costs, budgets, best) | evenly_wide(net, scores, costs, budgets, best)
        for name, arch in rivals.items():
            filled = fill(net.choices(), schedule, arch, costs, budgets)
            if all(filled.choices != other.choices for other in archs_by_name.values()):
                archs_by_name[name] = filled
    origins = [net] if before is None else [net, before]
    finalists = [scored(arch, origins, name) for name, arch in archs_by_name.items()]
    if trial is None or len(finalists) == 1:
        same = finalists[0].net is net and finalists[0].arch.choices == best.choices
        return compared if same else [*finalists, *compared]
    tried = [replace(c, metric=trial(c.name, extract(c.net, c.arch)), tried=True) for c in finalists]
    return sorted(tried, key=lambda candidate: -candidate.metric) + compared


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

    The finalists' trials are fine-tuned by `search.finetune`'s defaults, without a teacher.
    """
    config = config or SearchConfig()
    require_own(net, options.get("loss"), options.get("metric", top1))
    data = as_data(loaders, classes=options.get("loss") is None)
    costs = network_costs(net, [budget.metric for budget in budgets], table)
    limits = resolve(net, costs, budgets)
    solve(net.choices(), net.schedule(), np.zeros(net.alpha.shape), costs, limits, n=1)  # refuse before training
    before = copy.deepcopy(net)
    result = run_search(net, data, expected_costs(net, costs), limits, config, folder=folder, **options)
    scores = result.scores.double().numpy()
    metric = options.get("metric", top1)
    tune = partial(finetune, loaders=data, seed=config.seed, **options)
    trial = make_trial(tune, data, config.trial_epochs, metric, config.seed, folder)
    candidates = choose(net, scores, costs, limits, data, metric=metric, seed=config.seed, trial=trial, before=before)
    return Found(candidates[0].arch, candidates[0].net, tuple(candidates), tuple(limits), result)
