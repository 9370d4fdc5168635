"""Every kernel against a naive NumPy oracle, to the bit (float32: to rounding)."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from kernel_toys import BITS, HOST, ISAS, POOLS, SHAPES, check, conv, extremes, make, oracle, with_bits

from lut import kernels
from lut.errors import LutError
from lut.kernels.emit import pieces
from lut.kernels.tile import runs
from lut.profilers.timing import aligned, load_kernel, measure, pointers
from lut.spec import OpSpec

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_kernels(shape: str, bits: int, isa: str) -> None:
    check(with_bits(SHAPES[shape], bits), isa, seed=sum(map(ord, shape)) + bits)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("kind", POOLS)
def test_other_kernels(kind: str, bits: int, isa: str) -> None:
    check(with_bits(POOLS[kind], bits), isa, seed=len(kind))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("code", [255, 0])
def test_extreme_inputs_do_not_saturate(code: int, bits: int, isa: str) -> None:
    """255 x the largest weight at every tap: vpmaddubsw at 8 bits, or one int16 step too many, would clip.

    16-bit outputs show it, where 8 bits would saturate at the right end all the same.
    """
    for spec in extremes(bits):
        check(spec, isa, extreme=code)


@pytest.mark.parametrize("isa", ISAS)
def test_scores_are_int16_and_narrow_activations_share_the_kernel(isa: str) -> None:
    check(OpSpec("linear", 1, 64, 10, 1, 1, out_bits=16), isa)
    wide = replace(conv(12, 20, 5, 3, residual=True), in_bits=(8, 2), out_bits=4)
    check(wide, isa, seed=5)
    assert kernels.row_key(wide, isa) == kernels.row_key(replace(wide, in_bits=(6, 8), out_bits=2, site="conv1"), isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("in_bits", [4, 2])
def test_narrow_inputs_have_kernels_of_their_own_where_that_pays(in_bits: int, bits: int, isa: str) -> None:
    for name in ("16", "residual", "groups", "pointwise", "depthwise", "linear"):
        spec = with_bits(SHAPES[name], bits)
        narrow = replace(spec, in_bits=(in_bits, *spec.in_bits[1:]))
        check(narrow, isa, seed=len(name))
        own = isa == "avx2" and name != "depthwise"
        assert (kernels.row_key(narrow, isa) != kernels.row_key(spec, isa)) == own
    check(replace(conv(140, 17, 3, 3, bits), in_bits=(4,), out_bits=16), isa, extreme=15)


def test_residual_may_be_overwritten_in_place() -> None:
    op, inputs, zeros, z_out = make(conv(20, 10, 6, 3, residual=True), seed=3)
    expected = oracle(op, inputs, zeros, z_out)
    kernel = kernels.build(op.spec, HOST)
    arrays = dict(kernels.pack_constants(op, HOST, zeros, z_out)) | {"in": inputs[0], "in2": inputs[1]}
    memory = {arg.name: aligned(arg.count, arg.dtype) for arg in kernel.args}
    for name, given in arrays.items():
        memory[name][:] = given.reshape(-1)
    load_kernel(kernel)(*pointers([memory["in2"] if a.name == "out" else memory[a.name] for a in kernel.args]), 0)
    np.testing.assert_array_equal(memory["in2"].reshape(expected.shape), expected)


@pytest.mark.parametrize("bits", BITS)
def test_avx512_code_has_the_instructions_it_is_for(bits: int, tmp_path) -> None:
    import subprocess

    path = tmp_path / "kernel.o"
    path.write_bytes(kernels.build(conv(32, 32, 16, 3, bits), "avx512vnni").object)
    code = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    assert "zmm" in code
    assert ("vfmadd" if bits == 32 else "vpdpbusd") in code
    assert bits == 32 or "vpmuldq" in code


def test_avx2_code_has_the_instructions_it_is_for(tmp_path) -> None:
    import subprocess

    for bits, wanted in ((32, "vfmadd"), (8, "vpmaddwd"), (4, "vpmaddubsw"), (2, "vpmaddubsw")):
        path = tmp_path / "kernel.o"
        path.write_bytes(kernels.build(conv(16, 16, 8, 3, bits), "avx2").object)
        code = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
        assert wanted in code
        assert bits == 32 or "vpmuldq" in code
        assert "vpmaddubsw" not in code or bits < 8


def test_packed_weights_are_smaller() -> None:
    size = {b: kernels.pack_constants(make(conv(32, 32, 4, 3, b))[0], HOST, [0], 0)["weights"].nbytes for b in BITS}
    assert (size[32], size[8], size[4], size[2]) == (4 * 9216, 9216, 9216 // 2, 9216 // 4)


def test_targets() -> None:
    assert kernels.target("neon-dot")["mtriple"] == "aarch64-linux-gnu"
    assert kernels.target("avx2")["mtriple"] == "x86_64-linux-gnu"
    with pytest.raises(LutError, match="unknown"):
        kernels.target("avx3")
    assert len(kernels.kernel_source_hash()) == 16


def test_isa_is_read_from_the_flags(tmp_path) -> None:
    info = tmp_path / "cpuinfo"
    for line, isa in (
        ("flags : fpu sse2", "llvm"),
        ("flags : avx2 fma bmi2", "avx2"),
        ("flags : avx2 fma bmi2 avx_vnni", "avxvnni"),
        ("Features : fp asimd", "neon"),
        ("Features : fp asimd asimddp", "neon-dot"),
    ):
        info.write_text(f"processor : 0\n{line}\n")
        assert kernels.isa_of_host(info) == isa
    assert kernels.isa_of_host(tmp_path / "absent") == "llvm"


def test_measure_returns_one_time_per_window() -> None:
    us = measure(kernels.build(conv(16, 16, 8, 3), HOST), windows=5, window_us=200)
    assert us.shape == (5,)
    assert (us > 0).all()


def test_runs_and_pieces_cut_everything_once() -> None:
    for total, limit in itertools.product(range(1, 40), range(1, 12)):
        cut = [first + i * size for first, number, size in runs(total, limit) for i in range(number)]
        sizes = [size for _, number, size in runs(total, limit) for _ in range(number)]
        assert cut == [sum(sizes[:i]) for i in range(len(sizes))]
        assert sum(sizes) == total
        assert max(sizes) <= limit
        assert sum(lanes for _, lanes in pieces(total, 8)) == total
