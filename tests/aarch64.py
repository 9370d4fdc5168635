"""Kernels and programs for aarch64, run on this machine by qemu's user emulation."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lut.kernels import Kernel

CC, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ABSENT = [tool for tool in (CC, QEMU) if shutil.which(tool) is None]
needs_aarch64 = pytest.mark.skipif(bool(ABSENT), reason=f"{' and '.join(ABSENT)} missing: aarch64 code cannot run here")

RUNNER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef int32_t kernel(const void *, const void *, void *, const void *, const void *, const void *, const void *,
                       void *, int32_t);
extern kernel %(extern)s;
static kernel *const KERNELS[] = {%(table)s};

/* Standard input, case by case: kernel, eight sizes in bytes (0: NULL), parts, bytes from one part's workspace to the
   next one's, contents. Standard output: the outputs. */
int main(void) {
    int64_t head[11];
    while (fread(head, 8, 11, stdin) == 11) {
        char *a[8];
        for (int i = 0; i < 8; i++) {
            a[i] = head[i + 1] ? aligned_alloc(64, (head[i + 1] + 127) / 64 * 64) : 0;
            if (head[i + 1] && fread(a[i], 1, head[i + 1], stdin) != (size_t)head[i + 1]) return 1;
        }
        for (int part = 0; part < head[9]; part++) {
            char *own = a[7] ? a[7] + part * head[10] : 0;
            if (KERNELS[head[0]](a[0], a[1], a[2], a[3], a[4], a[5], a[6], own, part)) return 2;
        }
        fwrite(a[2], 1, head[3], stdout);
        for (int i = 0; i < 8; i++) free(a[i]);
    }
    return 0;
}
"""


def cross(arguments: Sequence[str], output: Path) -> Path:
    """Compile and link for aarch64."""
    subprocess.run([CC, "-O1", *arguments, "-o", str(output)], check=True, timeout=120)
    return output


def emulate(command: Sequence[str], data: bytes = b"") -> bytes:
    """Standard output of an aarch64 program; shared libraries come from the cross compiler's."""
    root = ["-L", "/usr/aarch64-linux-gnu"]
    return subprocess.run([QEMU, *root, *command], input=data, capture_output=True, check=True, timeout=120).stdout


def run_kernels(cases: Sequence[tuple[Kernel, list[np.ndarray | None]]], folder: Path) -> list[np.ndarray]:
    """The output argument of every case, all run by one program."""
    distinct = {kernel.symbol: kernel for kernel, _ in cases}
    names = list(distinct)
    (folder / "runner.c").write_text(RUNNER % {"extern": ", ".join(names), "table": ", ".join(names)})
    for name, kernel in distinct.items():
        (folder / f"{name}.o").write_bytes(kernel.object)
    objects = [str(folder / f"{name}.o") for name in names]
    program = cross(["-static", str(folder / "runner.c"), *objects], folder / "runner")
    data = bytearray()
    for kernel, memory in cases:
        arrays = [b"" if array is None else array.tobytes() for array in memory]
        head = (names.index(kernel.symbol), *map(len, arrays), kernel.threads, kernel.stride)
        data += struct.pack("<11q", *head) + b"".join(arrays)
    out, at, results = emulate([str(program)], bytes(data)), 0, []
    for _, memory in cases:
        results.append(np.frombuffer(out, memory[2].dtype, memory[2].size, at))
        at += memory[2].nbytes
    assert at == len(out)
    return results
