"""Cycles per class of a RISC-V core, from kernels that ran in QEMU and in RTL.

    minimise sum_k ((sum_c n_kc x_c - cycles_k) / cycles_k)^2  over  x >= 0

n_kc: how often kernel k executed class c (lut/mcu/riscv.py). Lawson and Hanson, Solving Least Squares Problems, 1974.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from lut.device import Device
from lut.errors import LutError
from lut.profilers.mcu import random_arguments
from lut.spec import OpSpec

from .emit import Kernel
from .qemu import run
from .riscv import CLASSES, classes
from .rows import build, read_outputs, write_arguments
from .rtl import run_rtl
from .shapes import sizes

SECONDS = 300.0
"""Of a simulator, for one image."""


PROBES = {
    "calls": "for (int i = 0; i < 90; i++) x = more(more(x));",
    "few_calls": "for (int i = 0; i < 10; i++) x = more(x);",
    "jumps": '__asm__ volatile(".rept 20\\nla t0, 1f\\nnop\\njr t0\\n1:\\n.endr" ::: "t0");',
}
"""Code of classes that kernels have the same few of: calls and indirect jumps."""


def probes() -> list[Kernel]:
    """Their arguments are those of an operator on one code, which they leave alone."""
    spec = OpSpec("unary", 1, 1, 1, 1, 1)
    frame = """#include "kernel.h"

__attribute__((noipa)) static int more(int x) {{ return x + 1; }}

KERNEL({name}) {{
    (void)in, (void)in2, (void)out, (void)weights, (void)bias, (void)mult, (void)params, (void)workspace;
    int x = 0;
    {code}
    (void)more(x);
}}
"""
    return [Kernel(name, spec, frame.format(name=name, code=code), sizes(spec)) for name, code in PROBES.items()]


@dataclass(frozen=True)
class Sample:
    """A kernel: how often it executed each class, and its true cycles."""

    symbol: str
    counts: Counter[str]
    cycles: int


def observe(device: Device, kernels: Sequence[Kernel]) -> list[Sample]:
    """Run kernels in one image on random arguments. Raises LutError where QEMU's and RTL's outputs differ."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, _ = build(device, kernels, folder)
        write_arguments(kernels, [random_arguments(made) for made in kernels], folder)
        counted = run(device, image, folder, SECONDS)
        expected = read_outputs(kernels, folder)
        measured = run_rtl(device, image, folder, SECONDS).cycles
        for made, (_, output), (_, other) in zip(kernels, expected, read_outputs(kernels, folder)):
            if not np.array_equal(output, other):
                raise LutError(f"{made.spec}: RTL's output is not QEMU's")
    return [
        Sample(made.symbol, classes(region, counted.listing), cycles)
        for made, region, cycles in zip(kernels, counted.regions, measured)
    ]


def fit(samples: Sequence[Sample]) -> dict[str, float]:
    """Cycles by class; 0 for a class that no sample has."""
    counts = np.array([[sample.counts[name] for name in CLASSES] for sample in samples], float)
    cycles = np.array([sample.cycles for sample in samples], float)
    found, _ = nnls(counts / cycles[:, None], np.ones(len(samples)))
    return {name: round(float(value), 4) for name, value in zip(CLASSES, found)}


def errors(samples: Sequence[Sample], price: dict[str, float]) -> np.ndarray:
    """Relative, of each sample."""
    said = [sum(price[name] * count for name, count in sample.counts.items()) for sample in samples]
    return np.array(said) / [sample.cycles for sample in samples] - 1
