"""The plain networks beside which a search is shown: uniform bits, and uniform bits at a narrower width (MobileNets'
width multiplier, Howard et al. 2017, arXiv:1704.04861)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from supernet.arch import Arch
from supernet.extract import extract
from supernet.supernet import Supernet

from .budget import Budget
from .costs import FIELDS, predicted

if TYPE_CHECKING:
    from .run import Run

UNIFORM_BITS = ((8, 8), (4, 4), (2, 2), (4, 8), (2, 8))
NARROWED_BITS = ((8, 8), (4, 4), (4, 8))
"""Bits of weights and activations of the baselines at full width, and of the narrower ones."""


@dataclass(frozen=True)
class Baseline:
    """The same bits (of weights, and of activations) and the same share of channels everywhere. kind: `uniform` at full
    width, else `width`."""

    bits: int
    act_bits: int
    width: float = 1.0

    @property
    def name(self) -> str:
        bits = f"{self.bits}-bit" if self.bits == self.act_bits else f"W{self.bits}A{self.act_bits}"
        return f"uniform {bits}" if self.width == 1 else f"{bits}, {self.width:g} wide"

    @property
    def kind(self) -> str:
        return "uniform" if self.width == 1 else "width"

    def cut(self, run: Run, model: nn.Module) -> tuple[Supernet, Arch]:
        """A supernet that holds it, and its choices."""
        widths = tuple(sorted({self.width, 1.0}))
        space = replace(run.space(), weight_bits=(self.bits,), act_bits=(self.act_bits,), widths=widths, pin={})
        net = run.supernet(copy.deepcopy(model), space)
        return net, net.uniform(self.bits, self.act_bits, self.width)


def baselines(run: Run) -> list[Baseline]:
    """The networks that need no search and whose bits and widths the space holds."""
    space = run.space()
    bits = [(w, a) for w, a in UNIFORM_BITS if w in space.weight_bits and a in space.act_bits]
    widths = sorted((share for share in run.config.space.widths if share < 1), reverse=True)
    full = [Baseline(*b) for b in bits]
    return full + [Baseline(*b, share) for b in bits if b in NARROWED_BITS for share in widths]


def widest(run: Run, model: nn.Module, plain: Sequence[Baseline], limits: Iterable[Sequence[Budget]]) -> list[Baseline]:
    """Of each list of budgets and each number of bits, the widest baseline inside; in the order of `plain`."""
    costs = {entry: predicted(extract(*entry.cut(run, model)), run.table, run.device) for entry in plain}

    def inside(entry: Baseline, budgets: Sequence[Budget]) -> bool:
        values = [(b, costs[entry][FIELDS[b.metric]]) for b in budgets if b.metric in FIELDS]
        return all(value is not None and b.fits(value) for b, value in values)

    kept = set()
    for budgets in limits:
        for bits in {(entry.bits, entry.act_bits) for entry in plain}:
            same = [entry for entry in plain if (entry.bits, entry.act_bits) == bits]
            fitting = [entry for entry in same if inside(entry, budgets)]
            kept |= set(sorted(fitting, key=lambda entry: entry.width)[-1:])
    return [entry for entry in plain if entry in kept]
