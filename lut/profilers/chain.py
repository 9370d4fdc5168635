"""What an operator costs inside a network beyond its row, measured: rows one after the other, beside each alone.

    time of a pass over n operators - sum of their times alone = n op_us + KiB that they read * kib_us

A row is timed in a loop of its own, so its weights, its code and its branches are in the nearest caches; in a network
other operators were there in between, and on several threads another core wrote part of what it reads. The pass is laid
out as a network is: every operator reads what the one before it wrote, in its shape where the table has such a row, in
two buffers that they take in turn, with weights of its own. The constants, fitted over several passes, become the
table's `calibration_op_us` and `calibration_kib_us` (lut/calibrate.py).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from ..calibrate import read_kib
from ..device import Device
from ..kernels import Kernel
from ..kernels.signature import NAMES
from ..kernels.traces import is_tuned
from ..machine import this_machine
from ..progress import Progress
from ..spec import Latency, OpSpec
from .base import Failure, confirmed
from .memory import slab
from .pool import Pool
from .quiet import quiet_cores
from .timing import OUT, harness, load_kernel, pointers, random_arguments

OPS, CHAINS, PROCESSES = 12, 12, 5
"""Operators of a chain; chains of different rows; processes that time each."""
ROUNDS, WINDOWS, WINDOW_US = 20, 3, 300.0
WORKSPACE = NAMES.index("workspace")
WEIGHTED = ("conv2d", "conv2d_add", "linear")
SECONDS, MEMORY = 60.0, 4 * 2**30
BUILD = "lut.profilers.timing:build_linked"


class _Step(ctypes.Structure):
    """`step` of timing.c."""

    _fields_ = (("f", ctypes.c_void_p), ("a", ctypes.POINTER(ctypes.c_void_p)), ("stride", ctypes.c_size_t))


def _laid_out(kernels: Sequence[Kernel]) -> list[list[np.ndarray | None]]:
    """Arguments of each: random ones, but for activations, which are in two buffers that all share, and for the
    workspaces of several threads, which have one each."""
    given = [random_arguments(kernel, seed) for seed, kernel in enumerate(kernels)]
    largest = max(array.nbytes for arrays in given for array in arrays if array is not None)
    buffers = slab([largest, largest, kernels[0].threads * _stride(kernels)])
    for turn, arrays in enumerate(given):
        for place, array in enumerate(arrays[: OUT + 1]):
            if array is not None:
                buffer = buffers[(turn + (place != 0)) % 2][: array.nbytes].view(array.dtype)
                buffer[:] = array
                arrays[place] = buffer
        if kernels[0].threads > 1 and arrays[WORKSPACE] is not None:
            arrays[WORKSPACE] = buffers[2]
    return given


def _stride(kernels: Sequence[Kernel]) -> int:
    return max(kernel.stride for kernel in kernels)


def beyond(pickled: Sequence[bytes]) -> float:
    """Microseconds of a pass over a chain of kernels beyond the sum of theirs, in this process: of the lowest times of
    interleaved rounds. Negative within noise."""
    kernels: list[Kernel] = [pickle.loads(kernel) for kernel in pickled]
    functions: list[Any] = [load_kernel(kernel) for kernel in kernels]
    memory = _laid_out(kernels)  # kept alive: pointers are bare addresses
    arguments = [pointers(arrays) for arrays in memory]
    steps = (_Step * len(kernels))()
    for step, function, arrays in zip(steps, functions, arguments):
        step.f, step.stride = ctypes.cast(function, ctypes.c_void_p).value, _stride(kernels)
        step.a = ctypes.cast(arrays, ctypes.POINTER(ctypes.c_void_p))
    chains = [(steps, len(steps)), *((ctypes.byref(step), 1) for step in steps)]
    least = [float("inf")] * len(chains)
    us = np.zeros(WINDOWS)
    for _ in range(ROUNDS):
        for i, (start, count) in enumerate(chains):
            error = harness().time_chain(
                start, count, kernels[0].threads, WINDOWS, ctypes.c_double(WINDOW_US), ctypes.c_void_p(us.ctypes.data)
            )
            if error:
                raise OSError(error, os.strerror(error))
            least[i] = min(least[i], float(us.min()))
    return least[0] - sum(least[1:])


def chains(rows: Mapping[OpSpec, Latency]) -> list[list[OpSpec]]:
    """CHAINS walks over integer operators with weights, measured with a template: after each comes one, drawn at
    random, whose input is its output, or any where there is none. No chains where rows are fewer than OPS."""
    fitting = [
        spec
        for spec, row in rows.items()
        if spec.kind in WEIGHTED and not spec.is_float and spec.out_bits <= 8 and not is_tuned(row.variant)
        and row.source == "host"
    ]  # fmt: skip
    if len(fitting) < OPS:
        return []
    readers: dict[tuple[int, ...], list[OpSpec]] = {}
    for spec in fitting:
        readers.setdefault((spec.c_in, spec.height, spec.width), []).append(spec)
    rng, found = random.Random(0), list[list[OpSpec]]()
    for _ in range(CHAINS):
        walk = [rng.choice(fitting)]
        while len(walk) < OPS:
            walk.append(rng.choice(readers.get((walk[-1].c_out, *walk[-1].out_size()), fitting)))
        found.append(walk)
    return found


def fit(chains: Sequence[Sequence[OpSpec]], us: Sequence[float]) -> dict[str, float]:
    """op_us and kib_us, 0 or above, by least squares: what a pass over each chain took beyond its operators."""
    sizes = np.array([[len(chain), sum(map(read_kib, chain))] for chain in chains])
    (op_us, kib_us), _ = nnls(sizes, np.asarray(us))
    return {"op_us": float(op_us), "kib_us": float(kib_us)}


def measure_beyond(rows: Mapping[OpSpec, Latency], device: Device, progress: bool = False) -> dict[str, float]:
    """op_us and kib_us in microseconds (`fit`), each chain's time `confirmed` over processes, as a row's is.
    Empty where there are too few rows or no chain could be measured."""
    drawn, isa = chains(rows), this_machine(device)["isa"]
    specs = list(dict.fromkeys(spec for chain in drawn for spec in chain))
    samples: list[list[float]] = [[] for _ in drawn]
    with Progress(len(specs) + PROCESSES * len(drawn), "chains", "step", progress) as bar:
        built: dict[OpSpec, bytes] = {}
        with Pool([[core] for core in sorted(os.sched_getaffinity(0))], SECONDS, MEMORY) as pool:
            tasks: list[Any] = [(s, "build", (BUILD, s, isa, rows[s].variant, device.threads)) for s in specs]
            for spec, made in pool.run(tasks):
                bar.update()
                if not isinstance(made, Failure):
                    built[spec] = made.kernel
        for _ in range(PROCESSES):
            sound = [(i, [built[s] for s in chain]) for i, chain in enumerate(drawn) if built.keys() >= set(chain)]
            with Pool([quiet_cores(device)], SECONDS, MEMORY) as pool:
                for i, us in pool.run((i, "call", ("lut.profilers.chain:beyond", chain)) for i, chain in sound):
                    bar.update()
                    if not isinstance(us, Failure):
                        samples[i].append(us)
    measured = [i for i, each in enumerate(samples) if each]
    us = [confirmed([[each] for each in samples[i]]) for i in measured]
    return fit([drawn[i] for i in measured], us) if measured else {}
