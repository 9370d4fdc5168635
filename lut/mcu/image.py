"""Compile C for a microcontroller and link it with the firmware into an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from lut.columns import nearest
from lut.device import Core, Device
from lut.errors import LutError
from lut.process import run_tool

from .pack import Order
from .toolchain import Toolchain, toolchain

FOLDER = Path(__file__).parent
FIRMWARE, KERNELS = FOLDER / "firmware", FOLDER / "kernels"
LANGUAGE = ("-std=gnu11", "-Wall", "-Wextra", "-ffreestanding", "-ffunction-sections", "-fdata-sections")
LINK = ("-nostdlib", "-nostartfiles", "-Wl,--gc-sections")
STACK_BYTES, SPARE_BYTES = 2048, 64


@dataclass(frozen=True)
class Board:
    """Where a board has its memories. family: of toolchain.FAMILIES, whose start-up is in firmware/; kernels: folders
    of its instruction set in kernels/, of which the first with a header counts; pool: (address, bytes) of RAM that no
    image uses; serial: the firmware's file for its serial line; order: of weights below 8 bits in a word (pack.py)."""

    family: str
    kernels: tuple[str, ...]
    flash: int
    ram: int
    flash_bytes: int
    ram_bytes: int
    pool: tuple[int, int]
    serial: str = ""
    order: Order = "halves"


DSP, MVE, SCALAR, XPULP = ("dsp",), ("mve", "bytes", "dsp"), ("rv32",), ("xpulp", "bytes", "rv32")
MIB = 1 << 20
BOARDS = {
    "mps2-an386": Board("arm", DSP, 0x0, 0x20000000, 4 * MIB, 4 * MIB, (0x21000000, 16 * MIB), "serial_mps2.c"),
    "mps2-an500": Board("arm", DSP, 0x0, 0x20000000, 4 * MIB, 4 * MIB, (0x60000000, 16 * MIB)),
    "mps2-an505": Board("arm", DSP, 0x10000000, 0x38000000, 4 * MIB, 4 * MIB, (0x80000000, 16 * MIB)),
    "mps3-an547": Board("arm", MVE, 0x10000000, 0x30000000, MIB // 2, MIB // 2, (0x70000000, 32 * MIB), "", "bytes"),
    "nucleo-l4r5zi": Board("arm", DSP, 0x08000000, 0x20000000, 2 * MIB, 640 << 10, (0, 0), "serial_nucleo_l4r5zi.c"),
    "virt": Board("riscv", SCALAR, 0x80000000, 0x81000000, 16 * MIB, 16 * MIB, (0x82000000, 32 * MIB)),
    "rtl-xpulp": Board("riscv", XPULP, 0x80000000, 0x81000000, 16 * MIB, 16 * MIB, (0x82000000, 32 * MIB), "", "bytes"),
    "rtl-vexriscv": Board("riscv", SCALAR, 0x40000000, 0x41000000, 16 * MIB, 16 * MIB, (0x42000000, 32 * MIB)),
}
"""Simulated ones by the name that QEMU has for them. Arm AN386, AN500: 4 MiB of SSRAM twice, 16 MiB of PSRAM; AN505:
the same, AN547: tightly coupled memories and DDR, at the addresses that secure code sees; RM0432. QEMU's
riscv32 virt: 128 MiB of RAM at 0x80000000, cut into what a part would have; the RTL's memory is the same, at 0x40000000
for VexRiscv, which caches nothing from 0x80000000 on."""


def core_of(device: Device) -> Core:
    """Raises LutError for a device that is no microcontroller, and for a simulated board that is unknown."""
    if device.core is None:
        raise LutError(f"device {device.name}: runner: {device.runner}; a microcontroller's is simulator or serial")
    if device.core.machine not in BOARDS:
        known = sorted(BOARDS)
        raise LutError(f"core.machine: {device.core.machine!r} is unknown; {nearest(device.core.machine, known)}")
    board = BOARDS[device.core.machine]
    for name, most in (("flash", board.flash_bytes), ("ram", board.ram_bytes)):
        if (asked := getattr(device, name)) is not None and asked > most:
            raise LutError(f"device {device.name}: {name}: {asked} bytes; board {device.core.machine} has {most}")
    return device.core


def board_of(device: Device) -> Board:
    return BOARDS[core_of(device).machine]


def serial_file(device: Device) -> str:
    """The firmware's file for the board's serial line. LutError for a board of which there is none."""
    if not (name := board_of(device).serial):
        known = ", ".join(sorted(machine for machine, board in BOARDS.items() if board.serial))
        raise LutError(
            f"device {device.name}: there is no serial line for board {core_of(device).machine}; for: {known}"
        )
    return name


def tools_of(device: Device) -> Toolchain:
    """Raises LutError when something of it is missing."""
    return toolchain(board_of(device).family)


def firmware(device: Device, name: str) -> Path:
    """A file of the firmware: the family's own, or what all share."""
    own = FIRMWARE / board_of(device).family / name
    return own if own.exists() else FIRMWARE / name


def include_paths(device: Device) -> tuple[Path, ...]:
    """Folders of the headers of kernels and firmware."""
    board = board_of(device)
    return KERNELS, *(KERNELS / name for name in board.kernels), FIRMWARE, FIRMWARE / board.family


def kernel_headers(device: Device) -> list[Path]:
    """Those that all instruction sets share, and the board's own."""
    own: dict[str, Path] = {}
    for name in reversed(board_of(device).kernels):
        own |= {path.name: path for path in (KERNELS / name).glob("*.h")}
    return sorted([*KERNELS.glob("*.h"), *own.values()])


def linker_script(device: Device, flash: int, ram: int, comment: str, stack: int = STACK_BYTES) -> str:
    """flash, ram, stack: bytes."""
    board = board_of(device)
    given = {"flash_origin": hex(board.flash), "ram_origin": hex(board.ram), "flash": flash, "ram": ram}
    return Template((FIRMWARE / "link.ld.in").read_text()).substitute(given, comment=comment, stack=stack)


def enough_stack(what: str, used: int, stack: int = STACK_BYTES) -> int:
    """`used`, of the painted `stack` bytes. LutError where fewer than SPARE_BYTES are left: a frame has holes, so that
    a stack which grew beyond its end, into data, may have left the last words alone."""
    if used > stack - SPARE_BYTES:
        raise LutError(f"{what}: {used} of its stack's {stack} bytes were used; {SPARE_BYTES} have to be left")
    return used


def compile_object(device: Device, source: Path, folder: Path, defines: Mapping[str, object] | None = None) -> Path:
    """An object in `folder`, made with the kernels' and the firmware's headers. LutError has the complaint."""
    target = folder / f"{source.stem}.o"
    given = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    headers = [f"-I{path}" for path in (*include_paths(device), folder)]
    flags = [*core_of(device).flags, *LANGUAGE, *headers, *given]
    run_tool([tools_of(device).gcc, *flags, "-c", str(source), "-o", str(target)])
    return target


def overflow(device: Device, complaint: str) -> LutError | None:
    """What the linker complains of in a person's words, when it is that the image is too large."""
    over = dict(re.findall(r"region `(\w+)' overflowed by (\d+) bytes", complaint))
    if not over:
        return None
    words = " and ".join(f"its {memory.lower()} by {extra} bytes" for memory, extra in sorted(over.items()))
    return LutError(f"device {device.name}: the image exceeds {words}")


def link(device: Device, objects: Sequence[Path], script: Path, output: Path) -> Path:
    """An image. LutError says by how much it is larger than the memories that the script names."""
    command = [tools_of(device).gcc, *core_of(device).flags, *LINK, f"-T{script}", *map(str, objects), "-lgcc"]
    try:
        run_tool([*command, "-o", str(output)])
    except LutError as error:
        raise overflow(device, str(error)) or error from None
    return output


def code_bytes(device: Device, objects: Sequence[Path]) -> list[int]:
    """Of each object: instructions and constants, in bytes."""
    lines = run_tool([tools_of(device).size, *map(str, objects)]).splitlines()[1:]
    return [int(line.split()[0]) for line in lines]


def memories(device: Device, image: Path) -> dict[str, int]:
    """Bytes of `flash` (instructions, constants, initial values) and `ram` (data, stack) that a linked image takes."""
    text, data, bss = map(int, run_tool([tools_of(device).size, str(image)]).splitlines()[1].split()[:3])
    return {"flash": text + data, "ram": data + bss}
