"""Operators and tensors of a network in execution order, each a function of the choices it depends on.

Cost models, the budget solver and the profiling plan see a network only through this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lut.spec import OpSpec

from .choice import Choice

Values = Mapping[str, int]


@dataclass(frozen=True)
class SearchOp:
    """A deployed operator whose OpSpec depends on some choices.

    choices: distinct, and without a common source; fields[i]: the names of OpSpec's fields that choices[i] fills, so
    that a cost model which ignores those fields needs no axis for the choice. make(values by choice name) -> OpSpec, or
    None when the op is absent. inputs, output: names of tensors in the schedule. in_place: index into inputs whose
    buffer the output may take over (the residual of a fused add), or None. when: operator choices and the options
    under which the op exists.
    """

    name: str
    choices: tuple[Choice, ...]
    fields: tuple[frozenset[str], ...]
    make: Callable[[Values], OpSpec | None]
    inputs: tuple[str, ...]
    output: str
    in_place: int | None = None
    when: tuple[tuple[Choice, int], ...] = ()

    def spec(self, values: Values) -> OpSpec | None:
        return self.make(values)

    def grid(self, choices: tuple[Choice, ...] | None = None) -> Iterator[OpSpec | None]:
        """Specs over the product of the options, last choice fastest; choices left out stay at their last option."""
        axes = self.choices if choices is None else choices
        values = {name: value for c in self.choices for name, value in c.settings(c.options[-1]).items()}
        for combination in itertools.product(*([c.settings(option) for option in c.options] for c in axes)):
            for settings in combination:
                values.update(settings)
            yield self.make(dict(values))


@dataclass(frozen=True)
class SearchTensor:
    """An activation tensor. make(values) -> (channels, height, width, bits)."""

    name: str
    choices: tuple[Choice, ...]
    make: Callable[[Values], tuple[int, int, int, int]]


@dataclass(frozen=True)
class SearchBlock:
    """Operators that some tables price as one row. op: that row, in place of the operators called `members`."""

    op: SearchOp
    kind: str
    members: frozenset[str]


@dataclass(frozen=True)
class Schedule:
    """`ops` in execution order; `tensors` by name; the network's input and its outputs by name; its blocks.

    mixes: by the name of a tensor that operators choose between, the choice and each option's tensor.
    """

    ops: tuple[SearchOp, ...]
    tensors: Mapping[str, SearchTensor]
    input: str
    outputs: tuple[str, ...]
    blocks: tuple[SearchBlock, ...] = ()
    mixes: Mapping[str, tuple[Choice, tuple[str, ...]]] = field(default_factory=dict)

    def priced(self, kinds: frozenset[str] = frozenset()) -> tuple[SearchOp, ...]:
        """The operators, with one in place of each block of the `kinds` that are priced as a whole."""
        whole = {name: block for block in self.blocks if block.kind in kinds for name in block.members}
        ops: dict[str, SearchOp] = {}
        for op in self.ops:
            single = whole[op.name].op if op.name in whole else op
            ops.setdefault(single.name, single)
        return tuple(ops.values())

    def fixed(self, values: Values) -> Schedule:
        """The schedule of one architecture: the operators that exist, without choices."""

        def made(make: Callable[[Values], Any]) -> Callable[[Values], Any]:
            return lambda _: make(values)

        def source(name: str) -> str:
            if name not in self.mixes:
                return name
            choice, inputs = self.mixes[name]
            return source(inputs[choice.position(values[choice.name])])

        def settled(op: SearchOp) -> SearchOp:
            return replace(op, choices=(), fields=(), make=made(op.make), inputs=tuple(map(source, op.inputs)), when=())

        ops = tuple(settled(op) for op in self.ops if op.spec(values) is not None)
        names = {op.name for op in ops}
        blocks = tuple(replace(b, op=settled(b.op)) for b in self.blocks if b.members & names)
        used = {self.input, *(op.output for op in ops)}
        tensors = {name: SearchTensor(name, (), made(self.tensors[name].make)) for name in self.tensors if name in used}
        return Schedule(ops, tensors, self.input, self.outputs, blocks)
