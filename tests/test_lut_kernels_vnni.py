"""VNNI kernels on any x86-64: vpdpbusd alone is replaced by plain arithmetic; layout, tiles and epilogue are the real.

The real instruction runs where the machine has it (tests/test_lut_kernels.py takes the host's own instruction set).
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernel_toys import BITS, POOLS, SHAPES, check, conv, extremes, native, with_bits

from lut import kernels
from lut.kernels import intrinsics
from lut.spec import OpSpec

pytest.importorskip("tvm")
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="vpaddd, vpmuldq and so on are x86's"),
]
ISAS = ("avx512vnni", "avxvnni")


def plain(nest: Any, total: Any, inputs: Any, weights: Any, lanes: int) -> Any:
    """vpdpbusd's arithmetic, byte by byte."""
    for byte in range(4):
        places = list(range(byte, 4 * lanes, 4))
        code = nest.shuffle([nest.view(inputs, f"uint8x{4 * lanes}")], places).astype(f"int32x{lanes}")
        total = total + code * nest.shuffle([weights], places).astype(f"int32x{lanes}")
    return total


def emulated(
    monkeypatch: pytest.MonkeyPatch, spec: OpSpec, isa: str, seed: int = 0, extreme: int | None = None
) -> None:
    """Check a kernel of `isa` compiled for what this machine can run."""
    seen: list[Any] = []

    def counted(*operands: Any) -> Any:
        seen.append(operands)
        return plain(*operands)

    def run(kernel: kernels.Kernel, memory: list[np.ndarray | None]) -> np.ndarray:
        assert kernel.isa == isa
        return native(replace(kernel, isa="llvm"), memory)

    host = kernels.target("avx2" if kernels.isa_of_host() != "llvm" else "llvm")
    monkeypatch.setattr(intrinsics, "vpdpbusd", counted)
    monkeypatch.setattr(kernels, "target", lambda isa: host)
    check(spec, isa, seed, extreme, run)
    multiplied = spec.kind in ("conv2d", "conv2d_add", "linear") and not spec.is_float and not spec.depthwise
    assert bool(seen) == multiplied


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_kernels(shape: str, bits: int, isa: str, monkeypatch) -> None:
    emulated(monkeypatch, with_bits(SHAPES[shape], bits), isa, seed=sum(map(ord, shape)) + bits)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("kind", POOLS)
def test_other_kernels(kind: str, bits: int, isa: str, monkeypatch) -> None:
    emulated(monkeypatch, with_bits(POOLS[kind], bits), isa, seed=len(kind))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_extreme_inputs_do_not_saturate(bits: int, isa: str, monkeypatch) -> None:
    emulated(monkeypatch, extremes(bits)[0], isa, extreme=255)


@pytest.mark.parametrize("isa", ISAS)
def test_scores_and_narrow_activations(isa: str, monkeypatch) -> None:
    emulated(monkeypatch, OpSpec("linear", 1, 64, 10, 1, 1, out_bits=16), isa)
    emulated(monkeypatch, replace(conv(12, 20, 5, 3, residual=True), in_bits=(4, 2), out_bits=4), isa, seed=5)
