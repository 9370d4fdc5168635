"""What a chosen architecture leaves of its budgets, given to its own layers.

    maximise  sum_c log2(o_c)   over the options o_c >= those of the architecture,   every cost inside its budget

Choices take their most probable options as soon as these are inside the budgets, however much is left, and where an
option costs nothing (activation bits on a CPU) nothing but noise decides against it. More channels and more bits can
represent whatever fewer can, so nothing is raised into a worse network. Operators have no such order: they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supernet.arch import Arch
from supernet.choice import Choice
from supernet.schedule import Schedule

from .budget import Budget, BudgetError
from .climb import ORDERED, climb
from .costs import Costs
from .solve import cost_of, solve

MARGIN = {"latency": 0.97, "energy": 0.97}
"""Share of a limit that may be filled where the cost is a prediction: a network that is measured above its limit has to
be made smaller and trained again."""
CLOSED = 1e6
"""Score by which an option is out of the question: an architecture without any exists, the one to be filled."""


def fill(
    choices: Sequence[Choice],
    schedule: Schedule,
    arch: Arch,
    costs: Costs,
    budgets: Sequence[Budget],
) -> Arch:
    """`arch` with as many options raised as its budgets (resolved, and kept by it) have room for; raised step by step
    where the solver finds no such one in time."""
    predicted = {budget.metric: cost_of(schedule, costs[budget.metric], arch.choices) for budget in budgets}
    room = [
        replace(b, limit=min(b.limit, max(predicted[b.metric], MARGIN.get(b.metric, 1.0) * b.limit))) for b in budgets
    ]
    scores = octave_scores(choices, arch)
    try:
        (filled,) = solve(choices, schedule, scores, costs, room, n=1, seed=arch.seed)
    except (BudgetError, TimeoutError):  # at its limit to the last digit, or too large a program
        return climb(choices, schedule, arch, costs, room)
    gained = sum(scores[c.index, c.position(filled.choices[c.name])] for c in choices)
    return replace(filled, space=arch.space) if gained > 0 else climb(choices, schedule, arch, costs, room)


def octave_scores(choices: Sequence[Choice], arch: Arch) -> np.ndarray:
    """(choices, options): log2 of what an option has, relative to the architecture's."""
    scores = np.zeros((len(choices), max(len(c.options) for c in choices)))
    for choice in choices:
        chosen = arch.choices[choice.name]
        for i, option in enumerate(choice.options):
            if option == chosen:
                continue
            raised = choice.kind in ORDERED and option > chosen > 0  # 0: absent
            scores[choice.index, i] = np.log2(option / chosen) if raised else -CLOSED
    return scores
