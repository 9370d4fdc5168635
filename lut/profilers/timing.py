"""The time of one kernel: many short windows of calls inside C, caches hot.

A window is as many calls as fill `window_us`; its figure is the mean. Take the median or the minimum over windows:
short windows keep an interruption in one of them. A kernel of several threads is timed on as many, with the wait for
the last of them in every call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lut.errors import LutError
from lut.kernels import Kernel, build
from lut.kernels.isa import host_machine, require
from lut.kernels.signature import Arg
from lut.process import run_tool
from lut.spec import OpSpec

from .memory import slab

OUT, IN_PLACE = 2, {"conv2d_add": 1, "add": 0}
"""Place of the output among a kernel's arguments, and of the input that it overwrites, by kind."""
COMPILE_SECONDS = 120.0
SOURCE = Path(__file__).with_name("timing.c")
BARRIER = Path(__file__).with_name("barrier.h")


def c_compiler(machine: str) -> tuple[list[str], str]:
    """(command, what to do when it is missing): $CC or cc on this architecture, GCC's cross compiler for another.
    Raises LutError for a $CC that is no command line."""
    if machine == host_machine():
        given = os.environ.get("CC", "").strip() or "cc"
        try:
            return shlex.split(given), "no C compiler; install one or name it in $CC"
        except ValueError as error:
            raise LutError(f"$CC: {given}: {error}") from None
    package = f"gcc-{machine.replace('_', '-')}-linux-gnu"
    return [f"{machine}-linux-gnu-gcc"], f"no C compiler for {machine}; install one (apt-get install {package})"


def compile_c(arguments: list[str], output: Path, machine: str | None = None, folder: Path | None = None) -> Path:
    """Run the C compiler of an architecture (default: this one) in `folder` (default: where this process is) for a
    shared library. LutError has its complaint, or that it is missing or took too long."""
    compiler, missing = c_compiler(machine or host_machine())
    if shutil.which(compiler[0]) is None:
        raise LutError(f"{compiler[0]}: not found: {missing}")
    command = [*compiler, "-O2", "-std=gnu11", "-fPIC", "-shared", *arguments, "-o", str(output)]
    run_tool(command, COMPILE_SECONDS, folder)
    return output


@functools.cache
def harness() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(compile_c(["-pthread", str(SOURCE)], Path(folder, "timing.so"))))


def link(kernel: Kernel) -> bytes:
    """The kernel's object as a shared library."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.o")
        path.write_bytes(kernel.object)
        return compile_c([str(path)], Path(folder, "kernel.so")).read_bytes()


def build_linked(spec: OpSpec, isa: str, variant: str = "", threads: int = 1, trace: str = "") -> Kernel:
    """A kernel that any number of processes can load without a linker."""
    kernel = build(spec, isa, variant, threads, trace)
    return replace(kernel, shared=link(kernel))


def load_kernel(kernel: Kernel) -> Callable[..., int]:
    """Its C function (eight pointers and the part, see lut/kernels/signature.py), linked unless it is already.

    Raises LutError when this CPU cannot run the kernel's instruction set.
    """
    require(kernel.isa)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.so")
        path.write_bytes(kernel.shared or link(kernel))
        function = ctypes.CDLL(str(path))[kernel.symbol]
    function.argtypes = [*[ctypes.c_void_p] * 8, ctypes.c_int32]
    return function


def aligned(count: int, dtype: str) -> np.ndarray:
    """An empty array at a multiple of 64 bytes, readable SLACK bytes past its end."""
    return slab([count * np.dtype(dtype).itemsize])[0].view(dtype)


def pointers(arrays: list[np.ndarray | None]) -> ctypes.Array[ctypes.c_void_p]:
    """Those of part 0."""
    return (ctypes.c_void_p * 8)(*(None if array is None else array.ctypes.data for array in arrays))


def random_arguments(kernel: Kernel, seed: int = 0) -> list[np.ndarray | None]:
    """Valid random data for every pointer: codes over their range, multipliers below 1, indices inside the input.

    A sum is written over one of its inputs (IN_PLACE), as deployed networks do where they can: beside it, loads would
    wait for stores whose addresses have the same last twelve bits, and the row take up to a quarter longer.
    """
    rng = np.random.default_rng(seed)

    def values(arg: Arg) -> np.ndarray:
        if arg.name == "params" and arg.dtype == "int32":  # low, high, z_out, shift, z_in, z_res, res_mult, ...
            return np.array([0, 255, 0, 0, 0, 0, 1 << 30, 0, 1 << 30])
        if arg.name == "params":
            return np.array([0.0, 6.0, 1e-5])
        if arg.name == "weights" and kernel.spec.kind == "resample":
            return rng.integers(-1, kernel.spec.c_in, arg.count)
        if arg.dtype == "float32":
            return rng.standard_normal(arg.count)
        bound = {"bias": 1 << 12, "mult": 1 << 24}.get(arg.name, 128)
        return rng.integers(0 if arg.dtype == "uint8" else -bound, 256 if arg.dtype == "uint8" else bound, arg.count)

    arrays: list[np.ndarray | None] = []
    memory = slab([arg.count * np.dtype(arg.dtype).itemsize for arg in kernel.args])
    for arg, raw in zip(kernel.args, memory):
        array = raw.view(arg.dtype) if arg.count else None
        if array is not None and arg.name not in ("out", "workspace"):
            array[:] = values(arg)
        arrays.append(array)
    place = IN_PLACE.get(kernel.spec.kind)
    if place is not None and kernel.args[place].dtype == kernel.args[OUT].dtype:
        arrays[OUT] = arrays[place]
    return arrays


def telling_arguments(kernel: Kernel) -> list[np.ndarray | None]:
    """random_arguments with parameters whose absence would show: bounds inside the range, zero points, shifts."""
    arrays = random_arguments(kernel)
    for arg, array in zip(kernel.args, arrays):
        if arg.name == "params" and array is not None and arg.dtype == "int32":
            z_in = min(7, (1 << min(kernel.spec.in_bits)) - 1)
            array[:] = [3, 250, 100, 1, z_in, 5, 1 << 30, 2, 1 << 30]
    return arrays


def measure(kernel: Kernel, windows: int = 60, window_us: float = 500.0) -> np.ndarray:
    """Microseconds per call, one per window (windows,).

    Raises LutError when the kernel cannot be linked or has more threads than this process may use cores.
    """
    cores = len(os.sched_getaffinity(0))
    if kernel.threads > cores:
        raise LutError(f"threads: {kernel.threads} would share the {cores} cores here; their time would mean nothing")
    arrays, us = random_arguments(kernel), np.zeros(windows)
    stride, window, out = ctypes.c_size_t(kernel.stride), ctypes.c_double(window_us), ctypes.c_void_p(us.ctypes.data)
    team = (kernel.threads, stride)
    if error := harness().time_kernel(load_kernel(kernel), pointers(arrays), *team, windows, window, out):
        raise LutError(f"threads: {kernel.threads} could not be started: {os.strerror(error)}")
    return us
