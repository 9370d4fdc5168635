"""A board on a serial line: put an image there, and talk to its program.

A device's file names a program that flashes, and a file may come from somebody else. So that program runs only where
the environment variable LUTIER_FLASH is 1; else the error shows what would be run.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lut.device import Device, Serial
from lut.errors import LutError
from lut.process import Hang, run_limited

from .serial_line import SerialLine, Unreachable, open_line

CONSENT = "LUTIER_FLASH"
FLASH_SECONDS = 120.0


def serial_of(device: Device) -> Serial:
    """Raises LutError for a device without a serial line."""
    if device.serial is None:
        raise LutError(f"device {device.name}: runner: {device.runner}; a board has runner: serial and a serial line")
    return device.serial


def flash(device: Device, image: Path) -> None:
    """Run the device's flash command on an image. Raises Unreachable when there is none, when it may not run, is not
    installed, fails or hangs."""
    serial = serial_of(device)
    if not serial.flash:
        raise Unreachable(
            f"device {device.name}: serial.flash is empty, so {image} cannot be put on the board; for example: "
            'flash: [openocd, -f, board/st_nucleo_l4.cfg, -c, "program {image} verify reset exit"]'
        )
    command = [word.replace("{image}", str(image)) for word in serial.flash]
    if os.environ.get(CONSENT) != "1":
        raise Unreachable(f"device {device.name}: to flash the board this runs\n    {shlex.join(command)}\n"
                       f"read it, and allow it with {CONSENT}=1 in the environment")  # fmt: skip
    if shutil.which(command[0]) is None:
        raise Unreachable(f"device {device.name}: serial.flash: {command[0]}: not found; install it or name its path")
    try:
        ended = run_limited(command, Path(), FLASH_SECONDS)
    except Hang:
        raise Unreachable(f"device {device.name}: {shlex.join(command)}: not done after {FLASH_SECONDS:g} s") from None
    if ended.status:
        said = ended.said.strip() or f"exit status {ended.status}"
        raise Unreachable(f"device {device.name}: {shlex.join(command)}: {said}")


@contextmanager
def attached(device: Device, image: Path, program: str) -> Iterator[SerialLine]:
    """The line to `program`, which `image` holds and the board now runs. Raises Unreachable when it does not, and what
    `SerialLine` raises."""
    serial = serial_of(device)
    flash(device, image)
    with open_line(serial.port, serial.baud, serial.seconds) as line:
        line.wait_ready(program)
        yield line
