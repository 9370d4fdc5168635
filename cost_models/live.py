"""Which tensors are in memory together at each step of a schedule, operator choices included.

A step of a candidate counts when its candidate was chosen (`Live.when`), and its liveness is that of the schedule
without the candidates that exclude it. A tensor that operators choose between lives under its own name, from behind the
last of them on. Where the choice falls on an identity, it is the edge's input: if that is in memory as well, for a
later reader, the two are one (`Live.same`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from supernet.choice import Choice
from supernet.schedule import Schedule, SearchOp

When = tuple[tuple[Choice, int], ...]
"""Choices and the options that they must have."""
MOST_SKIPS = 2
"""Edges in a row through which an identity is followed; beyond, a tensor that is another's alias counts beside it."""


@dataclass(frozen=True)
class Live:
    """One step.

    names: the tensors, those of the caller left out. same: of some of them, when they are another one of these.
    takes: (output, input) of an operator that works in place: the two are one buffer where they are of one size, but
    not where one of `apart` holds, since the input is another tensor then, which is still to be read.
    """

    step: int
    names: frozenset[str]
    when: When = ()
    same: Mapping[str, When] = field(default_factory=dict)
    takes: tuple[str, str] | None = None
    apart: tuple[When, ...] = ()

    def holds(self, other: Live) -> bool:
        """Whether it needs as much memory as `other` in every architecture where that counts."""
        rest = (self.same.get(name, ()) == other.same.get(name, ()) for name in other.names)
        shared = self.takes is not None and other.names >= set(self.takes)  # which may save what the other has to hold
        if shared and (self.takes, self.apart) != (other.takes, other.apart):
            return False
        return set(self.when) <= set(other.when) and other.names <= self.names and all(rest)


def live_rows(schedule: Schedule) -> list[Live]:
    """Of every step, in order."""
    outside = {schedule.input, *schedule.outputs}
    rows = []
    for step, op in enumerate(schedule.ops):
        born, dead = _lifetimes(schedule, op)
        names = {name for name, first in born.items() if first <= step <= dead.get(name, first)}
        taken = _taken(op, step, dead)
        found = {name: _alias(schedule, name, names) for name in names & schedule.mixes.keys()}
        same = {name: when for name, (when, _) in found.items() if when}
        takes = None if taken is None or {op.output, taken} & outside else (op.output, taken)
        apart = tuple(same[name] for name in sorted(same) if takes and taken in (name, found[name][1]))
        rows.append(Live(step, frozenset(names - outside), op.when, same, takes, apart))
    return rows


def _taken(op: SearchOp, step: int, dead: Mapping[str, int]) -> str | None:
    """The input whose place the output may take (cost_models.arena.lifetimes)."""
    if op.in_place is None:
        return None
    name = op.inputs[op.in_place]
    return name if dead[name] == step and op.inputs.count(name) == 1 else None


def _excludes(one: When, other: When) -> bool:
    options = dict(one)
    return any(options.get(choice, option) != option for choice, option in other)


def _lifetimes(schedule: Schedule, at: SearchOp) -> tuple[dict[str, int], dict[str, int]]:
    """(step that makes, last step that reads) by tensor, as far as they can be together with the operator `at`."""
    born, dead = {schedule.input: -1}, {schedule.input: -1, **dict.fromkeys(schedule.outputs, len(schedule.ops))}
    last = dict(born)  # step of a tensor's last part
    for step, op in enumerate(schedule.ops):
        if not _excludes(op.when, at.when):
            born.setdefault(op.output, step)
            last[op.output] = step
            for name in op.inputs:
                dead[name] = max(dead.get(name, step), step)

    def behind(name: str) -> int:
        """The first step at which a tensor can be read."""
        if name not in schedule.mixes:
            return last.get(name, -1) + 1
        return max(behind(option) for option in schedule.mixes[name][1])

    for name, (_, options) in schedule.mixes.items():
        first = behind(name)
        for option in options:
            if option in born and option not in dead:  # a candidate's output, until the edge is done
                dead[option] = first - 1
        if name in dead:
            born[name] = first
    return born, dead


def _alias(schedule: Schedule, name: str, alive: set[str]) -> tuple[When, str]:
    """(when a tensor that operators choose between is another one of `alive`, which one); nothing when it never is."""
    when: list[tuple[Choice, int]] = []
    while name in schedule.mixes and len(when) < MOST_SKIPS:
        choice, options = schedule.mixes[name]
        through = next(_identities(schedule, choice, options), None)
        if through is None:
            return (), ""
        option, name = through
        when.append((choice, option))
        if name in alive:
            return tuple(when), name
    return (), ""


def _identities(schedule: Schedule, choice: Choice, options: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Options without an operator, and the tensor that they pass on."""
    busy = {option for op in schedule.ops for c, option in op.when if c == choice}
    for position, name in enumerate(options):
        if (option := choice.options[position]) not in busy:
            yield option, name
