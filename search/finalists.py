"""The networks inside the budgets to which what was found should not lose: plain ones, the same bits and share of
channels everywhere, and one whose bits alone are as searched.

An option's loss under the weights of a supernet is not its loss once they are trained for it: few bits look worse
before fine-tuning than after, few channels better, so that a search can be led away from a network with more channels
that beats it. `choose` lets a short fine-tuning decide between what was found and these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from supernet.arch import Arch
from supernet.choice import Choice
from supernet.supernet import Supernet

from .baselines import Baseline
from .budget import Budget, BudgetError
from .climb import ORDERED
from .costs import Costs
from .fill import CLOSED
from .solve import cost_of, solve


def plain(net: Supernet, costs: Costs, budgets: Sequence[Budget], like: Arch) -> dict[str, Arch]:
    """By name, one per number of weight bits: the widest network inside the budgets (resolved), with the most
    activation bits that fit at this width; none that another one covers. Operators are those of `like`, pins stay."""
    space, choices, schedule = net.space, net.choices(), net.schedule()
    widths, act_bits = sorted(space.widths, reverse=True), sorted(space.act_bits, reverse=True)
    kept: dict[str, Arch] = {}
    for bits in sorted(space.weight_bits, reverse=True):
        for entry in (Baseline(bits, act, width) for width in widths for act in act_bits):
            uniform = net.uniform(bits, entry.act_bits, entry.width).choices
            values = {c.name: (uniform if c.kind in ORDERED else like.choices)[c.name] for c in choices}
            predicted = {metric: cost_of(schedule, cost, values) for metric, cost in costs.items()}
            if all(budget.fits(predicted[budget.metric]) for budget in budgets):
                if not any(covers(choices, other.choices, values) for other in kept.values()):
                    kept[entry.name] = Arch(values, like.space, predicted, like.seed)
                break
    return kept


def evenly_wide(
    net: Supernet, scores: np.ndarray, costs: Costs, budgets: Sequence[Budget], like: Arch
) -> dict[str, Arch]:
    """By name, the most probable architecture of the widest share of channels that, the same everywhere, some bits
    keep inside the budgets (resolved). Empty where `like` has these widths, or the solver finds none in time."""
    choices = net.choices()
    widths = [choice for choice in choices if choice.kind == "width"]
    for share in sorted(net.space.widths, reverse=True):
        even = net.uniform(net.space.weight_bits[-1], net.space.act_bits[-1], share).choices
        if all(like.choices[c.name] == even[c.name] for c in widths):
            return {}
        held = scores.copy()
        for choice in widths:
            held[choice.index, : len(choice.options)] = -CLOSED
            held[choice.index, choice.position(even[choice.name])] = 0.0
        try:
            (arch,) = solve(choices, net.schedule(), held, costs, budgets, n=1, seed=like.seed)
        except (BudgetError, TimeoutError):  # memory plan after plan that does not fit, or too large a program
            return {}
        if all(arch.choices[c.name] == even[c.name] for c in widths):
            name = "full width" if share == 1 else f"{share:g} wide"
            return {f"searched, {name}": replace(arch, space=like.space)}
    return {}


def covers(choices: Sequence[Choice], large: Mapping[str, int], small: Mapping[str, int]) -> bool:
    """Whether `large` has at least the channels and bits of `small` everywhere."""
    return all(large[c.name] >= small[c.name] for c in choices if c.kind in ORDERED)
