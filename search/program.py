"""Budgeted choice as a mixed-integer linear program.

    maximise   sum_c <scores_c, x_c>        x_c in {0, 1}^options, sum x_c = 1         one-hot of each choice
    subject to sum_k <grid_k, z_k> <= 1     for every row, grids divided by the limit
               sum of z_k over all axes but c = x_c,  z_k >= 0                         marginals of each term's joint

With x integer, z_k is the indicator of one grid cell, so costs are exact. A term whose axes are contained in those of
another is a sum over that one's joint variable. HAWQ-V3 (Yao 2021) solves such a program for bit-widths alone; widths
need the joint variables, since c_in and c_out belong to two operators at once.

A derived choice (`supernet/derived.py`) has no x of its own. Part by part, the joint of the partial sum and the part's
option is tied to both as above, and y_s is the sum of its cells whose sum is s; so y is the sum's indicator, and an
axis of z_k like any x. Derived choices share the sums that they begin with.

Most columns are priced out before branching. With L the value of the linear relaxation and d >= 0 its reduced costs, a
solution that takes option o of choice c costs at least L + d_x + sum_k min d_z over the cells of z_k that have o. The
program is solved on the columns below L + delta; a solution below L + delta is optimal for the whole, else delta grows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix, hstack, vstack

from cost_models.terms import Term
from supernet.choice import Choice
from supernet.derived import Derived

Upper = tuple[csr_matrix, float]
"""One constraint row and its upper end."""
SHARES = (0.2, 0.4, 0.8, 1.0)
"""Shares of the columns, cheapest first, on which the program is tried."""
INFEASIBLE = 2
"""scipy's status."""


@contextmanager
def silent() -> Iterator[None]:
    """Nothing that C code prints inside reaches standard output: HiGHS 1.12 prints debugging lines there, which would
    end up in the middle of a --json result."""
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    sys.stdout.flush()
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


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
        self._sums: dict[tuple[Any, ...], dict[int, int]] = {}  # of parts and their counts: column by sum
        # In an order that every process has: of equal optima, a resumed run must find the same.
        for axes in sorted(dict.fromkeys(t.choices for row in rows for t in row.terms), key=len, reverse=True):
            if axes:
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
    ) -> dict[str, int] | None:
        """Values by choice name that minimise <objective, variables>, None when there are none.

        limits: of the rows, inf for a free one. cuts: combinations of values that are excluded. Raises TimeoutError.
        """
        return self._run(objective, [*self._bounded(limits), *map(self._cut, cuts)], seconds)

    def smallest(self, members: Sequence[int], limits: Sequence[float], seconds: float = 60.0) -> dict[str, int] | None:
        """Like `solve`, for the largest of some rows: the objective is a variable that none of them exceeds."""
        scale = max(np.abs(self.rows[i]).max(initial=0) for i in members) or 1.0
        rows = [(hstack([row, csr_matrix((1, 1))]), high) for row, high in self._bounded(limits)]
        rows += [(csr_matrix(np.append(self.rows[i] / scale, -1.0)), -self.constants[i] / scale) for i in members]
        return self._run(np.append(np.zeros(self.size), 1.0), rows, seconds)

    def _bounded(self, limits: Sequence[float]) -> list[Upper]:
        return [
            (csr_matrix(row / limit), 1 - constant / limit)
            for row, constant, limit in zip(self.rows, self.constants, limits)
            if np.isfinite(limit)
        ]

    def _cut(self, cut: Mapping[Choice, int]) -> Upper:
        indicator = np.zeros(self.size)
        indicator[[self._columns(choice)[choice.position(value)] for choice, value in cut.items()]] = 1
        return csr_matrix(indicator), len(cut) - 1

    def _run(self, objective: np.ndarray, rows: Sequence[Upper], seconds: float) -> dict[str, int] | None:
        deadline = time.monotonic() + seconds
        equal, right = self.equalities, np.asarray(self._right)
        equal = hstack([equal, csr_matrix((equal.shape[0], len(objective) - self.size))], format="csc")
        upper = vstack([row for row, _ in rows], format="csc") if rows else csc_matrix((0, len(objective)))
        high = np.asarray([end for _, end in rows], dtype=float)
        relaxed = linprog(objective, upper, high, equal, right, method="highs-ds", options={"time_limit": seconds})
        if relaxed.status == INFEASIBLE:
            return None
        if relaxed.status != 0:
            raise TimeoutError(f"the linear relaxation was not solved within {seconds:g} s: {relaxed.message}")
        price = self._prices(relaxed.lower.marginals)
        both = vstack([equal, upper], format="csc")
        ends = LinearConstraint(both, np.append(right, np.full(len(high), -np.inf)), np.append(right, high))
        for share in SHARES:
            delta = np.quantile(price, share)
            kept = np.flatnonzero(price <= delta)
            left = max(deadline - time.monotonic(), 0.01)
            with silent():
                result = milp(
                    objective[kept],
                    constraints=LinearConstraint(both[:, kept], ends.lb, ends.ub),
                    integrality=kept < self.binaries,
                    bounds=Bounds(0, np.where(kept < self.size, 1, np.inf)),  # without, HiGHS 1.12's presolve may loop
                    options={"time_limit": left, "mip_rel_gap": 1e-7},
                )
            if result.status not in (0, INFEASIBLE):
                raise TimeoutError(f"the integer program was not solved within {seconds:g} s: {result.message}")
            if result.x is not None and (share == 1 or result.fun <= relaxed.fun + delta):
                solution = np.zeros(len(objective))
                solution[kept] = result.x
                return self._values(solution)
        return None

    def _prices(self, reduced: np.ndarray) -> np.ndarray:
        """What the relaxation loses at least when a column is 1; 0 for columns that are not of this program."""
        price = reduced.copy()
        price[self.size :] = 0
        for axes, columns in self._joints.items():
            if len(axes) > 1:
                for i, choice in enumerate(axes):
                    others = tuple(j for j in range(len(axes)) if j != i)
                    price[self._columns(choice)] += reduced[columns].min(axis=others)
        return price

    def _values(self, solution: np.ndarray) -> dict[str, int]:
        """Chosen value by choice name."""
        chosen = [int(solution[a:b].argmax()) for a, b in zip(self.first, self.first[1:])]
        return {c.name: c.options[i] for c, i in zip(self.choices, chosen)}

    def _columns(self, choice: Choice) -> np.ndarray:
        if isinstance(choice, Derived):
            return np.array(list(self._summed(choice.parts, choice.counts).values()))
        i = self.position[choice]
        return np.arange(self.first[i], self.first[i + 1])

    def _summed(self, parts: tuple[Choice, ...], counts: tuple[tuple[int, ...], ...]) -> dict[int, int]:
        """Column by sum, ascending, of a derived choice."""
        if (parts, counts) in self._sums:
            return self._sums[parts, counts]
        last = self._columns(parts[-1])
        totals = np.array(counts[-1])[None]
        cells = last[None]
        if len(parts) > 1:
            before = self._summed(parts[:-1], counts[:-1])
            cells = self._product([np.array(list(before.values())), last])
            totals = totals + np.array(list(before))[:, None]
        found = {}
        for total in np.unique(totals):
            members = cells[totals == total]
            if len(members) > 1:
                self._equality(np.append(members, self.size), np.append(np.ones(len(members)), -1.0), 0.0)
                members, self.size = np.array([self.size]), self.size + 1
            found[int(total)] = int(members[0])
        self._sums[parts, counts] = found
        return found

    def _product(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """New columns for the joint of some indicators, of which they are the marginals."""
        columns = np.arange(self.size, self.size + int(np.prod([len(axis) for axis in axes])))
        columns = columns.reshape([len(axis) for axis in axes])
        self.size += columns.size
        for i, axis in enumerate(axes):
            for option, column in enumerate(axis):
                members = np.take(columns, option, axis=i).ravel()
                self._equality(np.append(members, column), np.append(np.ones(len(members)), -1.0), 0.0)
        return columns

    def _joint(self, axes: tuple[Choice, ...]) -> None:
        """Give some choices a joint variable with marginals tied to their one-hots, unless a wider one exists."""
        if self._host(axes) is not None:
            return
        if len(axes) == 1:
            self._joints[axes] = self._columns(axes[0])
            return
        self._joints[axes] = self._product([self._columns(choice) for choice in axes])

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
