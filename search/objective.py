"""Objectives: one scalar from the task loss and the expected costs E_m.

    lagrangian  CE + sum_m (max(0, l_m + r_m g_m)^2 - l_m^2) / (2 r_m),  g_m = E_m / limit_m - 1
                every few steps: l_m <- max(0, l_m + r_m g_m); after each epoch r_m doubles unless the violation halved
    linear      CE + lambda sum_m E_m                      ProxylessNAS (Cai 2019), eq. 6
    power       CE prod_m (E_m / limit_m)^w                MnasNet (Tan 2019), eq. 2, as a loss
    log         CE beta (log E)^gamma                      DNAS (Wu 2018), eq. 11; FBNet (Wu 2019), eq. 2

The first is the augmented Lagrangian for inequalities (Rockafellar 1973; Nocedal & Wright, ch. 17): the multipliers
find the exchange rate between loss and cost that the budgets imply, so none is chosen by hand, and a budget that is
kept costs nothing. They move with the alphas' steps, so that a search of two long epochs finds it as one of many short
ones does. Costs are in base units (us, bytes, counts).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .budget import Budget

Costs = Mapping[str, Tensor]


class Objective(Protocol):
    """__call__: task () and costs () by metric -> (). update: every few steps, with the mean costs since the last time;
    end_epoch: with the epoch's."""

    def __call__(self, task: Tensor, costs: Costs) -> Tensor: ...
    def update(self, costs: Mapping[str, float]) -> None: ...
    def end_epoch(self, costs: Mapping[str, float]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Lagrangian:
    """Holds E_m <= limit_m for every budget. `multipliers`, `penalties`: by metric."""

    def __init__(self, budgets: Sequence[Budget], penalty: float = 1.0, growth: float = 2.0, ceiling: float = 1e4):
        self.limits = _limits(budgets)
        self.growth, self.ceiling = growth, ceiling
        self.multipliers = dict.fromkeys(self.limits, 0.0)
        self.penalties = dict.fromkeys(self.limits, penalty)
        self._violations: dict[str, float] = {}

    def __call__(self, task: Tensor, costs: Costs) -> Tensor:
        total = task
        for metric, limit in self.limits.items():
            multiplier, penalty = self.multipliers[metric], self.penalties[metric]
            pressure = torch.relu(multiplier + penalty * (costs[metric] / limit - 1))
            total = total + (pressure**2 - multiplier**2) / (2 * penalty)
        return total

    def update(self, costs: Mapping[str, float]) -> None:
        for metric, limit in self.limits.items():
            gap = costs[metric] / limit - 1
            self.multipliers[metric] = max(0.0, self.multipliers[metric] + self.penalties[metric] * gap)

    def end_epoch(self, costs: Mapping[str, float]) -> None:
        for metric, limit in self.limits.items():
            gap = costs[metric] / limit - 1
            if gap > 0.5 * self._violations.get(metric, float("inf")):
                self.penalties[metric] = min(self.growth * self.penalties[metric], self.ceiling)
            self._violations[metric] = max(0.0, gap)

    def state_dict(self) -> dict[str, Any]:
        return {
            "multipliers": dict(self.multipliers),
            "penalties": dict(self.penalties),
            "violations": dict(self._violations),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.multipliers = dict(state["multipliers"])
        self.penalties = dict(state["penalties"])
        self._violations = dict(state["violations"])


class _Fixed:
    """An objective whose trade-off a person chose: nothing to update, no state."""

    def update(self, costs: Mapping[str, float]) -> None:
        return None

    def end_epoch(self, costs: Mapping[str, float]) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


class Linear(_Fixed):
    """CE + weight * sum of costs; `weight` is in loss per base unit."""

    def __init__(self, budgets: Sequence[Budget], weight: float = 1e-3):
        self.metrics, self.weight = tuple(_limits(budgets)), weight

    def __call__(self, task: Tensor, costs: Costs) -> Tensor:
        return sum((self.weight * costs[metric] for metric in self.metrics), task)


class Power(_Fixed):
    """CE times (cost / limit)^exponent for every budget."""

    def __init__(self, budgets: Sequence[Budget], exponent: float = 0.6):
        self.limits, self.exponent = _limits(budgets), exponent

    def __call__(self, task: Tensor, costs: Costs) -> Tensor:
        return math.prod(((costs[m] / limit) ** self.exponent for m, limit in self.limits.items()), start=task)


class Log(_Fixed):
    """CE times beta (log cost)^gamma for every budget; a cost must exceed 1 base unit, else ValueError."""

    def __init__(self, budgets: Sequence[Budget], beta: float = 0.2, gamma: float = 0.6):
        self.metrics, self.beta, self.gamma = tuple(_limits(budgets)), beta, gamma

    def __call__(self, task: Tensor, costs: Costs) -> Tensor:
        total = task
        for metric in self.metrics:
            if not costs[metric] > 1:
                raise ValueError(f"{metric}: {costs[metric].item()} is not above 1, its logarithm is no weight")
            total = total * self.beta * torch.log(costs[metric]) ** self.gamma
        return total


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "lagrangian": Lagrangian,
    "linear": Linear,
    "power": Power,
    "log": Log,
}
"""Each is built from the budgets and its own hyperparameters."""


STEPS_PER_UPDATE = 16
"""Architecture steps between two updates of the objective, about: the alphas follow the multipliers in between."""


def due(done: int, whole: int) -> int:
    """Updates of the objective that `done` of an epoch's `whole` architecture steps ask for: evenly, one at the end."""
    return done * max(1, round(whole / STEPS_PER_UPDATE)) // max(whole, 1)


def _limits(budgets: Sequence[Budget]) -> dict[str, float]:
    """The tightest limit by metric; ValueError for a share that was not resolved."""
    limits: dict[str, float] = {}
    for budget in budgets:
        if budget.relative:
            raise ValueError(f"{budget.describe()}: resolve it against the reference first")
        limits[budget.metric] = min(budget.limit, limits.get(budget.metric, budget.limit))
    return limits
