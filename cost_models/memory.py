"""Peak activation memory: the largest set of tensors that are alive at one step of the schedule.

    bound(values) = max over steps t of workspace(t) + sum of bytes(tensor) over the tensors alive at t
    bytes = h w ceil(c b / 8)        packed (microcontrollers: the codes of a pixel fill whole bytes)
          = h w c {1, 2, 4}          byte (host: one byte per code of up to 8 bits, int16 two, float32 four)

An operator that works in place holds the larger of the two tensors that share the buffer: one row with the old tensor,
one with the new. The network's input and outputs belong to the caller. No allocation beats the bound; `planned` is what
the arena planner needs, which is what a deployed network takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lut.device import Storage
from lut.errors import InputError
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchTensor, Values

from .arena import ALIGNMENT, Buffer, lifetimes, plan
from .base import CostModel
from .terms import Term, op_terms, value_term


def tensor_bytes(channels: int, height: int, width: int, bits: int, storage: Storage = "byte") -> int:
    """Bytes of one activation tensor with codes of `bits` (16: int16, 32: float32)."""
    if storage == "packed":
        return height * width * -(-channels * bits // 8)
    return height * width * channels * (1 if bits <= 8 else 2 if bits <= 16 else 4)


def live_rows(schedule: Schedule) -> list[tuple[int, frozenset[str]]]:
    """(step, names of tensors that are in memory together then), the caller's tensors left out."""
    outside = {schedule.input, *schedule.outputs}
    rows = []
    for step, (op, alive) in enumerate(zip(schedule.ops, schedule.live_sets())):
        names = frozenset(alive)
        rows.append((step, names - outside))
        if op.in_place is not None and op.output not in names:
            rows.append((step, (names - {op.inputs[op.in_place]} | {op.output}) - outside))
    return rows


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

    def __post_init__(self) -> None:
        for op in self.schedule.ops:
            for choice in op.choices:
                if choice.kind == "op":
                    raise InputError(
                        f"ram: {choice.name}: memory is not yet bounded over operator choices; set a budget on "
                        "latency, weights or macs, and read the found network's memory off its deployment"
                    )

    def bytes(self, tensor: SearchTensor, values: Values) -> int:
        """Bytes of one tensor and its slack; 0 when it has no channels."""
        size = tensor_bytes(*tensor.make(values), storage=self.storage)
        return size + self.slack if size else 0

    def bound(self, values: Values) -> float:
        """Largest live set of one architecture, `values` by choice name."""
        sizes, scratch = self._sizes(values)
        return float(max(scratch[step] + sum(sizes[n] for n in names) for step, names in self._live) + self.fixed)

    def planned(self, values: Values) -> float:
        """Size of the arena in which every buffer of one architecture is placed; at least the bound."""
        sizes, scratch = self._sizes(values)
        outside = {self.schedule.input, *self.schedule.outputs}
        inside = {n: size for n, size in sizes.items() if size and n not in outside}
        buffers, shared = lifetimes(self.schedule.ops, inside, self.schedule.outputs)
        buffers = [buffer for buffer in buffers if buffer.name in inside]
        buffers += [Buffer(f"workspace of step {step}", size, step, step) for step, size in enumerate(scratch) if size]
        return float(plan(buffers, shared, self.alignment).size + self.fixed)

    def rows(self) -> list[list[Term]]:
        """Terms of each step; the bound is the largest sum, and `fixed`. Rows contained in another are left out."""
        terms = {name: self._term(tensor) for name, tensor in self.schedule.tensors.items()}
        if self.workspace is None:
            sets = {names for _, names in self._live}
            largest = [names for names in sets if not any(names < other for other in sets)]
            return [[terms[name] for name in sorted(names)] for names in sorted(largest, key=sorted)]
        scratch = op_terms(self.schedule.ops, self.workspace)
        return [[*(terms[name] for name in sorted(names)), scratch[step]] for step, names in self._live]

    @property
    def fixed(self) -> int:
        """Bytes that every architecture takes beside its buffers."""
        return self.slack + self.outside

    @property
    def choices(self) -> set[Choice]:
        """What the peak depends on."""
        return {source for row in self.rows() for term in row for choice in term.choices for source in choice.sources}

    @cached_property
    def _live(self) -> list[tuple[int, frozenset[str]]]:
        return live_rows(self.schedule)

    def _sizes(self, values: Values) -> tuple[dict[str, int], list[int]]:
        """Bytes by tensor, and scratch bytes by step."""
        sizes = {name: self.bytes(tensor, values) for name, tensor in self.schedule.tensors.items()}
        specs = [op.spec(values) for op in self.schedule.ops]
        work = self.workspace
        return sizes, [0 if work is None or spec is None else int(work(spec)) for spec in specs]

    def _term(self, tensor: SearchTensor) -> Term:
        return value_term(tensor.choices, lambda values: float(self.bytes(tensor, values)))
