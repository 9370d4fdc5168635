"""A device: what it is and what its kernels can do, read from lut/devices/<name>.yaml or a file of the user's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .columns import nearest
from .errors import LutError
from .spec import FLOAT_BITS
from .strict import load

Storage = Literal["byte", "packed"]
"""Whether an activation below 8 bits takes a byte or its bits in memory."""
FOLDER = Path(__file__).parent / "devices"
TARGETS = {"host": "llvm", "rpc": "llvm", "simulator": "c", "serial": "c"}
"""TVM's target kind by runner, where kernels are built."""
FLAGS = re.compile(
    r"-m[a-z][\w+.,=-]*|-O[0-3sgz]?|-Ofast|-f(?!plugin|dump|profile|use-ld|callgraph|save|sarif)[a-z][\w=-]*|-D\w+(=\w+)?"
)
"""Flags of a compiler that a device file may give."""

_UNITS: dict[str, dict[str, float]] = {
    "clock": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "bytes": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "power": {"mW": 1e-3, "W": 1},
}


def shipped() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def quantity(text: Any, dimension: Literal["clock", "bytes", "power"]) -> float | None:
    """'84 MHz' -> 84e6 Hz, '256 KiB' -> 262144 bytes, '120 mW' -> .12 W; None stays. ValueError without a unit."""
    if text is None:
        return None
    units = _UNITS[dimension]
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([A-Za-z]+)\s*", str(text))
    try:
        value = float(match[1]) * units[match[2]] if match is not None else 0.0
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < math.inf or (dimension == "bytes" and value < 1):
        raise ValueError(f"{text!r} is not a positive number and a unit: {', '.join(units)}")
    return value


def _measured_in(dimension: Literal["clock", "bytes", "power"]) -> Mapping[str, Callable[[Any], Any]]:
    def parse(text: Any) -> float | int | None:
        value = quantity(text, dimension)
        return int(value) if dimension == "bytes" and value is not None else value

    return {"parse": parse}


@dataclass(frozen=True)
class Supports:
    """What the device's kernels can do; a search space is intersected with it. Empty `kinds`: any."""

    kinds: tuple[str, ...] = ()
    weight_bits: tuple[int, ...] = (8,)
    act_bits: tuple[int, ...] = (8,)
    channel_multiple: int = 1
    max_kernel: int = 11

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits"):
            bits = getattr(self, name)
            if not bits or any(not 1 <= b <= 8 and b != FLOAT_BITS for b in bits):
                raise ValueError(f"{name}: {list(bits)} are not bit-widths from 1 to 8, or 32 for float32")
        for name in ("channel_multiple", "max_kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")


@dataclass(frozen=True)
class Core:
    """What compiles for a microcontroller, and simulates it.

    machine: the board, by its name in lut/mcu/image.py; of a simulated one QEMU's `-M` knows it. flags: of the C
    compiler, code generation alone (FLAGS): others can run programs and write files. cycle_model: what makes cycles
    of counted instructions (lut/mcu/cycles.py); a board on a serial line counts its own. rtl: the core whose RTL
    runs whole networks (lut/mcu/rtl.py), where there is one. places: in how many a simulated row's buffers lie, one
    after another, where its cycles depend on that; the row is their median.
    """

    machine: str
    cycle_model: str = ""
    rtl: str = ""
    flags: tuple[str, ...] = ()
    places: int = 1

    def __post_init__(self) -> None:
        if self.places < 1:
            raise ValueError(f"core.places: {self.places} is not positive")
        for flag in self.flags:
            if not FLAGS.fullmatch(flag):
                raise ValueError(f"core.flags: {flag!r} is none of code generation: -m.., -O.., -f.. or -DNAME=NUMBER")


@dataclass(frozen=True)
class Serial:
    """A board's line to this computer.

    port: such as /dev/ttyACM0. baud: that of its firmware. flash: a program and its arguments that puts an image on the
    board, `{image}` standing for its path, run without a shell; empty: somebody does it by hand. seconds: that one
    computation may take.
    """

    port: str
    baud: int = 115200
    flash: tuple[str, ...] = ()
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not self.port or self.baud < 1 or self.seconds <= 0:
            raise ValueError("serial: port must be named, baud and seconds positive")
        if self.flash and not any("{image}" in word for word in self.flash):
            raise ValueError(f"serial.flash: {' '.join(self.flash)} does not say where {{image}} goes")


@dataclass(frozen=True)
class FlashCache:
    """What lies between a core and its flash. line: bytes of a line; read: bytes that one access to flash brings;
    so many lines for instructions and for data."""

    line: int
    read: int
    instruction_lines: int
    data_lines: int

    def __post_init__(self) -> None:
        for name in ("line", "read"):
            size = getattr(self, name)
            if size < 1 or size & (size - 1) or self.line > 64 * self.read or self.read > self.line:
                raise ValueError(f"{name}: {size} bytes; line and read are powers of two, a line 1 to 64 reads")
        for name in ("instruction_lines", "data_lines"):
            if not 1 <= getattr(self, name) <= 256:
                raise ValueError(f"{name}: {getattr(self, name)} is not from 1 to 256")


@dataclass(frozen=True)
class Device:
    """What a table belongs to. clock in Hz, ram and flash in bytes, power in W; None: unknown or not a limit.

    target: TVM's target kind. isa: of the kernels, `auto` asks the machine. runner: who executes a kernel.
    tracker: `host:port` of TVM's RPC tracker, where the device serves under its name; for `runner: rpc` alone.
    act_storage: whether an activation below 8 bits takes a byte (`byte`) or its bits (`packed`) in memory.
    wait_states: cycles that a read of flash costs beyond its first, behind flash_cache, in a simulator; power: while it
    computes.
    core: of a microcontroller, for `runner: simulator` and `runner: serial`, which also need clock, ram and flash.
    serial: the line to a board, for `runner: serial`.
    """

    name: str
    target: str = "llvm"
    isa: str = "auto"
    threads: int = 1
    clock: float | None = field(default=None, metadata=_measured_in("clock"))
    ram: int | None = field(default=None, metadata=_measured_in("bytes"))
    flash: int | None = field(default=None, metadata=_measured_in("bytes"))
    power: float | None = field(default=None, metadata=_measured_in("power"))
    wait_states: int = 0
    flash_cache: FlashCache | None = None
    tracker: str | None = None
    runner: Literal["host", "rpc", "simulator", "serial", "imported"] = "host"
    act_storage: Storage = "byte"
    supports: Supports = field(default_factory=Supports)
    core: Core | None = None
    serial: Serial | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(f"name: {self.name!r} is not lower-case words joined by hyphens, such as host-cpu")
        if self.threads < 1:
            raise ValueError(f"threads: {self.threads} is not positive")
        if self.runner == "rpc" and self.isa == "auto":
            raise ValueError("isa: 'auto' asks this computer; a device with runner: rpc names its own")
        if self.runner == "rpc" and not re.fullmatch(r"[^:\s]+:[0-9]+", self.tracker or ""):
            raise ValueError(f"tracker: {self.tracker!r} is not host:port; runner: rpc needs one")
        if self.wait_states < 0:
            raise ValueError(f"wait_states: {self.wait_states} is negative")
        if self.wait_states and self.core is not None and (self.core.rtl or self.core.cycle_model == "rtl"):
            raise ValueError("wait_states: the RTL's memory has none; give up core.rtl and a cycle_model of rtl")
        if self.wait_states and self.flash_cache is None:
            raise ValueError("wait_states: flash_cache is missing; it says what lies between core and flash")
        if self.power is not None and self.power <= 0:
            raise ValueError(f"power: {self.power:g} W is not positive")
        if self.runner in ("simulator", "serial"):
            needed = ("core", "clock", "ram", "flash", *(("serial",) if self.runner == "serial" else ()))
            lacking = [name for name in needed if getattr(self, name) is None]
            if lacking or self.isa == "auto":
                raise ValueError(f"runner: {self.runner} needs {', '.join(lacking) or 'the isa of its core'}")
        if self.runner == "simulator" and self.core is not None and not self.core.cycle_model:
            raise ValueError("core.cycle_model: runner: simulator needs one")
        if self.target != (target := TARGETS.get(self.runner, self.target)):
            raise ValueError(f"target: {self.target!r}; kernels for runner: {self.runner} are made for {target!r}")

    @property
    def has_kernels(self) -> bool:
        """Whether the project's own kernels run there, so that rows can be measured."""
        return self.runner in ("host", "rpc", "simulator", "serial")

    @staticmethod
    def load(name_or_path: str | Path) -> Device:
        """A device that ships with the package by its name, or any file by its path (*.yaml). Raises LutError."""
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            known = shipped()
            if str(name_or_path) not in known:
                hint = nearest(str(name_or_path), known)
                raise LutError(f"device: {name_or_path} is unknown; {hint} (or the path of a .yaml file)")
            path = FOLDER / f"{name_or_path}.yaml"
        return load(Device, path, error=LutError)
