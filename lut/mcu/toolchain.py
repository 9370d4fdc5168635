"""The programs that microcontrollers need, found on this machine, or one line that says what to install.

Versions below the least ones are refused: GCC 10 is the first here whose kernels were checked to the bit, QEMU 6.0 the
first whose plugin interface counts as `plugin/count.c` does.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lut.errors import LutError

PREFIX = "arm-none-eabi-"
PACKAGES = "gcc-arm-none-eabi qemu-system-arm gcc"
INSTALL = f"make toolchain, or apt-get install --no-install-recommends {PACKAGES}"
LEAST = {f"{PREFIX}gcc": 10, "qemu-system-arm": 6, "cc": 0}


@dataclass(frozen=True)
class Toolchain:
    """Paths of the programs; versions: of compiler and simulator, in words, for provenance."""

    gcc: str
    objdump: str
    nm: str
    size: str
    qemu: str
    cc: str
    versions: tuple[str, str]


def run_tool(command: list[str], seconds: float = 120.0, folder: Path | None = None) -> str:
    """What a program prints. LutError has its complaint, or that it took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=folder)
    except subprocess.TimeoutExpired:
        raise LutError(f"{' '.join(command)}: not done after {seconds:g} s") from None
    if done.returncode:
        raise LutError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise LutError(f"{name}: not found; install it: {INSTALL}")
    return path


def _version(name: str) -> str:
    """Of a program's --version, its first dotted number. LutError when it is too old."""
    line = run_tool([_found(name), "--version"], 20.0).partition("\n")[0]
    numbers = re.findall(r"[0-9]+\.[0-9]+[0-9.]*", line)
    version = numbers[-1] if numbers and name.endswith("gcc") else numbers[0] if numbers else "0"
    if int(version.partition(".")[0]) < LEAST[name]:
        raise LutError(f"{name}: version {version} is too old, {LEAST[name]} is the least; {INSTALL}")
    return version


@functools.cache
def toolchain() -> Toolchain:
    """What is installed here. LutError with the packages when something is missing or too old."""
    gcc, qemu = _version(f"{PREFIX}gcc"), _version("qemu-system-arm")
    versions = f"{PREFIX}gcc {gcc}", f"qemu {qemu}"
    tools = {name: _found(f"{PREFIX}{name}") for name in ("gcc", "objdump", "nm", "size")}
    return Toolchain(**tools, qemu=_found("qemu-system-arm"), cc=_found("cc"), versions=versions)
