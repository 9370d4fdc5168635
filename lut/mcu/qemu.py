"""Runs an image in QEMU, counts what it executes between its marks, and ends it when it takes too long."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lut.device import Device
from lut.process import run_image, run_tool

from .flash import plugin_options
from .image import FOLDER, core_of, tools_of
from .trace import Instruction, Region, listing, regions


@dataclass(frozen=True)
class Run:
    """What an image printed, what was counted, and the instructions of the image."""

    output: str
    regions: list[Region]
    listing: dict[int, Instruction]


@functools.cache
def _plugin(cc: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "count.so")
        source = str(FOLDER / "plugin" / "count.c")
        run_tool([cc, "-O2", "-std=gnu11", "-fPIC", "-shared", source, "-o", str(path)])
        return path.read_bytes()


def _marks(device: Device, image: Path) -> dict[str, int]:
    """Addresses of the two marks."""
    words = [line.split() for line in run_tool([tools_of(device).nm, str(image)]).splitlines()]
    return {name: int(address, 16) for address, _, name in words if name in ("mark_begin", "mark_end")}


def run(device: Device, image: Path, folder: Path, seconds: float) -> Run:
    """Run an image whose files are in `folder`, the simulator's own included, by names alone: commas and `=` of a path
    would end an option of the plugin. Raises what `run_image` does."""
    tools = tools_of(device)
    marks = _marks(device, image)
    (folder / "count.so").write_bytes(_plugin(tools.cc))
    begin, end = (hex(marks[name]) for name in ("mark_begin", "mark_end"))
    command = [tools.qemu, "-M", core_of(device).machine, *tools.options, "-display", "none", "-monitor", "none"]
    command += ["-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel", str(image.resolve())]
    command += ["-plugin", f"./count.so,begin={begin},end={end},out=counts{tools.plugin}{plugin_options(device)}"]
    output = run_image(command, image, folder, seconds)
    disassembly = run_tool([tools.objdump, "-d", "--no-show-raw-insn", str(image)])
    return Run(output, regions((folder / "counts").read_text().splitlines()), listing(disassembly))
