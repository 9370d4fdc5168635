"""The most probable architectures inside every budget: maximise sum of log p(option) subject to exact discrete costs.

A mixed-integer linear program (`program.py`) is solved; its solution is checked against the cost models themselves, and
cut off when it does not fit (a memory plan may need more than the live-set bound, the solver has tolerances). The n
best come from no-good cuts: sum_c x_c[chosen] <= choices - 1, over the choices that memory depends on when it is the
plan that does not fit. Where plan after plan needs more than its bound, the bound is held below the limit, as close to
it as gives plans that fit, and the architectures are the most probable ones inside that. Where no bound does, the
architecture of the smallest plan is made more probable option by option (`nearby.py`). Without a solution, every cost
is minimised alone, so that the person learns what is reachable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cost_models.base import CostModel, discrete_cost
from cost_models.memory import PeakRam
from cost_models.terms import op_terms
from supernet.arch import Arch
from supernet.choice import Choice
from supernet.schedule import Schedule, Values

from .budget import SLACK, Budget, BudgetError, at_least
from .nearby import improved
from .program import Program, Row

Costs = Mapping[str, CostModel | PeakRam]
MAX_CUTS = 100
"""Architectures that may turn out not to fit before `solve` gives up."""
PATIENCE, SHRINK, CLOSE = 5, 0.97, 1e-3
"""After so many plans in a row that did not fit, the live-set bound is given less of the limit, step by step; where
nothing is inside that, half of the last step is taken back, down to the share `CLOSE`."""


def solve(
    choices: Sequence[Choice],
    schedule: Schedule,
    scores: np.ndarray,
    costs: Costs,
    budgets: Sequence[Budget],
    n: int = 5,
    seconds: float = 60.0,
    seed: int = 0,
) -> list[Arch]:
    """The n architectures of largest total score inside all budgets, best first; fewer when fewer fit.

    scores: (choices, options), such as log-probabilities; row c.index belongs to choice c, padding is not read.
    costs: by metric, at least those of the budgets; all are reported in `Arch.predicted`.
    seconds: for all of them. Raises BudgetError when nothing fits, TimeoutError when time ends before the first.
    """
    deadline = time.monotonic() + seconds
    limits = _limits(budgets, costs)
    problem = _Problem(choices, schedule, costs, limits)
    program, owners = problem.program, problem.owners
    objective = _objective(program, scores)
    found: list[Arch] = []
    room, misses = 1.0, 0  # share of a memory limit that the bound may fill; plans in a row that did not fit
    low, high = 0.0, np.inf  # rooms without an architecture, and with plans that did not fit
    cuts: list[dict[Choice, int]] = []
    while len(found) < n and len(cuts) < n + MAX_CUTS:
        row_limits = [limits[o] * (room if isinstance(costs[o], PeakRam) else 1.0) for o in owners]
        try:
            values = program.solve(objective, row_limits, cuts, max(deadline - time.monotonic(), 0.01))
        except TimeoutError:
            if found or misses:
                break
            raise
        if values is None:
            low = room
            if high - low < CLOSE or room == 1:
                break
            room = (low + high) / 2
            continue
        predicted = _predicted(schedule, costs, values)
        broken = [costs[budget.metric] for budget in budgets if not budget.fits(predicted[budget.metric])]
        if broken:
            seen = broken[0].choices if isinstance(broken[0], PeakRam) else set(program.choices)
            cuts.append({c: values[c.name] for c in program.choices if c in seen})
            misses += isinstance(broken[0], PeakRam)
            if misses >= PATIENCE:
                room, high = max(room * SHRINK, (low + room) / 2), room
        else:
            misses = 0
            cuts.append({c: values[c.name] for c in program.choices})
            found.append(Arch(values, predicted=predicted, seed=seed))
    left = max(seconds / 4, 1.0)
    if not found and misses:
        values = problem.smallest(next(o for o in owners if isinstance(costs[o], PeakRam)), limits, left)
        if values is not None and problem.inside(limits, values):
            values = improved(program.choices, values, partial(_loss, choices, scores), partial(problem.inside, limits))
            found.append(Arch(values, predicted=_predicted(schedule, costs, values), seed=seed))
    if not found:
        raise _unreachable(problem, limits, left)
    return found


def solve_net(net: Any, costs: Costs, budgets: Sequence[Budget], n: int = 5, **options: Any) -> list[Arch]:
    """`solve` for a Supernet, scored by the log-probabilities of its choices."""
    choices = net.choices()
    (alpha,) = net.arch_parameters()
    return solve(choices, net.schedule(), log_probabilities(choices, alpha), costs, budgets, n, **options)


def log_probabilities(choices: Sequence[Choice], alpha: torch.Tensor) -> np.ndarray:
    """log softmax of each choice's own logits, (choices, options) float64, -inf on the padding."""
    logits = alpha.detach().double().cpu().clone()
    for choice in choices:
        logits[choice.index, len(choice.options) :] = -torch.inf
    return torch.log_softmax(logits, 1).numpy()


def cost_of(schedule: Schedule, cost: CostModel | PeakRam, values: Values) -> float:
    """Exact cost of one architecture; memory as the arena planner places it."""
    return (
        cost.planned(values) if isinstance(cost, PeakRam) else discrete_cost(schedule.priced(cost.blocks), cost, values)
    )


def reachable(
    choices: Sequence[Choice], schedule: Schedule, costs: Costs, seconds: float = 60.0
) -> dict[str, tuple[float, float]]:
    """Smallest and largest cost by metric over the whole space, each alone. Raises TimeoutError."""
    ends = {}
    for metric, cost in costs.items():
        problem = _Problem(choices, schedule, costs, [metric])
        program, free = problem.program, [np.inf] * len(problem.owners)
        solved = [problem.smallest(metric, {}, seconds)]
        solved += [program.solve(-row, free, seconds=seconds) for row in program.rows]
        reached = [cost_of(schedule, cost, values) for values in solved if values is not None]
        ends[metric] = reached[0], max(reached)
    return ends


def _described(metric: str, limit: float, costs: Costs) -> str:
    """A limit, with what is to be said of its figures."""
    note = getattr(costs[metric], "note", "")
    return Budget(metric, limit, costs[metric].unit).describe() + (f" ({note})" if note else "")


class _Problem:
    """The program whose rows bound the costs of some metrics; owners: the metric of each row."""

    def __init__(self, choices: Sequence[Choice], schedule: Schedule, costs: Costs, metrics: Iterable[str]):
        self.schedule, self.costs = schedule, costs
        rows, self.owners = _rows(schedule, {metric: costs[metric] for metric in metrics})
        self.program = Program(choices, rows)

    def inside(self, limits: Mapping[str, float], values: Values) -> bool:
        """Whether an architecture keeps all limits, memory as it is planned."""
        costs = ((cost_of(self.schedule, self.costs[metric], values), limit) for metric, limit in limits.items())
        return all(cost <= limit * (1 + SLACK) for cost, limit in costs)

    def smallest(self, metric: str, limits: Mapping[str, float], seconds: float) -> dict[str, int] | None:
        """Values of the smallest cost inside the limits of other metrics: of memory, of the smallest plan that changes
        of single options lead to from the smallest bound. None when there are none."""
        others = {other: limit for other, limit in limits.items() if other != metric}
        members = [i for i, owner in enumerate(self.owners) if owner == metric]
        bounds = [others.get(owner, np.inf) for owner in self.owners]
        values, ram = self.program.smallest(members, bounds, seconds), self.costs[metric]
        if values is None or not isinstance(ram, PeakRam):
            return values
        tensors, seen = ram.schedule.tensors.values(), ram.choices
        own = [choice for choice in self.program.choices if choice in seen]

        def size(values: Values) -> tuple[float, int]:
            return ram.planned(values), sum(ram.bytes(tensor, values) for tensor in tensors)

        return improved(own, values, size, partial(self.inside, others))


def _unreachable(problem: _Problem, limits: Mapping[str, float], seconds: float) -> BudgetError:
    """What can be reached: each cost alone, and within the other limits when each fits alone."""
    costs = problem.costs

    def smallest(metric: str, others: Mapping[str, float]) -> float | None:
        values = problem.smallest(metric, others, seconds)
        return None if values is None else cost_of(problem.schedule, costs[metric], values)

    alone = {metric: smallest(metric, {}) for metric in limits}
    problems = [
        f"{_described(metric, limit, costs)}: the smallest reachable is {at_least(metric, low)}"
        for metric, limit in limits.items()
        if (low := alone[metric]) is not None and low > limit * (1 + SLACK)
    ]
    reached = {metric: low for metric, low in alone.items() if low is not None}
    if not problems:  # each fits alone
        for metric, limit in limits.items():
            low = smallest(metric, limits)
            within = "out of reach" if low is None else f"{at_least(metric, low)} is the smallest"
            problems.append(f"{_described(metric, limit, costs)}: inside the others {within}")
            reached[metric] = reached[metric] if low is None else low
    return BudgetError("no architecture fits: " + "; ".join(problems), reached)


def _rows(schedule: Schedule, costs: Costs) -> tuple[list[Row], list[str]]:
    """The rows that bound some costs, and the metric that each belongs to."""
    rows: list[Row] = []
    owners: list[str] = []
    for metric, cost in costs.items():
        if isinstance(cost, PeakRam):
            new = [Row(tuple(terms), cost.fixed) for terms in cost.rows()]
        else:
            new = [Row(tuple(op_terms(schedule.priced(cost.blocks), cost)), cost.fixed)]
        rows += new
        owners += [metric] * len(new)
    return rows, owners


def _limits(budgets: Sequence[Budget], costs: Costs) -> dict[str, float]:
    limits: dict[str, float] = {}
    for budget in budgets:
        if budget.relative:
            raise ValueError(f"{budget.describe()}: resolve it against the reference first")
        if budget.metric not in costs:
            raise ValueError(f"{budget.describe()}: no cost model of that name among {', '.join(costs)}")
        limits[budget.metric] = min(budget.limit, limits.get(budget.metric, np.inf))
    return limits


def _predicted(schedule: Schedule, costs: Costs, values: Values) -> dict[str, float]:
    return {metric: cost_of(schedule, cost, values) for metric, cost in costs.items()}


def _loss(choices: Sequence[Choice], scores: np.ndarray, values: Values) -> float:
    """Negated score of an architecture."""
    return -float(sum(scores[c.index, c.position(values[c.name])] for c in choices))


def _objective(program: Program, scores: np.ndarray) -> np.ndarray:
    """Negated scores of the one-hots, 0 for joint variables."""
    objective = np.zeros(program.size)
    rows = [scores[c.index, : len(c.options)] for c in program.choices]
    objective[: program.binaries] = -np.concatenate(rows)
    if not np.isfinite(objective).all():
        raise ValueError("scores: not finite; a choice is closed by pinning it, not by its score")
    return objective
