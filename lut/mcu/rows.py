"""Runs a batch of kernels on given arguments in one start of the simulator: outputs, cycles, code and stack of each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

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
SPREAD = 4096
"""Bytes over which the places of a row's arguments are spread: those of a core's data cache."""


@dataclass(frozen=True)
class Result:
    """output: bytes (n,). runs: cycles of each run, by the device's model; waits: those of them that go to flash;
    instructions: exact, 0 where nothing counts them. stack: bytes of the call."""

    output: np.ndarray
    runs: tuple[int, ...]
    instructions: int
    code_bytes: int
    stack_bytes: int
    waits: int = 0

    @property
    def cycles(self) -> int:
        """The median of the runs."""
        return median_low(self.runs)


def gaps(place: int) -> np.ndarray:
    """Bytes left free before each argument at a place, multiples of 64 below SPREAD; none at the first. By the
    additive recurrence of square roots of primes (Richtmyer 1951), so that no two arguments move together."""
    steps = np.sqrt([2, 3, 5, 7, 11, 13, 17, 19])
    return (place * steps % 1 * SPREAD).astype("<u4") // 64 * 64


def write_arguments(kernels: Sequence[Kernel], arguments: Sequence[Arguments], folder: Path, places: int = 1) -> None:
    """`rows.in` (firmware/rows.c). Raises LutError for an argument of the wrong size."""
    parts = []
    for kernel, given in zip(kernels, arguments):
        sizes = [kernel.sizes[name] for name in NAMES]
        data = [given[name].tobytes() if name in given else bytes(size) for name, size in zip(NAMES, sizes)]
        for name, size, raw in zip(NAMES, sizes, data):
            if len(raw) != size:
                raise LutError(f"{kernel.spec}: {name} has {len(raw)} bytes, the kernel reads {size}")
        for place in range(places):
            parts += [np.array(sizes, "<u4").tobytes(), gaps(place).tobytes(), *data]
    (folder / "rows.in").write_bytes(b"".join(parts))


def read_outputs(kernels: Sequence[Kernel], folder: Path, places: int = 1) -> list[tuple[int, np.ndarray]]:
    """(most bytes of stack, bytes of output) of each kernel, from `rows.out`. Raises LutError where an output depends
    on the place."""
    raw, at, found = np.fromfile(folder / "rows.out", np.uint8), 0, []
    for kernel in kernels:
        behind = at + places * (4 + kernel.sizes["out"])
        each = raw[at:behind].reshape(places, -1)
        if (each[:, 4:] != each[0, 4:]).any():
            raise LutError(f"{kernel.spec}: its output depends on where its arguments lie")
        found.append((int(each[:, :4].copy().view("<u4").max()), each[0, 4:]))
        at = behind
    return found


def declare(device: Device, kernels: Sequence[Kernel], folder: Path, places: int = 1) -> list[Path]:
    """Objects of kernels, and `rows.h`, which lists each so many times."""
    objects = []
    for kernel in kernels:
        path = folder / f"{kernel.symbol}.c"
        path.write_text(kernel.source)
        objects.append(compile_object(device, path, folder))
    declarations = "\n".join(f"kernel {kernel.symbol};" for kernel in kernels)
    table = ", ".join(kernel.symbol for kernel in kernels for _ in range(places))
    (folder / "rows.h").write_text(
        f'#include "kernel.h"\n\n{declarations}\nenum {{ ROWS = {places * len(kernels)} }};\n'
        f"static kernel *const KERNELS[] = {{{table}}};\n"
    )
    return objects


def build(device: Device, kernels: Sequence[Kernel], folder: Path, places: int = 1) -> tuple[Path, list[int]]:
    """(image, code bytes of each kernel)."""
    board, held = board_of(device), constants_pool(device)
    objects = declare(device, kernels, folder, places)
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
    """One result per kernel, of a run at each of the device's places. Raises LutError when a kernel does not compile,
    faults, or writes behind an argument, and process.Hang when they take longer than `seconds` together."""
    core = core_of(device)
    model, places = model_of(core), core.places
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, code = build(device, kernels, folder, places)
        write_arguments(kernels, arguments, folder, places)
        if model.cycles is None:
            counts = [(cycles, 0, 0) for cycles in run_rtl(device, image, folder, RTL_SLOWER * places * seconds).cycles]
        else:
            ran = run(device, image, folder, places * seconds)
            waiting = [waits(device, region) for region in ran.regions]
            cycles = [model.cycles(region, ran.listing) for region in ran.regions]
            counts = [(c + w, region.instructions, w) for c, w, region in zip(cycles, waiting, ran.regions)]
        outputs = read_outputs(kernels, folder, places)
    found = []
    for i, ((stack, output), size) in enumerate(zip(outputs, code)):
        here = counts[i * places : (i + 1) * places]
        _, executed, waited = here[0]
        found.append(Result(output, tuple(run for run, _, _ in here), executed, size, stack, waited))
    return found
