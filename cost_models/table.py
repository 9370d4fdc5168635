"""Latency as the sum of a table's rows: latency(net) = call + sum over ops of (scale row(op) + per op + per KiB read).

The additive model of ProxylessNAS (Cai 2019) and FBNet (Wu 2019). The sum of medians estimates the median; the sum of
90th percentiles is an upper estimate of the network's. Cycles and energy, where the table has them, are plain sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lut.calibrate import Calibration
from lut.columns import describe
from lut.errors import InputError, LutError
from lut.rules import FREE
from lut.spec import Latency, OpSpec

from .base import CostModel

TIMES = {"latency": "us", "latency.p90": "p90"}
TABLED = {**TIMES, "cycles": "cycles", "energy": "energy_uj"}
"""Metric name -> the field of Latency that it adds up."""

UNCALIBRATED = "uncalibrated: one cycle per instruction"


class Lookup(Protocol):
    """What is needed of a LatencyTable."""

    provenance: Mapping[str, str]

    def lookup(self, spec: OpSpec) -> Latency: ...


class TableLatency(CostModel):
    """A metric of TABLED: microseconds, cycles or microjoules. `lookup` raises LutError for a row that is neither
    measured nor interpolated; so does a row without the metric.

    calibration: what whole networks take beyond their rows (lut/calibrate.py), for times; default the plain sum.
    """

    def __init__(self, table: Lookup, metric: str = "latency", calibration: Calibration | None = None):
        if metric not in TABLED:
            raise InputError(f"metric: {metric!r} is not in a latency table; it is one of {', '.join(TABLED)}")
        self.name = metric
        self.unit = "us" if metric in TIMES else "uJ" if metric == "energy" else ""
        self.calibration = calibration if calibration and metric in TIMES else Calibration()
        self.fixed = self.calibration.call_us
        self.table = table
        self.field = TABLED[metric]
        self.note = UNCALIBRATED if metric in TIMES and getattr(table, "source", None) == "instructions" else ""
        self.ignores = _ignored(table)
        self.blocks = frozenset(getattr(table, "kinds", ()))

    def __call__(self, op: OpSpec) -> float:
        row = self.table.lookup(op)
        value = getattr(row, self.field)
        if value is None:
            raise LutError(f"{describe(op)}: its row has no {self.name}; measure it, or set a budget on latency")
        return 0.0 if row is FREE else self.calibration.of_row(value, op)


class TableWorkspace(CostModel):
    """Scratch bytes that an operator's kernel needs while it runs, by table."""

    name, unit = "workspace", "B"

    def __init__(self, table: Lookup):
        self.table = table
        self.ignores = _ignored(table)

    def __call__(self, op: OpSpec) -> float:
        return float(self.table.lookup(op).workspace_bytes)


def _ignored(table: Lookup) -> frozenset[str]:
    """Fields that the table says its rows do not depend on."""
    fields = set(table.provenance.get("ignores", "").split())
    if table.provenance.get("collapse") == "act_bits":
        fields |= {"in_bits", "out_bits"}
    return frozenset(fields)
