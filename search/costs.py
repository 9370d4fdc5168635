"""Cost models of one network for one device, as the search, the solver and the plan use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from cost_models.base import CostModel
from cost_models.energy import derived, has_energy
from cost_models.expected import expected
from cost_models.mcu import mcu_costs
from cost_models.memory import PeakRam
from cost_models.registry import build_costs
from lut.calibrate import Calibration
from lut.device import Device
from lut.errors import InputError, LutError
from lut.kernels.signature import SLACK
from lut.table import LatencyTable
from supernet.extract import Subnet
from supernet.supernet import Supernet

from .budget import UNITS, Budget
from .solve import cost_of

Costs = dict[str, CostModel | PeakRam]
FIELDS = {
    "latency": "latency_us",
    "weights": "weights_bytes",
    "ram": "ram_bytes",
    "macs": "macs",
    "flash": "flash_bytes",
    "energy": "energy_uj",
}
"""Metric -> its name where a network's costs are reported."""


def network_costs(
    net: Supernet | Subnet, metrics: Iterable[str], table: LatencyTable | None, device: Device | None = None
) -> Costs:
    """Cost models by metric: latency by the calibrated table, memory at the device's storage. InputError as
    cost_models.registry.build_costs."""
    calibration = Calibration.of(table) if table is not None else Calibration()
    storage = device.act_storage if device is not None else "byte"
    wanted = dict.fromkeys(metrics)
    power = device.power if device is not None else None
    if "energy" in wanted and power is None and table is not None and not has_energy(table):
        who = f"device {device.name}" if device is not None else "the table's device"
        raise InputError(f"metric: 'energy': rows have none and {who} names no power; set power: in its file, "
                         "or a budget on latency")  # fmt: skip
    if device is not None and device.core is not None:
        own = mcu_costs(net.schedule(), table, storage)
        rest = build_costs([m for m in wanted if m not in own], net.schedule(), table, storage, calibration, 0, power)
        return {metric: own[metric] if metric in own else rest[metric] for metric in wanted}
    slack = SLACK if device is not None and device.has_kernels else 0
    return build_costs(wanted, net.schedule(), table, storage, calibration, slack, power)


REPORTED = ("weights", "ram", "macs")
"""Metrics that a run reports beside its budgets', latency aside."""


def expected_costs(net: Supernet, costs: Costs) -> dict[str, nn.Module]:
    """The differentiable form of each cost."""
    return {metric: expected(cost, net.schedule(), net.choices()) for metric, cost in costs.items()}


def resolve(net: Supernet, costs: Costs, budgets: Sequence[Budget]) -> list[Budget]:
    """Budgets in base units; shares are of `net.reference()`. Raises LutError where its cost is not known."""
    schedule, reference = net.reference(), dict[str, float]()
    for budget in budgets:
        if budget.relative:
            cost = costs[budget.metric]
            cost = replace(cost, schedule=schedule) if isinstance(cost, PeakRam) else cost
            try:
                reference[budget.metric] = cost_of(schedule, cost, {})
            except LutError as error:
                raise LutError(f"{budget.describe()}, whose cost is not known: {error}. Give the limit as a quantity, "
                               f"such as {budget.metric}=5{list(UNITS[budget.metric])[1]}") from None  # fmt: skip
    return [budget.resolve(reference) for budget in budgets]


def predicted(subnet: Subnet, table: LatencyTable | None, device: Device | None = None) -> dict[str, float | None]:
    """What the models say that a network costs, by FIELDS' names; None where a table has no row for the network."""
    values: dict[str, float | None] = {}
    has = {
        "flash": device is not None and device.core is not None,
        "energy": device is not None and derived("energy", device.power, table),
    }
    metrics = [metric for metric in FIELDS if has.get(metric, True)]
    for metric, cost in network_costs(subnet, metrics, table, device).items():
        try:
            values[FIELDS[metric]] = cost_of(subnet.schedule(), cost, subnet.values())
        except LutError:
            values[FIELDS[metric]] = None
    return values
