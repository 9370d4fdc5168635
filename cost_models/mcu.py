"""What a network takes of a microcontroller's memories, exactly as its C project is linked.

    ram   = arena of activations and workspaces + image + scores + stack
    flash = for every operator: packed weights and scales, parameters, its kernel's code, its call; and the firmware

Operators of one shape share a kernel, and its code is counted once where a whole network is priced. In sums over
operators, which the solver and the expectation need, each has its own: about 1 KiB too much for a shared one.
"""

from __future__ import annotations

from collections.abc import Sequence

from lut.columns import describe
from lut.device import Storage
from lut.errors import InputError, LutError
from lut.mcu.emit import row_key, supported
from lut.mcu.image import STACK_BYTES
from lut.mcu.shapes import sizes, workspace_bytes
from lut.spec import OpSpec
from supernet.schedule import Schedule

from .base import CostModel
from .memory import PeakRam, tensor_bytes
from .table import Lookup

ALIGNMENT = 4
CALL_BYTES = 44
"""Of passing eight arguments."""
FIRMWARE_BYTES = {"": 816, "rv32im": 1988, "rv32imc": 1084}
"""Of start-up, port and main, by how a table's `isa` begins: what linked images of ResNet-8 and DS-CNN have beside
their operators. Without compressed instructions they are the longer, and functions lie at cache lines there."""
CONSTANTS = ("bias", "mult", "params")


def _key(op: OpSpec, storage: Storage) -> OpSpec:
    """The operator's row key; LutError for one that no microcontroller runs, such as the float32 baseline's."""
    if (reason := supported(op, storage)) is not None:
        raise LutError(f"{describe(op)}: no kernel: {reason}")
    return row_key(op, storage)


class McuWorkspace(CostModel):
    """Scratch bytes of an operator's kernel, by the rule that the kernels follow."""

    name, unit = "workspace", "B"

    def __init__(self, storage: Storage):
        self.storage = storage
        self.ignores = frozenset({"in_bits", "out_bits"} if storage == "byte" else {"out_bits"})

    def __call__(self, op: OpSpec) -> float:
        return float(workspace_bytes(_key(op, self.storage)))


class Flash(CostModel):
    """Bytes of flash; the table has each kernel's code."""

    name, unit = "flash", "B"

    def __init__(self, table: Lookup, storage: Storage = "byte"):
        self.table, self.storage = table, storage
        isa = table.provenance.get("isa", "")
        self.fixed = float(FIRMWARE_BYTES[max(filter(isa.startswith, FIRMWARE_BYTES), key=len)])

    def __call__(self, op: OpSpec) -> float:
        return float(self._constants(op) + self.table.lookup(op).code_bytes)

    def whole(self, specs: Sequence[OpSpec]) -> float:
        code = {row_key(op, self.storage): self.table.lookup(op).code_bytes for op in specs}
        return self.fixed + sum(map(self._constants, specs)) + sum(code.values())

    def _constants(self, op: OpSpec) -> int:
        """With the call."""
        stored = sizes(_key(op, self.storage))
        return stored["weights"] + sum(stored[name] for name in CONSTANTS) + CALL_BYTES


class _WithoutTable(CostModel):
    """In the place of flash, where there is no table."""

    name, unit = "flash", "B"

    def __call__(self, op: OpSpec) -> float:
        raise InputError("metric: 'flash' needs the device's table, which has the kernels' sizes; build it")


def mcu_costs(schedule: Schedule, table: Lookup | None, storage: Storage = "byte") -> dict[str, CostModel | PeakRam]:
    """`ram` and `flash`."""
    ends = 0
    for name, bits in ((schedule.input, 8), *((name, 16) for name in schedule.outputs)):
        channels, height, width, _ = schedule.tensors[name].make({})
        ends += -(-tensor_bytes(channels, height, width, bits) // ALIGNMENT) * ALIGNMENT
    ram = PeakRam(schedule, storage, McuWorkspace(storage), alignment=ALIGNMENT, outside=ends + STACK_BYTES)
    return {"ram": ram, "flash": _WithoutTable() if table is None else Flash(table, storage)}
