"""Peak activation memory: the largest set of tensors that are alive at one step of the schedule.

    bound(values) = max over steps t of workspace(t) + sum of bytes(tensor) over the tensors alive at t
    bytes = h w ceil(c b / 8)        packed (microcontrollers: the codes of a pixel fill whole bytes)
          = h w c {1, 2, 4}          byte (host: one byte per code of up to 8 bits, int16 two, float32 four)

An operator that works in place has its output where its input was if both are of one size, else beside it (arena.py).
The network's input and outputs belong to the caller. No allocation beats the bound; `planned` is what the arena planner
needs, which is what a deployed network takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from lut.device import Storage
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchTensor, Values

from .arena import ALIGNMENT, Buffer, lifetimes, plan
from .base import CostModel
from .live import Live, When, live_rows
from .terms import Term, op_terms, value_term


def tensor_bytes(channels: int, height: int, width: int, bits: int, storage: Storage = "byte") -> int:
    """Bytes of one activation tensor with codes of `bits` (16: int16, 32: float32)."""
    if storage == "packed":
        return height * width * -(-channels * bits // 8)
    return height * width * channels * (1 if bits <= 8 else 2 if bits <= 16 else 4)


@dataclass(frozen=True)
class PeakRam:
    """Peak activation memory of a schedule in bytes.

    workspace: scratch bytes of an operator, None for none. slack: bytes left behind every buffer and the whole.
    alignment: of every buffer, in bytes. outside: bytes that a network takes beside its activations.
    """

    schedule: Schedule
    storage: Storage = "byte"
    workspace: CostModel | None = None
    slack: int = 0
    alignment: int = ALIGNMENT
    outside: int = 0
    name: str = "ram"
    unit: str = "B"

    def bytes(self, tensor: SearchTensor, values: Values) -> int:
        """Bytes of one tensor and its slack; 0 when it has no channels."""
        size = tensor_bytes(*tensor.make(values), storage=self.storage)
        return size + self.slack if size else 0

    def bound(self, values: Values) -> float:
        """Largest live set of one architecture, `values` by choice name."""
        made = self._made(values)
        sizes, scratch = made._sizes(values)
        return float(max(scratch[row.step] + _alive(row, sizes) for row in made._live) + self.fixed)

    def planned(self, values: Values) -> float:
        """Size of the arena in which every buffer of one architecture is placed; at least the bound."""
        made = self._made(values)
        sizes, scratch = made._sizes(values)
        ops, outputs = made.schedule.ops, made.schedule.outputs
        inside = {n: size for n, size in sizes.items() if size and n not in {self.schedule.input, *outputs}}
        buffers, shared = lifetimes(ops, inside, outputs)
        buffers += [Buffer(f"workspace of step {step}", size, step, step) for step, size in enumerate(scratch) if size]
        return float(plan(buffers, shared, self.alignment).size + self.fixed)

    def rows(self) -> list[list[Term]]:
        """Terms of each step; the bound is the largest sum, and `fixed`. Rows contained in another are left out.

        With more identities in a row than live.py follows, a sum may exceed it.
        """
        rows, known = self._live, dict[tuple[str, When, When, str, tuple[When, ...]], Term]()
        if self.workspace is None:
            rows, scratch = _largest(rows), None
        else:
            scratch = op_terms(self.schedule.ops, self.workspace)

        def term(name: str, row: Live) -> Term:
            output, taken = row.takes or ("", "")
            place = (taken, row.apart) if name == output else ("", ())
            key = (name, row.when, row.same.get(name, ()), *place)
            if key not in known:
                known[key] = self._term(*key)
            return known[key]

        terms = [[term(name, row) for name in sorted(row.names)] for row in rows]
        return terms if scratch is None else [[*some, scratch[row.step]] for some, row in zip(terms, rows)]

    @property
    def fixed(self) -> int:
        """Bytes that every architecture takes beside its buffers."""
        return self.slack + self.outside

    @property
    def choices(self) -> set[Choice]:
        """What the peak depends on."""
        return {source for row in self.rows() for term in row for choice in term.choices for source in choice.sources}

    @cached_property
    def _live(self) -> list[Live]:
        return live_rows(self.schedule)

    def _made(self, values: Values) -> PeakRam:
        """Of the operators that exist in one architecture."""
        return replace(self, schedule=self.schedule.fixed(values)) if self.schedule.mixes else self

    def _sizes(self, values: Values) -> tuple[dict[str, int], list[int]]:
        """Bytes by tensor, and scratch bytes by step."""
        sizes = {name: self.bytes(tensor, values) for name, tensor in self.schedule.tensors.items()}
        specs = [op.spec(values) for op in self.schedule.ops]
        work = self.workspace
        return sizes, [0 if work is None or spec is None else int(work(spec)) for spec in specs]

    def _term(self, name: str, when: When, same: When, taken: str, apart: tuple[When, ...]) -> Term:
        """Bytes where `when` holds, the tensor is no other one, and it is not in the place of `taken`: which is of the
        same size, and no other tensor either."""
        tensor, old = self.schedule.tensors[name], self.schedule.tensors.get(taken)

        def holds(literals: When, values: Values) -> bool:
            return all(values[choice.name] == option for choice, option in literals)

        def size(values: Values) -> float:
            own = self.bytes(tensor, values)
            if not holds(when, values) or (same and holds(same, values)):
                return 0.0
            takes = old is not None and own == self.bytes(old, values) and not any(holds(w, values) for w in apart)
            return 0.0 if takes else float(own)

        literals = (choice for choice, _ in itertools.chain(when, same, *apart))
        return value_term(tuple(dict.fromkeys([*tensor.choices, *(old.choices if old else ()), *literals])), size)


def _alive(row: Live, sizes: Mapping[str, int]) -> int:
    """Bytes of a step's tensors."""
    shared = 0 if row.takes is None or sizes[row.takes[0]] != sizes[row.takes[1]] else sizes[row.takes[0]]
    return sum(sizes[name] for name in row.names) - shared


def _largest(rows: list[Live]) -> list[Live]:
    """Those that no other one contains; of equal ones the first."""
    return [
        row
        for i, row in enumerate(rows)
        if not any(other.holds(row) and (j < i or not row.holds(other)) for j, other in enumerate(rows) if j != i)
    ]
