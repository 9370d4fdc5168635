"""Runs a batch of kernels on given arguments in one start of the simulator: outputs, cycles, code and stack of each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lut.device import Device
from lut.errors import LutError
from lut.kernels.signature import NAMES

from .cycles import model_of
from .emit import Kernel
from .flash import constants_pool, waits
from .image import board_of, code_bytes, compile_object, core_of, firmware, link, linker_script
from .qemu import run
from .rtl import run_rtl

Arguments = Mapping[str, np.ndarray]
"""By the name of the argument; what a kernel writes is left out."""


@dataclass(frozen=True)
class Result:
    """output: bytes (n,). cycles: by the device's model; waits: those of them that go to flash; instructions: exact, 0
    where nothing counts them. stack: bytes of the call."""

    output: np.ndarray
    cycles: int
    instructions: int
    code_bytes: int
    stack_bytes: int
    waits: int = 0


def write_arguments(kernels: Sequence[Kernel], arguments: Sequence[Arguments], folder: Path) -> None:
    """`rows.in` (firmware/rows.c). Raises LutError for an argument of the wrong size."""
    parts = []
    for kernel, given in zip(kernels, arguments):
        sizes = [kernel.sizes[name] for name in NAMES]
        parts.append(np.array(sizes, "<u4").tobytes())
        for name, size in zip(NAMES, sizes):
            raw = given[name].tobytes() if name in given else bytes(size)
            if len(raw) != size:
                raise LutError(f"{kernel.spec}: {name} has {len(raw)} bytes, the kernel reads {size}")
            parts.append(raw)
    (folder / "rows.in").write_bytes(b"".join(parts))


def read_outputs(kernels: Sequence[Kernel], folder: Path) -> list[tuple[int, np.ndarray]]:
    """(bytes of stack, bytes of output) of each kernel, from `rows.out`."""
    raw, at, found = np.fromfile(folder / "rows.out", np.uint8), 0, []
    for kernel in kernels:
        behind = at + 4 + kernel.sizes["out"]
        found.append((int(raw[at : at + 4].view("<u4")[0]), raw[at + 4 : behind]))
        at = behind
    return found


def declare(device: Device, kernels: Sequence[Kernel], folder: Path) -> list[Path]:
    """Objects of kernels, and `rows.h`, which lists them."""
    objects = []
    for kernel in kernels:
        path = folder / f"{kernel.symbol}.c"
        path.write_text(kernel.source)
        objects.append(compile_object(device, path, folder))
    declarations = "\n".join(f"kernel {kernel.symbol};" for kernel in kernels)
    table = ", ".join(kernel.symbol for kernel in kernels)
    (folder / "rows.h").write_text(
        f'#include "kernel.h"\n\n{declarations}\nenum {{ ROWS = {len(kernels)} }};\n'
        f"static kernel *const KERNELS[] = {{{table}}};\n"
    )
    return objects


def build(device: Device, kernels: Sequence[Kernel], folder: Path) -> tuple[Path, list[int]]:
    """(image, code bytes of each kernel)."""
    board, objects, held = board_of(device), declare(device, kernels, folder), constants_pool(device)
    pool = {"POOL": f"{board.pool[0]:#x}u", "POOL_BYTES": f"{board.pool[1] - held:#x}u", "HELD_BYTES": f"{held:#x}u"}
    others = [compile_object(device, firmware(device, name), folder, pool) for name in FIRMWARE_SOURCES]
    script = folder / "link.ld"
    script.write_text(linker_script(device, board.flash_bytes, board.ram_bytes, "Rows of a table.", 1 << 16))
    return link(device, [*objects, *others], script, folder / "rows.elf"), code_bytes(device, objects)


RTL_SLOWER = 20.0
"""Than QEMU, in the limit of time: a million cycles a second at least."""
FIRMWARE_SOURCES = ("rows.c", "start.c", "core.c", "semihosting.c", "memory.c")


def execute(
    device: Device, kernels: Sequence[Kernel], arguments: Sequence[Arguments], seconds: float = 60.0
) -> list[Result]:
    """One result per kernel. Raises LutError when a kernel does not compile, faults, or writes behind an argument, and
    process.Hang when they take longer than `seconds` together."""
    model = model_of(core_of(device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, code = build(device, kernels, folder)
        write_arguments(kernels, arguments, folder)
        if model.cycles is None:
            counts = [(cycles, 0, 0) for cycles in run_rtl(device, image, folder, RTL_SLOWER * seconds).cycles]
        else:
            ran = run(device, image, folder, seconds)
            waiting = [waits(device, region) for region in ran.regions]
            cycles = [model.cycles(region, ran.listing) for region in ran.regions]
            counts = [(c + w, region.instructions, w) for c, w, region in zip(cycles, waiting, ran.regions)]
        outputs = read_outputs(kernels, folder)
    return [
        Result(output, cycles, instructions, size, stack, waiting)
        for (stack, output), (cycles, instructions, waiting), size in zip(outputs, counts, code)
    ]
