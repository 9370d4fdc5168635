"""Runs an image in QEMU, counts what it executes between its marks, and ends it when it takes too long."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lut.device import Device
from lut.errors import LutError

from .flash import plugin_options
from .image import FOLDER, core_of, tools_of
from .toolchain import run_tool
from .trace import Instruction, Region, listing, regions


class Hang(LutError):
    """An image that did not end within its limit."""


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


def _run(command: list[str], folder: Path, seconds: float) -> tuple[int, str]:
    """(exit status, output) of a program in a process group of its own, which is killed as a whole."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Hang(f"{Path(command[0]).name}: the image did not end within {seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return process.returncode, output.read(1 << 20).decode(errors="replace")


def run(device: Device, image: Path, folder: Path, seconds: float) -> Run:
    """Run an image whose files are in `folder`. Raises Hang, and LutError when it faults or ends with another status
    than 0: with what it printed."""
    tools = tools_of(device)
    marks, plugin, counts = _marks(device, image), folder / "count.so", folder / "counts"
    plugin.write_bytes(_plugin(tools.cc))
    begin, end = (hex(marks[name]) for name in ("mark_begin", "mark_end"))
    command = [tools.qemu, "-M", core_of(device).machine, *tools.options, "-display", "none", "-monitor", "none"]
    command += ["-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel", str(image)]
    command += ["-plugin", f"{plugin},begin={begin},end={end},out={counts}{plugin_options(device)}"]
    status, output = _run(command, folder, seconds)
    if status:
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise LutError(f"{image.name}: {how}: {output.strip()[-500:] or 'it printed nothing'}")
    disassembly = run_tool([tools.objdump, "-d", "--no-show-raw-insn", str(image)])
    return Run(output, regions(counts.read_text().splitlines()), listing(disassembly))
