"""The networks of a run on their device, or by its table alone, and their latency held against the budgets.

A device that runs the project's kernels, this computer or one behind RPC, is built for and measured (`measure.py`,
which brings TVM in), a microcontroller built for and simulated (`simulate.py`); for any other, costs are the table's
and accuracy is that of the integer reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deploy.integer import run_program
from deploy.predict import describe_prediction
from deploy.program import Program
from lut.device import Device
from lut.table import LatencyTable
from supernet.arch import Arch

from .budget import Budget
from .config import DeployConfig
from .dataset import to_bytes
from .evaluate import evaluate
from .sources import Sources

MEASURED = {
    "latency": ("latency_us", "measured"),
    "latency.p90": ("latency_us", "p90"),
    "ram": ("ram_bytes", "linked"),
    "flash": ("flash_bytes", "linked"),
}
"""Where a network of validation.json has what the device said of a metric."""


class Deployment(Protocol):
    """What the chain asks for: validation.json's `source`, `networks` and `drift` of some lowered networks."""

    def validate(self, programs: Mapping[str, Program]) -> dict[str, Any]: ...


def deployment(device: Device, table: LatencyTable, folder: Path, sources: Sources, config: DeployConfig) -> Deployment:
    """Measured where the device runs the project's kernels and the settings want it, else predicted."""
    if not device.has_kernels or not config.validate:
        return Predicted(table, sources, "imported" if device.runner == "imported" else "predicted")
    if device.core is not None:
        from .simulate import Simulated

        return Simulated(device, table, folder, sources)
    from .measure import Measured

    return Measured(device, table, folder, sources, config)


@dataclass(frozen=True)
class Predicted:
    """No measurement: the table's latency, the planner's bytes, and the integer reference on the test split."""

    table: LatencyTable
    sources: Sources
    source: str

    def validate(self, programs: Mapping[str, Program]) -> dict[str, Any]:
        networks = {name: describe_prediction(program, self.table) for name, program in programs.items()}
        for name, program in programs.items():
            if program.tensors[program.output].bits != 32:
                networks[name]["top1"]["integer"] = integer_metric(program, self.sources, partial(run_program, program))
        return {"source": self.source, "networks": networks, "drift": []}


def integer_metric(program: Program, sources: Sources, execute: Callable[[np.ndarray], Any]) -> float:
    """The metric on the test split of what `execute` makes of the bytes that the device sees: codes of the scores."""
    scale = program.tensors[program.output].scale

    def forward(x: Tensor) -> Tensor:
        return scale * torch.as_tensor(execute(device_bytes(x, sources).numpy()), dtype=torch.float32)

    return evaluate(sources.model, sources.data, "test", sources.metric, forward=forward)


def device_bytes(x: Tensor, sources: Sources) -> Tensor:
    """uint8 (n, h, w, c) of normalised inputs (n, C, H, W)."""
    return to_bytes(x, sources.data.mean, sources.data.std).permute(0, 2, 3, 1).contiguous()


def broken(validation: Mapping[str, Any], limits: Sequence[Budget]) -> dict[str, float]:
    """measured / limit of every budget that the found network breaks on the device."""
    measured = {b.metric: _measured(validation, b) for b in limits}
    ratios = {b.metric: value / b.limit for b in limits if (value := measured[b.metric]) is not None}
    return {metric: ratio for metric, ratio in ratios.items() if ratio > 1}


def tighten(
    limits: Sequence[Budget], tightened: Sequence[Budget], validation: Mapping[str, Any], arch: Arch
) -> list[Budget]:
    """Limits for the next solve: of those in `limits` that were broken, what remains after division by measured /
    predicted, and never more than in `tightened`, which the last solve had."""
    result = []
    for asked, last in zip(limits, tightened):
        if asked.metric in broken(validation, limits):
            measured = _measured(validation, asked)
            assert measured is not None
            last = replace(last, limit=min(last.limit, asked.limit * arch.predicted[asked.metric] / measured))
        result.append(last)
    return result


def budget_rows(validation: Mapping[str, Any], limits: Sequence[Budget], arch: Arch) -> list[dict[str, Any]]:
    """validation.json's budgets: met by the measurement where there is one, else by the prediction."""
    rows = []
    for budget in limits:
        measured, predicted = _measured(validation, budget), arch.predicted[budget.metric]
        met = budget.fits(predicted if measured is None else measured)
        rows.append({"metric": budget.metric, "limit": budget.limit, "unit": budget.unit,
                     "predicted": predicted, "measured": measured, "met": met})  # fmt: skip
    return rows


def _measured(validation: Mapping[str, Any], budget: Budget) -> float | None:
    """What the device said of a budget's metric; None when it was not measured."""
    section, key = MEASURED.get(budget.metric, ("", ""))
    return validation["networks"]["found"].get(section, {}).get(key)
