"""The programs that microcontrollers need, found on this machine, or one line that says what to install.

Versions below the least ones are refused: GCC 10 is the first here whose kernels were checked to the bit, QEMU 6.0 the
first whose plugin interface counts as `plugin/count.c` does.
"""

from __future__ import annotations

import functools
import re
import shutil
from dataclasses import dataclass

from lut.errors import LutError
from lut.process import run_tool


@dataclass(frozen=True)
class Family:
    """What compiles for an architecture and simulates it: prefix of the GNU tools, QEMU with its options and those of
    the plugin (plugin/count.c), and Debian's packages."""

    prefix: str
    qemu: str
    options: tuple[str, ...]
    plugin: str
    packages: str

    @property
    def install(self) -> str:
        return f"make toolchain, or apt-get install --no-install-recommends {self.packages}"


FAMILIES = {
    "arm": Family("arm-none-eabi-", "qemu-system-arm", (), "", "gcc-arm-none-eabi qemu-system-arm gcc"),
    "riscv": Family(
        "riscv64-unknown-elf-",
        "qemu-system-riscv32",
        ("-bios", "none"),
        ",crossing=1",
        "gcc-riscv64-unknown-elf qemu-system-misc gcc",
    ),
}
LEAST_GCC, LEAST_QEMU = 10, 6


@dataclass(frozen=True)
class Toolchain:
    """Paths of the programs, options of the simulator and its plugin; versions: of compiler and simulator, in words,
    for provenance."""

    gcc: str
    objdump: str
    nm: str
    size: str
    qemu: str
    options: tuple[str, ...]
    plugin: str
    cc: str
    versions: tuple[str, str]


def found(name: str, install: str) -> str:
    """The program's path. LutError with the command that installs it."""
    path = shutil.which(name)
    if path is None:
        raise LutError(f"{name}: not found; install it: {install}")
    return path


def _version(name: str, least: int, install: str) -> str:
    """Of a program's --version, its first dotted number. LutError when it is too old."""
    line = run_tool([found(name, install), "--version"], 20.0).partition("\n")[0]
    numbers = re.findall(r"[0-9]+\.[0-9]+[0-9.]*", line)
    version = numbers[-1] if numbers and name.endswith("gcc") else numbers[0] if numbers else "0"
    if int(version.partition(".")[0]) < least:
        raise LutError(f"{name}: version {version} is too old, {least} is the least; {install}")
    return version


@functools.cache
def toolchain(family: str = "arm") -> Toolchain:
    """What is installed here for one of FAMILIES. LutError with the packages when something is missing or too old."""
    made = FAMILIES[family]
    gcc = _version(f"{made.prefix}gcc", LEAST_GCC, made.install)
    qemu = _version(made.qemu, LEAST_QEMU, made.install)
    gcc_path, objdump, nm, size = (found(made.prefix + name, made.install) for name in ("gcc", "objdump", "nm", "size"))
    return Toolchain(
        gcc=gcc_path,
        objdump=objdump,
        nm=nm,
        size=size,
        qemu=found(made.qemu, made.install),
        options=made.options,
        plugin=made.plugin,
        cc=found("cc", made.install),
        versions=(f"{made.prefix}gcc {gcc}", f"qemu {qemu}"),
    )
