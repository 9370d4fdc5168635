"""What a lowered network costs before it is built: latency by the table, bytes by the packing rule and the planner.

Nothing here needs a compiler or the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cost_models.arena import Buffer, lifetimes, plan
from cost_models.counts import weight_bytes
from lut.calibrate import Calibration, read_kib
from lut.errors import LutError
from lut.spec import Latency
from lut.table import LatencyTable

from .program import Program


def rows_of(program: Program, table: LatencyTable) -> dict[str, Latency]:
    """The table's row of every operator, by name. LutError for one that it can't answer for."""
    return {op.name: table.lookup(replace(op.spec, site=op.name)) for op in program.ops}


def predicted_us(program: Program, table: LatencyTable) -> float:
    """Microseconds of the whole network by the table."""
    rows = rows_of(program, table)
    kib = sum(read_kib(op.spec) for op in program.ops)
    return Calibration.of(table).predict(sum(row.us for row in rows.values()), len(rows), kib)


def storage(program: Program) -> dict[str, int]:
    """Bytes: packed weights, biases and multipliers by the cost model's rule; activations as the arena holds them."""
    inside = {n: t.bytes for n, t in program.tensors.items() if n not in (program.input, *program.outputs)}
    buffers, shared = lifetimes(program.ops, inside, program.outputs)
    arena = plan([b for b in buffers if isinstance(b, Buffer) and b.name in inside], shared)
    return {"weights": sum(weight_bytes(op.spec) for op in program.ops), "ram": arena.size}


def describe_prediction(program: Program, table: LatencyTable) -> dict[str, Any]:
    """One network of validation.json that was not measured; latency is None when the table can't answer for an
    operator (an imported table seldom holds float32 rows)."""
    sizes = storage(program)
    try:
        rows = rows_of(program, table)
        latency = predicted_us(program, table)
    except LutError:
        rows, latency = {}, None
    ops = [{"name": op.name, "kind": op.spec.kind, "predicted_us": rows[op.name].us} for op in program.ops if rows]
    return {
        "latency_us": {"predicted": latency},
        "weights_bytes": {"predicted": sizes["weights"]},
        "ram_bytes": {"predicted": sizes["ram"]},
        "top1": {},
        "interpolated_rows": sum(row.source == "interpolated" for row in rows.values()),
        "ops": ops,
    }
