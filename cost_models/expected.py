"""Expected cost under independent choices, exact and linear in each choice's weights:

    E[cost] = sum over terms k of <grid_k, w_1 x w_2 x ...>

with one axis per distinct choice (a width shared by input and output is one axis; one that several choices make is a
derived choice, `convolution.py`). `multilinear.py` contracts all terms together. For peak memory, E[live set] is such a
sum for every step, and the value is their maximum with the gradient of tau logsumexp(E / tau).

ProxylessNAS (Cai 2019), eq. 5, extended from one choice per operator to any number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernet.choice import Choice, Gates
from supernet.derived import Derived
from supernet.schedule import Schedule, SearchOp

from .base import CostModel
from .convolution import Convolution
from .memory import PeakRam
from .multilinear import Forms
from .terms import Term, op_terms

SHARPNESS = 0.05
"""tau of the peak's gradient, as a share of the peak: live sets within a few percent of it feel the pressure."""


class ExpectedTerms(nn.Module):
    """forward(gates) -> (terms,): the expectation of each term, in the dtype of the gates."""

    def __init__(self, terms: Sequence[Term], choices: Sequence[Choice]):
        super().__init__()
        _check(terms, choices)
        sums = list(dict.fromkeys(c for term in terms for c in term.choices if isinstance(c, Derived)))
        row_of = {choice: len(choices) + i for i, choice in enumerate(sums)} | {c: c.index for c in choices}
        columns = max([1, *(len(c.options) for c in [*choices, *sums])])
        self.convolution = Convolution(sums, len(choices), columns) if sums else None
        axes = [[row_of[choice] for choice in term.choices] for term in terms]
        self.forms = Forms([term.grid for term in terms], axes, len(choices) + len(sums), columns)

    def forward(self, gates: Gates) -> Tensor:
        return self.forms(gates.weights if self.convolution is None else self.convolution(gates.weights))


class ExpectedCost(nn.Module):
    """forward(gates) -> (): E[cost] of the operators, in the cost's unit.

    choices: those of the network that the gates belong to; ValueError for an operator with a choice of another.
    """

    def __init__(self, ops: Sequence[SearchOp], cost: CostModel, choices: Sequence[Choice]):
        super().__init__()
        self.fixed = cost.fixed
        self.terms = ExpectedTerms(op_terms(ops, cost), choices)

    def forward(self, gates: Gates) -> Tensor:
        return self.terms(gates).sum() + self.fixed


class ExpectedPeak(nn.Module):
    """forward(gates) -> (): max over steps of E[live set] in bytes, with the gradient of its logsumexp."""

    def __init__(self, ram: PeakRam, choices: Sequence[Choice]):
        super().__init__()
        rows = ram.rows()
        terms = list({id(term): term for row in rows for term in row}.values())
        self.terms = ExpectedTerms(terms, choices)
        member = torch.tensor([[any(t is term for t in row) for term in terms] for row in rows], dtype=torch.float64)
        self.register_buffer("member", member, persistent=False)
        self.fixed = ram.fixed

    def forward(self, gates: Gates) -> Tensor:
        live = self.get_buffer("member").to(gates.weights.dtype) @ self.terms(gates) + self.fixed
        peak = live.detach().max()
        share = torch.softmax((live.detach() - peak) / (SHARPNESS * peak.clamp_min(1)), 0)
        smooth = share @ live
        return smooth + (peak - smooth.detach())


def expected(cost: CostModel | PeakRam, schedule: Schedule, choices: Sequence[Choice]) -> nn.Module:
    """The differentiable form of any cost of a network."""
    if isinstance(cost, PeakRam):
        return ExpectedPeak(cost, choices)
    return ExpectedCost(schedule.priced(cost.blocks), cost, choices)


def _check(terms: Sequence[Term], choices: Sequence[Choice]) -> None:
    known = set(choices)
    for term in terms:
        for choice in (source for axis in term.choices for source in axis.sources):
            if choice not in known:
                raise ValueError(f"{choice.name}: not one of the network's choices {[c.name for c in choices]}")
