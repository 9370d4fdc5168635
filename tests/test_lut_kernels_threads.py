"""Kernels for several threads: their parts, in any order, make the oracle's output, and no byte is made by two."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from kernel_toys import HOST, POOLS, SHAPES, bound, check, compare, conv, make, oracle, spec_of, with_bits

from deploy.program import Op
from lut import kernels
from lut.errors import LutError
from lut.kernels.conv import canonical
from lut.kernels.isa import get_isa
from lut.kernels.parts import shared_axis, unevenness
from lut.kernels.schedule import default, shared
from lut.profilers.timing import load_kernel, measure, pointers
from lut.spec import OpSpec

needs_tvm = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
FEW_ROWS = {
    "classifier": OpSpec("linear", 1, 40, 120, 1, 1),
    "last pixels": conv(24, 33, 1, 3),
    "groups": replace(conv(12, 54, 1, 1), groups=3),
    "pointwise": conv(20, 18, 7, 1),
    "three rows": replace(conv(8, 70, 3, 3), width=5),
    "depthwise": replace(conv(40, 40, 1, 3), groups=40, width=6),
    "pool": OpSpec("max_pool", 1, 40, 40, 1, 7, kernel=(1, 3), pad=(0, 1, 0, 1)),
    "long unary": OpSpec("unary", 1, 50, 50, 7, 9),
}
CASES = [
    *((shape, SHAPES[shape], bits, threads) for shape in SHAPES for bits, threads in ((8, 2), (8, 3), (32, 2), (2, 3))),
    *((pool, POOLS[pool], bits, threads) for pool in POOLS for bits, threads in ((8, 2), (8, 3), (32, 3))),
    *((name, spec, 8, threads) for name, spec in FEW_ROWS.items() for threads in (2, 3)),
]


loaded = functools.cache(load_kernel)


def parts(kernel: kernels.Kernel, memory: list[np.ndarray | None], order: list[int]) -> np.ndarray:
    """The output after these parts, one after the other, each with its own workspace."""
    for part in order:
        arguments = pointers(memory)
        if arguments[7]:
            arguments[7] += part * kernel.stride
        assert loaded(kernel)(*arguments, part) == 0
    return memory[2]


def written(kernel: kernels.Kernel, memory: list[np.ndarray | None], part: int) -> np.ndarray:
    """Which bytes of the output a part writes: those that end equal, whatever they were."""
    outs = []
    for fill in (0x4D, 0xB2):
        memory[2].view(np.uint8)[:] = fill
        outs.append(parts(kernel, memory, [part]).view(np.uint8).copy())
    return outs[0] == outs[1]


def shares(kernel: kernels.Kernel, memory: list[np.ndarray | None]) -> list[float]:
    """Of the output's bytes, how many each part writes. Fails where two write one, and where none does (a concat
    leaves other parts' channels alone)."""
    masks = np.array([written(kernel, memory, part) for part in range(kernel.threads)])
    inside = masks.shape[1] - 128 * memory[2].itemsize
    assert masks.sum(0).max() == 1, "two parts write one byte"
    assert masks.any(0)[:inside].all() or kernel.spec.kind == "concat", "no part writes a byte of the output"
    assert not masks[:, inside:].any(), "a part wrote past the output"
    return [float(mask[:inside].mean()) for mask in masks]


@needs_tvm
@pytest.mark.parametrize(("name", "spec", "bits", "threads"), CASES)
def test_parts_make_the_whole(name: str, spec: OpSpec, bits: int, threads: int) -> None:
    pytest.importorskip("tvm")
    spec = with_bits(spec, bits) if spec.kind != "unary" or bits < 32 else with_bits(POOLS["unary"], bits)
    made = make(spec, seed=len(name) + bits)
    kernel, expected = kernels.build(spec, HOST, threads=threads), oracle(*made)
    assert kernel.workspace_bytes == threads * kernel.stride
    assert kernel.stride % 64 == 0
    for order in (range(threads), reversed(range(threads))):
        memory = bound(kernel, *made)
        compare(spec, parts(kernel, memory, list(order)), expected)
    shares(kernel, memory)


@needs_tvm
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("kind", ["quantize", "dequantize", "softmax", "layer_norm"])
def test_float_islands(kind: str, threads: int) -> None:
    """Their parts against one thread's kernel."""
    pytest.importorskip("tvm")
    rng, (c, h, w) = np.random.default_rng(0), (21, 3, 5)
    codes = kind == "dequantize"
    bits = {"in_bits": (8 if codes else 32,), "out_bits": 8 if kind == "quantize" else 32}
    spec = spec_of(kind, c, h, w, **bits, **({"w_bits": 32} if kind in ("softmax", "layer_norm") else {}))
    x = rng.integers(0, 256, (h, w, c)).astype(np.uint8) if codes else rng.standard_normal((h, w, c)).astype(np.float32)
    op = Op("op", spec, ("a",), "y", low=-9, high=250, eps=1e-5)
    if codes:
        op = replace(op, table=rng.standard_normal(256).astype(np.float32))
    elif kind != "softmax":
        op = replace(op, weights=rng.standard_normal(c if kind == "layer_norm" else 1).astype(np.float32) * 40)
    if kind == "layer_norm":
        op = replace(op, bias=rng.standard_normal(c).astype(np.float32))
    one, several = (kernels.build(spec, HOST, threads=t) for t in (1, threads))
    expected = parts(one, bound(one, op, [x], [0], 3), [0])
    for order in (range(threads), reversed(range(threads))):
        memory = bound(several, op, [x], [0], 3)
        np.testing.assert_array_equal(parts(several, memory, list(order)), expected)
    shares(several, memory)


@needs_tvm
@pytest.mark.parametrize(("spec", "most"), [(conv(16, 16, 11, 3), 0.56), (FEW_ROWS["classifier"], 0.65),
                                            (FEW_ROWS["pointwise"], 0.58), (FEW_ROWS["depthwise"], 0.81),
                                            (POOLS["global"], 0.52), (POOLS["add"], 0.55)])  # fmt: skip
def test_the_work_is_shared(spec: OpSpec, most: float) -> None:
    pytest.importorskip("tvm")
    kernel = kernels.build(spec, HOST, threads=2)
    assert max(shares(kernel, bound(kernel, *make(spec)))) <= most


@needs_tvm
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("name", ["residual", "add", "mul", "unary"])
def test_an_input_may_be_overwritten(name: str, order: list[int]) -> None:
    pytest.importorskip("tvm")
    spec = (SHAPES | POOLS)[name]
    made = make(spec, seed=3)
    kernel = kernels.build(spec, HOST, threads=2)
    memory = bound(kernel, *made)
    memory[2] = memory[1 if name == "residual" else 0]
    np.testing.assert_array_equal(parts(kernel, memory, order).reshape(-1), oracle(*made).reshape(-1))


@needs_tvm
@pytest.mark.parametrize("name", ["pointwise", "linear", "16"])
def test_generic_code_reads_its_input_in_place(name: str) -> None:
    pytest.importorskip("tvm")

    def run(kernel: kernels.Kernel, memory: list[np.ndarray | None]) -> np.ndarray:
        return parts(kernel, memory, [2, 0, 1])

    made = make(SHAPES[name], seed=1)
    kernel = kernels.build(SHAPES[name], "llvm", threads=3)
    compare(SHAPES[name], run(kernel, bound(kernel, *made)), oracle(*made))


@needs_tvm
def test_schedules_of_several_threads_agree() -> None:
    pytest.importorskip("tvm")
    spec = conv(16, 64, 4, 3)
    made = make(spec, seed=2)
    for variant in kernels.variants(spec, HOST, 4, threads=2):
        kernel = kernels.build(spec, HOST, variant, threads=2)
        compare(spec, parts(kernel, bound(kernel, *made), [1, 0]), oracle(*made))


def test_rows_are_shared_unless_they_are_uneven() -> None:
    assert [unevenness(n, 2) for n in (1, 2, 3, 7)] == [2, 1, 4 / 3, 8 / 7]
    assert shared_axis(2, rows=7, blocks=2) == ("rows", 8 / 7)
    assert shared_axis(2, rows=3, blocks=2) == ("blocks", 1)
    assert shared_axis(2, rows=1, blocks=1) == ("rows", 2)
    assert shared_axis(1, rows=1, blocks=8) == ("rows", 1)


def test_rows_of_a_pointwise_convolution_are_cut_evenly() -> None:
    wide = conv(16, 16, 8, 1)
    assert canonical(wide, 24 << 10).out_size() == (1, 64)
    assert canonical(wide, 24 << 10, 2).out_size() == (2, 32)
    assert canonical(wide, 24 << 10, 3).out_size() == (8, 8)  # 3, 3 and 2 rows
    assert canonical(conv(16, 16, 7, 1), 24 << 10, 2).out_size() == (7, 7)
    assert canonical(conv(16, 16, 1, 1), 24 << 10, 2).out_size() == (1, 1)


def test_few_rows_take_another_schedule() -> None:
    """Of 12 blocks one thread takes 12 at a time, two 6 each; of 21 one takes all, two 7 at a time: two tiles and one,
    better than 4 tiles and 3 of 3."""
    isa, found = get_isa("avx512vnni"), {}
    for blocks in (4, 12, 21, 63):
        spec = OpSpec("linear", 1, 64, 16 * blocks, 1, 1)
        found[blocks] = [str(default(spec, isa, threads)) for threads in (1, 2)]
        assert shared(spec, isa, default(spec, isa, 2), 2)[0] == "blocks"
    assert found == {4: ["1x4", "1x2"], 12: ["1x12", "1x6"], 21: ["1x21", "1x7"], 63: ["1x21", "1x7"]}
    assert default(conv(32, 32, 16, 3), isa, 2) == default(conv(32, 32, 16, 3), isa)


@needs_tvm
def test_bad_input() -> None:
    pytest.importorskip("tvm")
    for threads in (0, -2):
        with pytest.raises(LutError, match=f"threads: {threads} is not positive"):
            kernels.build(SHAPES["16"], HOST, threads=threads)
    with pytest.raises(LutError, match=r"999 would share the .* cores"):
        measure(kernels.build(SHAPES["linear"], HOST, threads=999))


@needs_tvm
def test_one_thread_has_one_part_and_no_branch_on_it() -> None:
    pytest.importorskip("tvm")
    kernel = kernels.build(SHAPES["16"], HOST)
    assert (kernel.threads, kernel.stride) == (1, kernel.workspace_bytes)
    check(SHAPES["16"], HOST, run=lambda kernel, memory: parts_of_any_number(kernel, memory, 12345))


def parts_of_any_number(kernel: kernels.Kernel, memory: list[np.ndarray | None], part: int) -> np.ndarray:
    """A kernel of one thread does not look at the part."""
    assert load_kernel(kernel)(*pointers(memory), part) == 0
    return memory[2]
