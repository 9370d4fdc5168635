"""Costs on the grid of their options: a network's cost is a sum of terms, each over the few choices that it sees.

    cost(values) = sum_k grid_k[values of the choices of k]

`ExpectedCost` contracts each grid with the option weights, `search.solve` gives each grid cell a variable. Axes that
cannot matter are dropped: pinned choices, choices that fill only fields which the cost ignores, and those along which
the grid turns out constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lut.spec import OpSpec
from supernet.choice import Choice
from supernet.schedule import SearchOp, Values

from .base import CostModel


@dataclass(frozen=True)
class Term:
    """choices: distinct, by ascending index and name. grid: float64, one axis of len(options) per choice."""

    choices: tuple[Choice, ...]
    grid: np.ndarray

    def at(self, values: Values) -> float:
        return float(self.grid[tuple(c.position(c.value(values)) for c in self.choices)])


def tabulate(choices: Iterable[Choice], costs: Iterable[float]) -> Term:
    """Term of `costs` over the product of the options, last choice fastest, without the axes that do not matter."""
    axes = tuple(choices)
    grid = np.fromiter(costs, dtype=np.float64).reshape([len(c.options) for c in axes])
    kept = [i for i in range(len(axes)) if (grid != np.take(grid, [0], axis=i)).any()]
    grid = grid[tuple(slice(None) if i in kept else 0 for i in range(len(axes)))]
    order = sorted(range(len(kept)), key=lambda i: (axes[kept[i]].index, axes[kept[i]].name))
    return Term(tuple(axes[kept[i]] for i in order), grid.transpose(order))


def op_terms(ops: Iterable[SearchOp], cost: CostModel) -> list[Term]:
    """One term per operator, in order. `cost` is called once per distinct OpSpec."""
    known: dict[OpSpec | None, float] = {None: 0.0}

    def evaluate(spec: OpSpec | None) -> float:
        if spec not in known:
            known[spec] = float(cost(spec))  # type: ignore[arg-type]
        return known[spec]

    terms = []
    for op in ops:
        axes = tuple(c for c, fields in zip(op.choices, op.fields) if not _irrelevant(c, fields, cost.ignores))
        terms.append(tabulate(axes, map(evaluate, op.grid(axes))))
    return terms


def value_term(choices: tuple[Choice, ...], function: Callable[[Values], float]) -> Term:
    """Term of any function of the values of a few choices."""
    combinations = itertools.product(*([c.settings(option) for option in c.options] for c in choices))
    merged = ({name: value for part in parts for name, value in part.items()} for parts in combinations)
    return tabulate(choices, map(function, merged))


def _irrelevant(choice: Choice, fields: frozenset[str], ignores: frozenset[str]) -> bool:
    """An option 0, or a choice that fills no field, can make the operator absent: such an axis stays."""
    return choice.pinned or (bool(fields) and fields <= ignores and 0 not in choice.options)
