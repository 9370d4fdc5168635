"""The network that relative budgets are shares of: 8 bits and all channels everywhere, whether or not these are options
of the space. What is pinned stays so, operators are the default ones; a float32 space's network stays float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from lut.spec import FLOAT_BITS

from .choice import Choice
from .network import QuantNetwork
from .ops import schedule_of
from .schedule import Schedule
from .space import SearchSpace
from .ties import Group

BITS = 8


def uniform8(network: QuantNetwork, space: SearchSpace) -> Schedule:
    """Its operators and tensors, none of which depends on a choice."""
    bits = FLOAT_BITS if space.is_float else BITS

    def whole(group: Group) -> Group:
        pinned = any("width" in space.pin.get(name, {}) for name in group.members)
        return replace(group, counts=(group.counts[0] if pinned else group.channels,))

    def alike(choices: Mapping[str, Choice], offered: tuple[int, ...]) -> dict[str, Choice]:
        return {n: replace(c, options=(bits,)) if c.options == offered else c for n, c in choices.items()}

    full = copy.copy(network)
    full.layout = {name: tuple(map(whole, row)) for name, row in network.layout.items()}
    full.width = {name: replace(choice, options=choice.options[-1:]) for name, choice in network.width.items()}
    full.weight = alike(network.weight, space.weight_bits)
    full.weight |= {node.name: network.weight[node.name] for node in network.nodes if node.one_weight}  # always pinned
    full.act = alike(network.act, space.act_bits)
    return schedule_of(full).fixed({choice.name: choice.options[0] for choice in network.op.values()})
