"""Energy where no row has it measured: active power times time, and labelled `derived` wherever it is shown.

    energy(net) = power latency(net)     W us = uJ

The power is one figure of the device, whatever it executes.
"""

from __future__ import annotations

from lut.spec import OpSpec
from lut.table import LatencyTable

from .base import CostModel
from .table import Lookup, TableLatency

DERIVED = "derived from power and time"


class DerivedEnergy(CostModel):
    """Microjoules. power: W; latency: microseconds."""

    name, unit, note = "energy", "uJ", DERIVED

    def __init__(self, power: float, latency: TableLatency):
        self.power, self.latency = power, latency
        self.fixed = power * latency.fixed
        self.ignores, self.blocks = latency.ignores, latency.blocks

    def __call__(self, op: OpSpec) -> float:
        return self.power * self.latency(op)


def has_energy(table: Lookup | None) -> bool:
    """Whether rows carry energy of their own."""
    return isinstance(table, LatencyTable) and any(row.energy_uj is not None for row in table.values())


def derived(metric: str, power: float | None, table: Lookup | None) -> bool:
    """Whether a metric's figures are derived from power and time."""
    return metric == "energy" and power is not None and not has_energy(table)
