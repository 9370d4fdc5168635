"""Latency as the sum of a table's rows: latency(net) = call + sum over ops of (scale row(op) + per op).

The additive model of ProxylessNAS (Cai 2019) and FBNet (Wu 2019). The sum of medians estimates the median; the sum of
90th percentiles is an upper estimate of the network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lut.calibrate import Calibration
from lut.errors import InputError
from lut.spec import Latency, OpSpec

from .base import CostModel

QUANTILES = {"latency": "us", "latency.p90": "p90"}
"""Metric name -> the field of Latency that it adds up."""


class Lookup(Protocol):
    """What is needed of a LatencyTable."""

    provenance: Mapping[str, str]

    def lookup(self, spec: OpSpec) -> Latency: ...


class TableLatency(CostModel):
    """Latency in microseconds by table. `lookup` raises LutError for a row that is neither measured nor interpolated.

    calibration: what whole networks cost beyond their rows (lut/calibrate.py); default the plain sum.
    """

    unit = "us"

    def __init__(self, table: Lookup, metric: str = "latency", calibration: Calibration | None = None):
        if metric not in QUANTILES:
            raise InputError(f"metric: {metric!r} is not in a latency table; it is one of {', '.join(QUANTILES)}")
        self.name = metric
        self.calibration = calibration or Calibration()
        self.fixed = self.calibration.call_us
        self.table = table
        self.field = QUANTILES[metric]
        self.ignores = _ignored(table)

    def __call__(self, op: OpSpec) -> float:
        return self.calibration.scale * getattr(self.table.lookup(op), self.field) + self.calibration.op_us


class TableWorkspace(CostModel):
    """Scratch bytes that an operator's kernel needs while it runs, by table."""

    name, unit = "workspace", "B"

    def __init__(self, table: Lookup):
        self.table = table
        self.ignores = _ignored(table)

    def __call__(self, op: OpSpec) -> float:
        return float(self.table.lookup(op).workspace_bytes)


def _ignored(table: Lookup) -> frozenset[str]:
    """Activation bits, where the table says that its rows do not depend on them."""
    collapsed = table.provenance.get("collapse") == "act_bits"
    return frozenset({"in_bits", "out_bits"}) if collapsed else frozenset()
