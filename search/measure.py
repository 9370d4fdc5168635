"""Build the networks of a run for its device, this computer or one behind RPC, and measure them there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploy.program import Program
from deploy.tvm_build import build
from deploy.validate import EXACT_IMAGES, describe_network, measure_networks, open_module
from lut.build import profiler_of
from lut.device import Device
from lut.machine import this_machine
from lut.profilers.host import HostProfiler, remeasure
from lut.table import LatencyTable

from .config import DeployConfig
from .deployment import device_bytes, integer_metric
from .sources import Sources


class Measured:
    """`folder`/deploy holds one built network per program. Raises LutError when the device can't be measured."""

    def __init__(self, device: Device, table: LatencyTable, folder: Path, sources: Sources, config: DeployConfig):
        self.device, self.table, self.folder, self.config = device, table, folder, config
        self.sources = sources
        self.drift = self._drift()

    def _drift(self) -> list[dict[str, Any]]:
        profiler = profiler_of(self.device)
        assert isinstance(profiler, HostProfiler)
        drift = remeasure(self.table, device=self.device, profiler=profiler)
        return [
            {"name": f"{spec.kind} {spec.c_in}->{spec.c_out} {spec.height}x{spec.width}",
             "table_us": then, "now_us": now, "drift": now / then - 1}
            for spec, (then, now) in drift.rows.items()
        ]  # fmt: skip

    def validate(self, programs: Mapping[str, Program]) -> dict[str, Any]:
        """validation.json's networks and drift. Raises LutError when a network is not equal to its reference."""
        isa, threads, folder = this_machine(self.device)["isa"], self.device.threads, self.folder / "deploy"
        paths = {name: build(p, isa, folder / name, self.table, threads) for name, p in programs.items()}
        timings = measure_networks(paths, self.device, self.config.repeats)
        images = first_images(self.sources, EXACT_IMAGES)
        networks = {}
        for name, program in programs.items():
            module = open_module(paths[name], self.device)
            networks[name] = describe_network(program, module, timings[name], self.table, images)
            networks[name]["top1"] = {"integer": integer_metric(program, self.sources, module.run)}
        source = "host" if self.device.runner == "host" else "board"
        return {"source": source, "networks": networks, "drift": self.drift}


def first_images(sources: Sources, count: int) -> np.ndarray:
    """Up to `count` images of the test split as the device sees them, uint8 (n, h, w, c)."""
    images: list[np.ndarray] = []
    for x, _ in sources.data.batches("test", 256):
        images.append(device_bytes(x, sources).numpy())
        if sum(map(len, images)) >= count:
            break
    return np.concatenate(images)[:count]
