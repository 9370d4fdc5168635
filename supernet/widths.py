"""The width choice of every group, and the channels that each of its options leaves.

Where more than two widths lie in a row, as in DenseNet and Inception, costs see their sum (`derived.py`), one option
for each different sum. A tensor has at most MOST_SUMS of these: where its widths have more, the last ones change
together, by the same fraction of each one's channels, until they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import gcd

from .choice import Choice
from .derived import sums
from .nodes import Node
from .space import SearchSpace
from .ties import Group, Layout, UnionFind

MOST_WIDTHS = 2
"""Width choices of a tensor that are axes of a cost each; more are summed up in one."""
MOST_SUMS = 64
"""Different numbers of channels of a tensor that more width choices than that make."""


def width_sets(nodes: list[Node], layout: Layout, space: SearchSpace, pins: Mapping[str, float]) -> list[list[Group]]:
    """Groups that one choice decides, with `counts` filled in. pins: a fraction by node name."""
    groups = {group.name: group for row in layout.values() for group in row}
    counts = {name: _counts(group, space, pins) for name, group in groups.items()}
    tied, crowded = UnionFind(groups), dict[str, str]()
    for node in nodes:
        row = [group.name for group in layout[node.name] if len(set(counts[group.name])) > 1]
        while True:
            channels: dict[str, tuple[int, ...]] = {}
            for name in row:
                before = channels.get(tied.find(name), (0,) * len(space.widths))
                channels[tied.find(name)] = tuple(map(sum, zip(before, counts[name])))
            if len(channels) <= MOST_WIDTHS or len(sums(list(channels.values()))) <= MOST_SUMS:
                break
            last = list(channels)[-2:]
            tied.union(*last)
            crowded |= {name: f"in a row of more than {MOST_SUMS} different widths" for name in last}
    sets: dict[str, list[str]] = {}
    for name, group in groups.items():
        groups[name] = replace(group, tied=crowded.get(name, ""))
        sets.setdefault(tied.find(name), []).append(name)
    return [_alike([groups[name] for name in names], [counts[name] for name in names]) for names in sets.values()]


def _alike(groups: list[Group], counts: list[tuple[int, ...]]) -> list[Group]:
    """Each distinct combination of their channels is an option."""
    options = list(dict.fromkeys(zip(*counts)))
    return [replace(group, counts=tuple(option[i] for option in options)) for i, group in enumerate(groups)]


def _counts(group: Group, space: SearchSpace, pins: Mapping[str, float]) -> tuple[int, ...]:
    """Channels at every fraction of the space."""
    multiple = space.channel_multiple // gcd(space.channel_multiple, group.repeats)
    pinned = [pins[name] for name in group.members if name in pins]
    if group.pinned or space.is_float:
        return (group.channels,) * len(space.widths)
    fractions = pinned[:1] * len(space.widths) or list(space.widths)
    return tuple(space.channels_at(group.channels, fraction, multiple) for fraction in fractions)


def width_choice(groups: list[Group], add: Callable[[str, tuple[int, ...]], Choice]) -> dict[str, Choice]:
    """The choice of a set, by group name; its options are the channels of the whole set."""
    choice = add(groups[0].name, tuple(map(sum, zip(*(group.counts for group in groups)))))
    return {group.name: choice for group in groups}
