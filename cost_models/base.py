"""A cost model: what one deployed operator costs, as a black box (a table, a formula, a measurement).

The cost of a network is `fixed` plus the sum over its operators, or less where operators share something (`whole`); an
absent operator costs 0. Nothing is asked of the function's shape: it is evaluated on the options only (`terms.py`),
never differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from lut.spec import OpSpec
from supernet.schedule import SearchOp, Values


class CostModel(Protocol):
    """name: the metric's name in budgets. unit: of the returned number: `us`, `B` or `` for a count.

    ignores: fields of OpSpec that the cost does not depend on; choices that fill no other field need no axis.
    blocks: kinds of blocks that the cost prices as a whole, in place of their layers.
    fixed: what a network costs besides its operators, in the same unit.
    note: what is to be said of its figures wherever they are shown.
    """

    name: str
    unit: str
    ignores: frozenset[str] = frozenset()
    blocks: frozenset[str] = frozenset()
    fixed: float = 0.0
    note: str = ""

    def __call__(self, op: OpSpec) -> float: ...

    def whole(self, specs: Sequence[OpSpec]) -> float:
        """Cost of a network of these operators; at most the sum, which the solver and the expectation go by."""
        return self.fixed + sum(map(self, specs))


def discrete_cost(ops: Iterable[SearchOp], cost: CostModel, values: Values) -> float:
    """Cost of one architecture, `values` by choice name, straight from the definition."""
    return cost.whole([spec for op in ops if (spec := op.spec(values)) is not None])
