"""Runs a batch of kernels on a board, one by one on given arguments: `rows.py` where the simulator's place is taken by
hardware and cycles are those of its counter."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lut.device import Device
from lut.errors import LutError
from lut.kernels.signature import NAMES

from .board import attached
from .emit import Kernel
from .image import code_bytes, compile_object, enough_stack, firmware, link, linker_script, serial_file
from .rows import Arguments, Result, declare
from .serial_line import SerialLine

REPEATS = 5
"""Computations of a row; its cycles are their median: the first finds caches cold."""
STACK_BYTES, OTHER_BYTES = 8 << 10, 4 << 10
"""Of the board's RAM, what is not for arguments."""
BLOCK, HEADER, FOLLOWS = 64, 64, 1 << 31


def request(kernel: Kernel, row: int, given: Arguments) -> bytes:
    """An input of firmware/serve_rows.c. Raises LutError for an argument of the wrong size."""
    words, parts = [row], []
    for name in NAMES:
        size = kernel.sizes[name]
        words.append(size | (FOLLOWS if name in given and size else 0))
        if name in given and size:
            raw = given[name].tobytes()
            if len(raw) != size:
                raise LutError(f"{kernel.spec}: {name} has {len(raw)} bytes, the kernel reads {size}")
            parts.append(raw + bytes(BLOCK - size % BLOCK))
    return np.array(words, "<u4").tobytes().ljust(HEADER, b"\0") + b"".join(parts)


def build(device: Device, kernels: Sequence[Kernel], folder: Path, program: str) -> tuple[Path, list[int]]:
    """(image, code bytes of each kernel)."""
    assert device.ram is not None and device.flash is not None
    objects = declare(device, kernels, folder)
    pool = (device.ram - STACK_BYTES - OTHER_BYTES) // BLOCK * BLOCK
    if pool <= HEADER:
        raise LutError(f"device {device.name}: {device.ram} bytes of RAM are too few to measure rows")
    defines = {"POOL_BYTES": pool, "PROGRAM": f'"{program}"'}
    sources = ("serve_rows.c", "serve.c", "start.c", "core.c", "memory.c", serial_file(device))
    others = [compile_object(device, firmware(device, name), folder, defines) for name in sources]
    script = folder / "link.ld"
    script.write_text(linker_script(device, device.flash, device.ram, "Rows of a table.", STACK_BYTES))
    return link(device, [*objects, *others], script, folder / "rows.elf"), code_bytes(device, objects)


def execute(device: Device, kernels: Sequence[Kernel], arguments: Sequence[Arguments]) -> list[Result]:
    """One result per kernel; neither instructions nor waits are counted. Raises LutError when a kernel does not compile
    or faults, and serial_line.Silent when it hangs."""
    program = f"{zlib.crc32(''.join(kernel.source for kernel in kernels).encode()):08x}"
    with tempfile.TemporaryDirectory() as name:
        image, code = build(device, kernels, Path(name), program)
        with attached(device, image, f"rows-{program}") as line:
            return [
                _result(line, kernel, row, given, size)
                for row, (kernel, given, size) in enumerate(zip(kernels, arguments, code))
            ]


def _result(line: SerialLine, kernel: Kernel, row: int, given: Arguments, code: int) -> Result:
    answer = line.ask(request(kernel, row, given), kernel.sizes["out"])
    counts = [answer.cycles, *(line.again() for _ in range(REPEATS - 1))]
    output = np.frombuffer(answer.output, np.uint8)
    return Result(output, tuple(counts), 0, code, enough_stack(kernel.symbol, answer.stack_bytes, STACK_BYTES))
