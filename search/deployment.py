"""Build, check and measure the networks of a run, and hold the measured latency against the budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.program import Program
from deploy.tvm_build import HostModule, build
from deploy.validate import describe_network, measure_networks
from lut.device import Device
from lut.machine import this_machine
from lut.profilers.host import remeasure
from lut.table import LatencyTable
from supernet.arch import Arch

from .budget import Budget
from .config import DeployConfig
from .dataset import to_bytes
from .sources import Sources

MEASURED = {"latency": "measured", "latency.p90": "p90"}


class Deployment:
    """`folder`/deploy holds one built network per program."""

    def __init__(self, device: Device, table: LatencyTable, folder: Path, sources: Sources, config: DeployConfig):
        self.device, self.table, self.folder, self.config = device, table, folder, config
        self.images, self.labels = byte_images(sources)
        self.drift = self._drift()

    def _drift(self) -> list[dict[str, Any]]:
        drift = remeasure(self.table, device=self.device)
        return [
            {"name": f"{spec.kind} {spec.c_in}->{spec.c_out} {spec.height}x{spec.width}",
             "table_us": then, "now_us": now, "drift": now / then - 1}
            for spec, (then, now) in drift.rows.items()
        ]  # fmt: skip

    def validate(self, programs: Mapping[str, Program]) -> dict[str, Any]:
        """validation.json's networks and drift. Raises LutError when a network is not equal to its reference."""
        isa = this_machine(self.device)["isa"]
        paths = {name: build(p, isa, self.folder / "deploy" / name) for name, p in programs.items()}
        timings = measure_networks(paths, self.device, self.config.repeats)
        networks = {
            name: describe_network(
                program, HostModule(paths[name]), timings[name], self.table, self.images, self.labels
            )
            for name, program in programs.items()
        }
        return {"source": "host", "networks": networks, "drift": self.drift}

    def broken(self, validation: Mapping[str, Any], limits: Sequence[Budget]) -> dict[str, float]:
        """measured / limit of every latency budget that the found network breaks on the device."""
        latency = validation["networks"]["found"]["latency_us"]
        ratios = {b.metric: latency[MEASURED[b.metric]] / b.limit for b in limits if b.metric in MEASURED}
        return {metric: ratio for metric, ratio in ratios.items() if ratio > 1}

    @staticmethod
    def tighten(limits: Sequence[Budget], broken: Mapping[str, float]) -> list[Budget]:
        """The limits that were broken, divided by the observed ratio."""
        return [replace(b, limit=b.limit / broken.get(b.metric, 1.0)) for b in limits]

    def budget_rows(self, validation: Mapping[str, Any], limits: Sequence[Budget], arch: Arch) -> list[dict[str, Any]]:
        """validation.json's budgets."""
        latency = validation["networks"]["found"]["latency_us"]
        rows = []
        for budget in limits:
            measured = latency[MEASURED[budget.metric]] if budget.metric in MEASURED else None
            predicted = arch.predicted[budget.metric]
            met = budget.fits(measured if measured is not None else predicted)
            rows.append({"metric": budget.metric, "limit": budget.limit, "unit": budget.unit,
                         "predicted": predicted, "measured": measured, "met": met})  # fmt: skip
        return rows


def byte_images(sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """The test split as the device sees it: uint8 (n, h, w, c) and labels (n,)."""
    data = sources.data
    images, labels = [], []
    for x, y in data.batches("test", 256):
        images.append(to_bytes(x, data.mean, data.std).permute(0, 2, 3, 1).contiguous().numpy())
        labels.append(np.asarray(y))
    return np.concatenate(images), np.concatenate(labels)
