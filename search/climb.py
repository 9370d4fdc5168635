"""An architecture raised option by option inside its budgets, where no program finds the best way to fill them: a
memory plan may need more than the bound that a program knows.

Every round prices each choice's next option alone, by the exact costs, and takes them in the order of what they gain,
in octaves, per share of what the tightest budget has left: greedy for a knapsack of several budgets (Dantzig 1957,
doi:10.1287/opre.5.2.266; Toyoda 1975, doi:10.1287/mnsc.21.12.1417). It ends where no option can be raised alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from supernet.arch import Arch
from supernet.choice import Choice
from supernet.schedule import Schedule, Values

from .budget import Budget
from .costs import Costs
from .solve import cost_of

ORDERED = ("width", "weight_bits", "act_bits")
"""Kinds of choices whose options are ordered by what they can represent."""


def climb(
    choices: Sequence[Choice],
    schedule: Schedule,
    arch: Arch,
    costs: Costs,
    budgets: Sequence[Budget],
    seconds: float = 60.0,
) -> Arch:
    """`arch` with options raised inside the budgets (resolved, and kept by it), `predicted` by all costs."""
    deadline, values = time.monotonic() + seconds, dict(arch.choices)

    def price(values: Values) -> list[float]:
        return [cost_of(schedule, costs[budget.metric], values) for budget in budgets]

    def ratio(choice: Choice, option: int) -> float:
        """Gain per share of the room; 0 for what does not fit."""
        new = price({**values, choice.name: option})
        if not all(budget.fits(cost) for budget, cost in zip(budgets, new)):
            return 0.0
        shares = ((b - a) / max(budget.limit - a, 1e-9 * budget.limit) for budget, a, b in zip(budgets, now, new))
        return math.log2(option / values[choice.name]) / max([1e-9, *shares])

    raised = True
    while raised and time.monotonic() < deadline:
        raised, now = False, price(values)
        ahead = [(choice, option) for choice in choices if (option := above(choice, values[choice.name]))]
        gains = [(ratio(choice, option), choice, option) for choice, option in ahead]
        for gain, choice, option in sorted(gains, key=lambda each: -each[0]):
            higher = {**values, choice.name: option}
            if gain and all(budget.fits(cost) for budget, cost in zip(budgets, price(higher))):
                values, raised = higher, True
    predicted = {metric: cost_of(schedule, cost, values) for metric, cost in costs.items()}
    return replace(arch, choices=values, predicted=predicted)


def above(choice: Choice, option: int) -> int:
    """The next higher option, 0 where there is none, or none that represents more."""
    at = choice.position(option) + 1
    return choice.options[at] if choice.kind in ORDERED and option > 0 and at < len(choice.options) else 0
