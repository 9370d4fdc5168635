"""A network's C project, built with its own Makefile and run in the simulator: scores, cycles, bytes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lut.device import Device
from lut.errors import LutError
from lut.mcu.cycles import model_of
from lut.mcu.flash import waits
from lut.mcu.image import core_of, memories, tools_of
from lut.mcu.image import overflow as image_overflow
from lut.mcu.qemu import run

from .c_project import ALIGNMENT, Project
from .program import Program
from .results import dense, places

SECONDS_PER_IMAGE, BUILD_SECONDS = 30.0, 300.0


@dataclass(frozen=True)
class Simulation:
    """scores: int16 (n, values). cycles of an inference by the device's model, the same for every image, and
    microseconds at the device's clock; waits: those of the cycles that go to flash, the mean of the images; bytes: of
    the linked image, of the stack that was used."""

    scores: np.ndarray
    cycles: int
    us: float
    source: str
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int
    waits: int = 0


def build(project: Project, device: Device) -> Path:
    """Run the project's Makefile. LutError when the image exceeds a memory, by how much, or the compiler complains."""
    tools_of(device)
    command = ["make", "-s", "-C", str(project.folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise LutError(f"{' '.join(command)}: not done after {BUILD_SECONDS:g} s") from None
    if done.returncode:
        raise image_overflow(device, done.stderr) or LutError(f"{' '.join(command)}: {done.stderr.strip()}")
    return project.folder / f"{project.name}.elf"


def simulate(project: Project, program: Program, device: Device, images: np.ndarray) -> Simulation:
    """Build, and run uint8 images (n, h, w, c). Raises LutError as `build`, and when the image faults or hangs."""
    elf, folder = build(project, device), project.folder
    (folder / "images.bin").write_bytes(np.uint32(len(images)).tobytes() + images.tobytes())
    ran = run(device, elf, folder, SECONDS_PER_IMAGE * max(len(images), 1))
    model, size = model_of(core_of(device)), memories(device, elf)
    counts = {model.cycles(region, ran.listing) for region in ran.regions}
    if len(counts) != 1:
        raise LutError(f"{program.name}: inferences took {sorted(counts)} cycles; expected one number")
    waiting = round(sum(waits(device, region) for region in ran.regions) / len(ran.regions))
    cycles = counts.pop() + waiting
    assert device.clock is not None
    scores = np.fromfile(folder / "scores.bin", "<i2").reshape(len(images), -1)
    scores = dense(scores, places(program, ALIGNMENT))
    stack = int(ran.output.rpartition("stack ")[2])
    us = cycles / device.clock * 1e6
    return Simulation(scores, cycles, us, model.source, size["flash"], size["ram"], stack, waiting)
