"""Operators and tensors of a network in execution order, each a function of the choices it depends on.

Cost models, the budget solver and the profiling plan see a network only through this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lut.spec import OpSpec

from .choice import Choice

Values = Mapping[str, int]


@dataclass(frozen=True)
class SearchOp:
    """A deployed operator whose OpSpec depends on some choices.

    choices: distinct; fields[i]: the names of OpSpec's fields that choices[i] fills, so that a cost model which
    ignores those fields needs no axis for the choice. make(values by choice name) -> OpSpec, or None when the op is
    absent. inputs, output: names of tensors in the schedule. in_place: index into inputs whose buffer the output may
    take over (the residual of a fused add), or None.
    """

    name: str
    choices: tuple[Choice, ...]
    fields: tuple[frozenset[str], ...]
    make: Callable[[Values], OpSpec | None]
    inputs: tuple[str, ...]
    output: str
    in_place: int | None = None

    def spec(self, values: Values) -> OpSpec | None:
        return self.make(values)

    def grid(self, choices: tuple[Choice, ...] | None = None) -> Iterator[OpSpec | None]:
        """Specs over the product of the options, last choice fastest; choices left out stay at their last option."""
        axes = self.choices if choices is None else choices
        values = {c.name: c.options[-1] for c in self.choices}
        for combination in itertools.product(*(c.options for c in axes)):
            values.update(zip((c.name for c in axes), combination))
            yield self.make(dict(values))


@dataclass(frozen=True)
class SearchTensor:
    """An activation tensor. make(values) -> (channels, height, width, bits)."""

    name: str
    choices: tuple[Choice, ...]
    make: Callable[[Values], tuple[int, int, int, int]]


@dataclass(frozen=True)
class Schedule:
    """`ops` in execution order; `tensors` by name; the network's input and output tensors by name."""

    ops: tuple[SearchOp, ...]
    tensors: Mapping[str, SearchTensor]
    input: str
    output: str

    def live_sets(self) -> list[tuple[str, ...]]:
        """Names of the tensors alive during each op: made before or by it, and still needed by it or a later one.

        An output that takes over a dying input's buffer (in_place) is not counted beside it.
        """
        last_use = {self.input: -1, self.output: len(self.ops)}
        for step, op in enumerate(self.ops):
            for name in op.inputs:
                last_use[name] = max(last_use.get(name, step), step)
        made = {self.input: -1}
        for step, op in enumerate(self.ops):
            made[op.output] = step
        live = []
        for step, op in enumerate(self.ops):
            names = [n for n, born in made.items() if born <= step and last_use.get(n, born) >= step]
            if op.in_place is not None and last_use[op.inputs[op.in_place]] == step:
                names.remove(op.output)
            live.append(tuple(names))
        return live
