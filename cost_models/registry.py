"""Metrics by name: what a budget may limit."""

from __future__ import annotations

from collections.abc import Iterable

from lut.calibrate import Calibration
from lut.device import Storage
from lut.errors import InputError
from lut.table import LatencyTable
from supernet.schedule import Schedule

from .base import CostModel
from .counts import COUNTS
from .energy import DerivedEnergy, derived
from .memory import PeakRam
from .table import TABLED, Lookup, TableLatency, TableWorkspace

METRICS = (*TABLED, "ram", *COUNTS)


def build_costs(
    metrics: Iterable[str],
    schedule: Schedule,
    table: Lookup | None = None,
    storage: Storage = "byte",
    calibration: Calibration | None = None,
    slack: int = 0,
    power: float | None = None,
) -> dict[str, CostModel | PeakRam]:
    """Cost models of some metrics for one network; memory counts the table's workspaces, and `slack` bytes a buffer.
    power: W, from which energy is derived where the table has none.

    Raises InputError for an unknown metric, or a latency without a table.
    """
    costs: dict[str, CostModel | PeakRam] = {}
    for metric in metrics:
        if metric in COUNTS:
            costs[metric] = COUNTS[metric]
        elif metric == "ram":
            costs[metric] = PeakRam(schedule, storage, _workspace(table), slack)
        elif metric == "flash":
            raise InputError("metric: 'flash' is of microcontrollers; budget weights")
        elif metric not in TABLED:
            raise InputError(f"metric: {metric!r} is unknown; it is one of {', '.join(METRICS)}")
        elif table is None:
            raise InputError(f"metric: {metric!r} needs a latency table; build or import one for the device")
        elif power is not None and derived(metric, power, table):
            costs[metric] = DerivedEnergy(power, TableLatency(table, "latency", calibration))
        else:
            costs[metric] = TableLatency(table, metric, calibration)
    return costs


def _workspace(table: Lookup | None) -> TableWorkspace | None:
    """Scratch bytes, where the table knows of any: imported ones do not, and need not hold every layer."""
    if table is None or (isinstance(table, LatencyTable) and not any(r.workspace_bytes for r in table.values())):
        return None
    return TableWorkspace(table)
