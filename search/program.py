"""Budgeted choice as a mixed-integer linear program.

    maximise   sum_c <scores_c, x_c>        x_c in {0, 1}^options, sum x_c = 1         one-hot of each choice
    subject to sum_k <grid_k, z_k> <= 1     for every row, grids divided by the limit
               sum of z_k over all axes but c = x_c,  z_k >= 0                         marginals of each term's joint

With x integer, z_k is the indicator of one grid cell, so costs are exact. A term whose axes are contained in those of
another is a sum over that one's joint variable. HAWQ-V3 (Yao 2021) solves such a program for
bit-widths alone; widths need the joint variables, since c_in and c_out belong to two operators at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_matrix, csr_matrix, hstack, vstack

from cost_models.terms import Term
from supernet.choice import Choice

Block = tuple[csr_matrix, Any, Any]
"""Constraint rows with their lower and upper ends."""


@dataclass(frozen=True)
class Row:
    """constant + sum of terms, a cost that is bounded as a whole."""

    terms: tuple[Term, ...]
    constant: float = 0.0


class Program:
    """Variables and marginal constraints for some rows; objectives and bounds come with each call of `solve`."""

    def __init__(self, choices: Sequence[Choice], rows: Sequence[Row]):
        self.choices = tuple(choices)
        self.first = np.concatenate([[0], np.cumsum([len(c.options) for c in choices])]).astype(int)
        self.position = {c: i for i, c in enumerate(choices)}
        self.binaries = self.size = int(self.first[-1])
        self._entries: list[tuple[np.ndarray, np.ndarray]] = []  # columns and values of each equality
        self._right: list[float] = []
        for i in range(len(choices)):
            columns = np.arange(self.first[i], self.first[i + 1])
            self._equality(columns, np.ones(len(columns)), 1.0)
        self._joints: dict[tuple[Choice, ...], np.ndarray] = {}
        for axes in sorted({t.choices for row in rows for t in row.terms if t.choices}, key=len, reverse=True):
            self._joint(axes)
        self.rows = [self._coefficients(row.terms) for row in rows]
        self.constants = [row.constant + sum(t.grid.item() for t in row.terms if not t.choices) for row in rows]
        self.equalities = self._matrix()

    def solve(
        self,
        objective: np.ndarray,
        limits: Sequence[float],
        cuts: Sequence[Mapping[Choice, int]] = (),
        seconds: float = 60.0,
    ) -> OptimizeResult:
        """Minimise <objective, variables> with rows <= limits (inf: free), no combination of values among `cuts`."""
        blocks = [(self.equalities, self._right, self._right), *self._bounded(limits), *map(self._cut, cuts)]
        return self._run(objective, blocks, seconds)

    def smallest(self, members: Sequence[int], limits: Sequence[float], seconds: float = 60.0) -> OptimizeResult:
        """Minimise the largest of some rows, through a variable that no member exceeds, with all rows <= limits."""
        scale = max(float(np.abs(self.rows[i]).max(initial=0)) for i in members) or 1.0
        over = [(csr_matrix(self.rows[i] / scale), -np.inf, -self.constants[i] / scale) for i in members]
        blocks = [(self.equalities, self._right, self._right), *self._bounded(limits)]
        padded = [(hstack([m, csr_matrix((m.shape[0], 1))]), low, high) for m, low, high in blocks]
        padded += [(hstack([m, csr_matrix([[-1.0]])]), low, high) for m, low, high in over]
        return self._run(np.append(np.zeros(self.size), 1.0), padded, seconds)

    def _bounded(self, limits: Sequence[float]) -> list[Block]:
        blocks: list[Block] = []
        for row, constant, limit in zip(self.rows, self.constants, limits):
            if np.isfinite(limit):
                blocks.append((csr_matrix(row / limit), -np.inf, 1 - constant / limit))
        return blocks

    def _cut(self, cut: Mapping[Choice, int]) -> Block:
        indicator = np.zeros(self.size)
        indicator[[self._columns(choice)[choice.position(value)] for choice, value in cut.items()]] = 1
        return csr_matrix(indicator), -np.inf, len(cut) - 1

    def _run(self, objective: np.ndarray, blocks: Sequence[Block], seconds: float) -> OptimizeResult:
        integrality = np.zeros(len(objective))
        integrality[: self.binaries] = 1
        upper = np.ones(len(objective))
        upper[self.size :] = np.inf
        return milp(
            objective,
            constraints=LinearConstraint(
                vstack([block[0] for block in blocks], format="csr"),
                np.hstack([block[1] for block in blocks]),
                np.hstack([block[2] for block in blocks]),
            ),
            integrality=integrality,
            bounds=Bounds(0, upper),
            options={"time_limit": seconds, "mip_rel_gap": 1e-7},
        )

    def values(self, solution: np.ndarray) -> dict[str, int]:
        """Chosen value by choice name."""
        chosen = [int(solution[a:b].argmax()) for a, b in zip(self.first, self.first[1:])]
        return {c.name: c.options[i] for c, i in zip(self.choices, chosen)}

    def _columns(self, choice: Choice) -> np.ndarray:
        i = self.position[choice]
        return np.arange(self.first[i], self.first[i + 1])

    def _joint(self, axes: tuple[Choice, ...]) -> None:
        """Give some choices a joint variable with marginals tied to their one-hots, unless a wider one exists."""
        if self._host(axes) is not None:
            return
        if len(axes) == 1:
            self._joints[axes] = self._columns(axes[0])
            return
        shape = [len(c.options) for c in axes]
        columns = np.arange(self.size, self.size + int(np.prod(shape))).reshape(shape)
        self.size += columns.size
        for axis, choice in enumerate(axes):
            for option, column in enumerate(self._columns(choice)):
                members = np.take(columns, option, axis=axis).ravel()
                self._equality(np.append(members, column), np.append(np.ones(len(members)), -1.0), 0.0)
        self._joints[axes] = columns

    def _host(self, axes: tuple[Choice, ...]) -> tuple[Choice, ...] | None:
        """The smallest set of choices with a joint variable that contains `axes`."""
        wanted = set(axes)
        hosts = [h for h in self._joints if wanted <= set(h)]
        return min(hosts, key=lambda h: self._joints[h].size, default=None)

    def _equality(self, columns: np.ndarray, values: np.ndarray, right: float) -> None:
        self._entries.append((columns, values))
        self._right.append(right)

    def _coefficients(self, terms: Sequence[Term]) -> np.ndarray:
        row = np.zeros(self.size)
        for term in terms:
            if term.choices:
                host = self._host(term.choices)
                assert host is not None
                columns = self._joints[host]
                grid = term.grid.reshape([len(c.options) if c in term.choices else 1 for c in host])
                np.add.at(row, columns, np.broadcast_to(grid, columns.shape))
        return row

    def _matrix(self) -> csr_matrix:
        rows = np.repeat(np.arange(len(self._entries)), [len(c) for c, _ in self._entries])
        columns = np.concatenate([c for c, _ in self._entries])
        values = np.concatenate([v for _, v in self._entries])
        return coo_matrix((values, (rows, columns)), shape=(len(self._entries), self.size)).tocsr()
