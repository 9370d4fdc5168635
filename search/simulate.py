"""Build a run's networks for a microcontroller, run them there or in its simulator, hold them against the table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cost_models.energy import DERIVED, derived
from deploy.board import run_on_board
from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import Simulation, simulate
from deploy.predict import describe_prediction
from deploy.program import Program
from deploy.results import difference
from lut.device import Device
from lut.errors import LutError
from lut.table import LatencyTable

from .deployment import integer_metric
from .measure import first_images
from .sources import Sources

EXACT_IMAGES = 100


class Simulated:
    """`folder`/deploy holds a C project per network; the float32 baseline has none."""

    def __init__(self, device: Device, table: LatencyTable, folder: Path, sources: Sources):
        self.device, self.table, self.folder, self.sources = device, table, folder, sources

    def validate(self, programs: Mapping[str, Program]) -> dict[str, Any]:
        """validation.json's networks. Raises LutError when a network is not equal to its reference, or too large."""
        networks, source = {}, "predicted"
        for name, program in programs.items():
            networks[name] = describe_prediction(program, self.table)
            if not program.is_float:
                ran = self._run(name, program)
                source = ran.source
                _complete(networks[name], ran)
                if self.device.power is not None and derived("energy", self.device.power, self.table):
                    energy = {"predicted": None, "measured": self.device.power * ran.us, "note": DERIVED}
                    networks[name]["energy_uj"] = energy
                # the simulator gave the reference's scores, so its accuracy is the reference's
                networks[name]["top1"] = {
                    "integer": integer_metric(program, self.sources, partial(run_program, program))
                }
        return {"source": source, "networks": networks, "drift": []}

    def _run(self, name: str, program: Program) -> Simulation:
        images = first_images(self.sources, EXACT_IMAGES)
        project = write(program, self.device, self.folder / "deploy" / name)
        if self.device.runner == "serial":
            ran = run_on_board(project, program, self.device, images)
        else:
            ran = simulate(project, program, self.device, images)
        images = images[: len(ran.scores)]  # in RTL alone they are few
        if wrong := difference(program, run_program(program, images), ran.scores, f"the device ({ran.source})"):
            raise LutError(f"{program.name}: {wrong}")
        return ran


def _complete(network: dict[str, Any], ran: Simulation) -> None:
    """What the simulator said, beside what was predicted; `measured` is of the validation's source."""
    predicted = network["latency_us"]["predicted"]
    network["latency_us"] |= {"measured": ran.us, "p10": ran.us, "p90": ran.us, "error": predicted / ran.us - 1}
    network["cycles"] = ran.cycles
    network["flash_wait_cycles"] = ran.waits
    network["ram_bytes"]["linked"] = ran.ram_bytes
    network["stack_bytes"] = {"used": ran.stack_bytes}
    network["flash_bytes"] = {"predicted": None, "linked": ran.flash_bytes}
    network["exact_images"] = len(ran.scores)
