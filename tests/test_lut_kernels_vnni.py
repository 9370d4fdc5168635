"""VNNI kernels on any x86-64: what AVX2 lacks (vpdpbusd, packing on 512 bits) is replaced by plain arithmetic; layout,
tiles and the rest of the epilogue are the real.

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
from lut.kernels import intrinsics, requantize
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


def packing(given: str, lanes: int, made: str, least: int, most: int) -> Any:
    """A packing instruction on 512 bits: it saturates, and takes a quarter of each operand in turn."""
    quarters = [range(start, start + lanes // 4) for start in range(0, lanes, lanes // 4)]
    order = [side + at for quarter in quarters for side in (0, lanes) for at in quarter]

    def pack(nest: Any, *operands: Any) -> Any:
        low, high = (nest.const(end, given, lanes) for end in (least, most))
        narrow = [nest.x.max(nest.x.min(v, high), low).astype(f"{made}x{lanes}") for v in operands]
        return nest.shuffle(narrow, order)

    return pack


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
    monkeypatch.setattr(requantize, "vpackssdw", packing("int32", 16, "int16", -32768, 32767))
    monkeypatch.setattr(requantize, "vpackuswb", packing("int16", 32, "int8", 0, 255))
    monkeypatch.setattr(kernels, "target", lambda isa: host)
    check(spec, isa, seed, extreme, run)
    weighted = spec.kind in ("conv2d", "conv2d_add", "linear") and not spec.is_float
    assert bool(seen) == (weighted and not (spec.depthwise and spec.dilation[1] > 1))


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
