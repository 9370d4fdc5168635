"""A network's C project, built with its own Makefile and run in simulators: scores, cycles, bytes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lut.device import Device
from lut.errors import LutError
from lut.mcu.cycles import model_of
from lut.mcu.flash import waits
from lut.mcu.image import board_of, core_of, enough_stack, memories, tools_of
from lut.mcu.image import overflow as image_overflow
from lut.mcu.qemu import run
from lut.mcu.rtl import INSTALL, run_rtl, versions
from lut.mcu.toolchain import FAMILIES, found
from lut.process import run_limited

from .c_project import ALIGNMENT, Project
from .program import Program
from .results import dense, places

SECONDS_PER_IMAGE, BUILD_SECONDS = 30.0, 300.0
RTL_IMAGES, RTL_ALONE, RTL_SECONDS = 1, 4, 1800.0
"""Images that run in RTL beside QEMU, and where there is nothing else."""
CACHES = 0.001
"""Of an inference's cycles: what the stages of a core with caches may keep of the one before it."""


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


def require_tools(device: Device) -> None:
    """Raises LutError when something that `simulate` or a board needs is missing, with what installs it."""
    _require_compiler(device)
    if device.runner == "simulator" and (rtl := core_of(device).rtl):
        versions(rtl)
        found("g++", INSTALL)


def _require_compiler(device: Device) -> None:
    tools_of(device)
    found("make", FAMILIES[board_of(device).family].install)


def build(project: Project, device: Device) -> Path:
    """Run the project's Makefile. LutError when the image exceeds a memory, by how much, or the compiler complains."""
    _require_compiler(device)
    command = ["make", "-s", "-C", str(project.folder)]
    ended = run_limited(command, Path(), BUILD_SECONDS)
    if ended.status:
        raise image_overflow(device, ended.errors) or LutError(f"{' '.join(command)}: {ended.errors.strip()}")
    return project.folder / f"{project.name}.elf"


def simulate(project: Project, program: Program, device: Device, images: np.ndarray) -> Simulation:
    """Build, and run uint8 images (n, h, w, c); the first of them on the core's RTL too, where the device names one,
    which gives the cycles then. A core that QEMU does not know runs RTL_ALONE of them in RTL. Raises LutError as
    `build`, when the image faults or hangs, and when RTL gives other scores."""
    elf, folder, model = build(project, device), project.folder, model_of(core_of(device))
    if model.cycles is None:
        images = images[:RTL_ALONE]
    write_images(images, folder)
    if model.cycles is None:
        measured = run_rtl(device, elf, folder, RTL_SECONDS)
        cycles = _one(program.name, measured.cycles, CACHES)
        output, waiting, source = measured.output, 0, model.source
    else:
        ran = run(device, elf, folder, SECONDS_PER_IMAGE * max(len(images), 1))
        waiting = round(sum(waits(device, region) for region in ran.regions) / len(ran.regions))
        cycles = _one(program.name, [model.cycles(region, ran.listing) for region in ran.regions]) + waiting
        output, source = ran.output, model.source
    raw = (folder / "scores.bin").read_bytes()
    if model.cycles is not None and core_of(device).rtl:
        cycles, source = on_rtl(elf, device, images[:RTL_IMAGES], raw), "rtl"
    assert device.clock is not None
    scores = dense(np.frombuffer(raw, "<i2").reshape(len(images), -1), places(program, ALIGNMENT))
    size, stack = memories(device, elf), enough_stack(program.name, int(output.rpartition("stack ")[2]))
    us = cycles / device.clock * 1e6
    return Simulation(scores, cycles, us, source, size["flash"], size["ram"], stack, waiting)


def _one(name: str, counts: list[int], spread: float = 0.0) -> int:
    """Cycles of every inference, the median. LutError when they differ by more than `spread` of it: kernels have no
    branch on data."""
    middle = int(np.median(counts))
    if max(counts) - min(counts) > spread * middle:
        raise LutError(f"{name}: inferences took {sorted(set(counts))} cycles; expected one number")
    return middle


def write_images(images: np.ndarray, folder: Path) -> None:
    """As mcu_main.c reads them."""
    (folder / "images.bin").write_bytes(np.uint32(len(images)).tobytes() + images.tobytes())


def on_rtl(elf: Path, device: Device, images: np.ndarray, scores: bytes) -> int:
    """Cycles of an inference on the core's RTL. scores: what QEMU began with. Raises LutError when they differ, as the
    cycles of inferences may not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(images, folder)
        ran = run_rtl(device, elf, folder, RTL_SECONDS)
        given = (folder / "scores.bin").read_bytes()
    if not given or not scores.startswith(given):
        raise LutError(f"{elf.stem}: RTL's scores are not QEMU's")
    return _one(elf.stem, ran.cycles)
