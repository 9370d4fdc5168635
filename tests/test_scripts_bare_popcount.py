"""The bare bit-serial loop computes products of codes, and says what a CPU lacks for it."""

import ctypes
import json
import shutil

import numpy as np
import pytest

from lut.kernels.isa import isa_of_host
from lut.profilers.timing import load_kernel, pointers, random_arguments
from scripts import bare_popcount, bench_kernels
from scripts.bare_popcount import BLOCKS, PIXELS, QUADS, ROWS, STEPS, lacking, popcount


def codes(planes: np.ndarray) -> np.ndarray:
    """(.., planes, outputs) of 64 one-bit inputs each -> (.., outputs, 64) codes."""
    bits = np.unpackbits(planes[..., None].view(np.uint8), axis=-1, bitorder="little")
    return sum(bits[..., i, :, :].astype(int) << i for i in range(planes.shape[-2]))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("bits", [1, 2])
def test_it_multiplies_codes(bits):
    pytest.importorskip("tvm")
    kernel, products = popcount(isa_of_host(), bits)
    arrays = random_arguments(kernel)
    rng = np.random.default_rng(0)
    inputs, weights = (rng.integers(-(2**63), 2**63, arrays[i].size) for i in (0, 3))
    arrays[0][:], arrays[3][:] = inputs, weights
    load_kernel(kernel)(*pointers(arrays), ctypes.c_int32(0))
    x, w = codes(inputs.reshape(ROWS, PIXELS, bits, QUADS)), codes(weights.reshape(BLOCKS, bits, QUADS))
    assert x.max() == w.max() == 2**bits - 1
    expected = np.einsum("rpok,dok->pdo", x, w) * (STEPS // ROWS)
    np.testing.assert_array_equal(arrays[7].reshape(PIXELS, BLOCKS, QUADS), expected)
    assert products == STEPS * PIXELS * BLOCKS * QUADS * 64


def test_what_is_lacking(monkeypatch):
    assert lacking("avx2") == "avx2 has no 512-bit registers"
    monkeypatch.setattr(bare_popcount, "host_flags", lambda: frozenset({"avx512f"}))
    assert lacking("avx512vnni") == "this CPU has no avx512_vpopcntdq"


@pytest.mark.parametrize(("why", "counted", "said"), [("", {2: 40.4}, "2-bit x 2-bit by popcount 40 GMAC/s"),
                                                      ("none here", {}, "no popcount (none here)")])  # fmt: skip
def test_the_bench_prints_it_beside_the_instruction(monkeypatch, capsys, why, counted, said):
    row = {"w_bits": 8, "in_bits": 8, "us": 1.0, "gmacs": 1.0, "speedup": 1.0, "share": None}
    rows = [row | {"shape": name} for name in bench_kernels.SHAPES]
    monkeypatch.setattr(bench_kernels, "bench", lambda isa, rounds: ({8: 400.0}, counted, rows))
    monkeypatch.setattr(bench_kernels, "lacking", lambda isa: why)
    monkeypatch.setattr("sys.argv", ["bench_kernels.py", "--isa", "avx2"])
    assert bench_kernels.main() == 0
    assert f"bare: 8-bit 400 GMAC/s, {said}" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["bench_kernels.py", "--isa", "avx2", "--json"])
    assert bench_kernels.main() == 0
    assert json.loads(capsys.readouterr().out)["popcount_gmacs"] == {str(bits): rate for bits, rate in counted.items()}
