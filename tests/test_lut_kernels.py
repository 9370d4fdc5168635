"""Every kernel against a naive NumPy oracle, to the bit (float32: to rounding)."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest

from deploy.program import Op
from lut import kernels
from lut.errors import LutError
from lut.kernels.emit import pieces
from lut.kernels.signature import by_channel
from lut.kernels.tile import runs
from lut.profilers.timing import aligned, load_kernel, measure, pointers
from lut.spec import OpSpec

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
HOST = kernels.isa_of_host()
ISAS = sorted({"llvm", HOST})


def windows(spec: OpSpec, x: np.ndarray, value: float) -> np.ndarray:
    """(out_h, out_w, kh, kw, c): every window of the padded input."""
    top, left, bottom, right = spec.pad
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=value)
    rows, cols = spec.out_size()
    ky = spec.dilation[0] * np.arange(spec.kernel[0])
    kx = spec.dilation[1] * np.arange(spec.kernel[1])
    out = [[x[y * spec.stride[0] + ky][:, c * spec.stride[1] + kx] for c in range(cols)] for y in range(rows)]
    return np.array(out)


def moved(op: Op, x: np.ndarray, zero: int) -> np.ndarray:
    spec = op.spec
    match spec.kind:
        case "unary":
            return x * np.clip(x + 3, 0, 6) / 6 if spec.is_float else op.table[x]
        case "split":
            return x[..., : spec.c_out]
        case "shuffle":
            return x.reshape(*x.shape[:2], spec.groups, -1).swapaxes(2, 3).reshape(x.shape)
        case "pad":
            top, left, bottom, right = spec.pad
            return np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=zero)
    return np.concatenate([x, np.full((*x.shape[:2], spec.c_out - spec.c_in), 77, x.dtype)], -1)


def oracle(op: Op, inputs: list[np.ndarray], zeros: list[int], z_out: int) -> np.ndarray:
    spec, x = op.spec, inputs[0]
    rows, cols = spec.out_size()
    wide = np.float64 if spec.is_float else np.int64
    if spec.kind == "input":
        return np.stack([op.table[c][x[..., c]] for c in range(spec.c_in)], -1)
    if spec.kind in ("concat", "split", "shuffle", "pad", "unary"):
        return moved(op, x, zeros[0])
    if spec.kind == "resample":
        source = np.concatenate([x, np.full_like(x[..., :1], zeros[0])], -1)
        return source[:: spec.stride[0], :: spec.stride[1]][..., op.gather]
    if spec.kind == "max_pool":
        return windows(spec, x.astype(wide), -np.inf if spec.is_float else 0).max((2, 3))
    if spec.kind in ("conv2d", "conv2d_add", "linear"):
        g, per, outs = spec.groups, spec.c_in // spec.groups, spec.c_out // spec.groups
        w = op.weights.astype(wide).reshape(g, outs, per, *spec.kernel)
        patches = windows(spec, x.astype(wide), zeros[0]).reshape(rows, cols, *spec.kernel, g, per)
        total = np.einsum("yxklgi,goikl->yxgo", patches, w).reshape(rows, cols, spec.c_out)
    elif spec.kind == "avg_pool":
        total = windows(spec, x.astype(wide), 0).sum((2, 3)) - zeros[0] * spec.kernel[0] * spec.kernel[1]
        total = total / (spec.kernel[0] * spec.kernel[1]) if spec.is_float else total
    else:
        total = x.astype(wide) - zeros[0]
    if spec.kind == "mul":
        total, inputs = total * (inputs[1].astype(wide) - zeros[1]), inputs[:1]
    second = inputs[1].astype(wide) - zeros[1] if len(inputs) == 2 else np.zeros((), wide)
    bias = 0 if op.bias is None else op.bias
    if spec.is_float:
        return np.clip(total + bias + second, op.low, op.high)
    total = ((total << op.shift) + bias) * op.mult.astype(wide) + (second << op.res_shift) * op.res_mult
    total = z_out + ((total + (1 << 31)) >> 32)
    return np.clip(total, op.low, op.high)


def make(spec: OpSpec, seed: int = 0, extreme: int | None = None) -> tuple[Op, list[np.ndarray], list[int], int]:
    """Random constants and inputs.

    extreme: this code times the largest weight everywhere, signs alternating by channel, scaled to stay below 30000.
    """
    rng = np.random.default_rng(seed)
    top = (1 << (spec.w_bits - 1)) - 1 if spec.w_bits < 32 else 0
    shape = (spec.c_out, spec.c_in // spec.groups, *spec.kernel)
    float_, largest = spec.is_float, (1 << min(spec.in_bits[0], 8)) - 1
    weights = rng.standard_normal(shape).astype("f4") if float_ else rng.integers(-top, top + 1, shape).astype("i1")
    if extreme is not None:
        weights = (
            np.full(shape, top, np.int8) * np.where(np.arange(spec.c_out) % 2, -1, 1).astype("i1")[:, None, None, None]
        )
    has_weights = spec.kind in ("conv2d", "conv2d_add", "linear")
    channels = spec.c_out if has_weights else 1
    size = int(np.prod(shape[1:])) if has_weights else spec.kernel[0] * spec.kernel[1]
    spread = 2.0**32 * (64 if spec.out_bits <= 8 else 2000) / (largest * max(top, 1) * np.sqrt(size) * 0.3)
    if extreme is not None:
        spread = 2.0**32 * 30000 / (255 * top * size)
    mult = (rng.uniform(0.3, 1, channels) * min(spread, 2**30) / 2).astype("i4") * 2
    mult = mult * np.where(rng.random(channels) < 0.3, -1, 1)  # negative gammas
    low, high = {32: (-1.5, 6.0), 16: (-32768, 32767)}.get(spec.out_bits, (3, (1 << spec.out_bits) - 2))
    gather = rng.integers(-1, spec.c_in, spec.c_out) if spec.kind == "resample" else None
    table = None
    if spec.kind == "input":
        table = rng.standard_normal((spec.c_in, 256)).astype("f4") if float_ else rng.integers(0, 256, (spec.c_in, 256))
        table = table if float_ else table.astype("u1")
    if spec.kind == "unary":
        table = rng.integers(0, 256, 256).astype("u1")
    reach = 1 + min(5000, int(0.2 * largest * max(top, 1) * size**0.5))
    bias = rng.standard_normal(channels).astype("f4") if float_ else rng.integers(-reach, reach, channels).astype("i4")
    op = Op(
        "op",
        spec,
        ("a", "b")[: len(spec.in_bits)],
        "y",
        weights=weights if has_weights else None,
        bias=bias if has_weights else None,
        mult=None if float_ else mult.astype("i4"),
        shift=seed % 3 if has_weights else 0 if spec.kind == "mul" else 8,
        res_mult=1 << 29,
        res_shift=2,
        low=low,
        high=high,
        gather=gather,
        table=table,
    )
    rows, cols = spec.out_size()
    shapes = [(spec.height, spec.width, spec.c_in)]
    second = (
        (rows, cols, spec.c_out) if spec.kind == "conv2d_add" else (1, 1, spec.c_out) if by_channel(spec) else shapes[0]
    )
    shapes += [second] * (len(spec.in_bits) - 1)
    if float_ and spec.kind != "input":
        inputs = [rng.standard_normal(s).astype("f4") for s in shapes]
    else:
        tops = [255 if spec.kind == "input" else (1 << bits) - 1 for bits in spec.in_bits]
        inputs = [rng.integers(0, most + 1, s).astype("u1") for s, most in zip(shapes, tops)]
    if extreme is not None:
        inputs = [np.full_like(given, extreme) for given in inputs]
    zeros = [0, 0] if float_ else [128 >> (8 - spec.in_bits[0]), 3]
    return op, inputs, zeros[: len(inputs)], 0 if float_ else 5


def bound(
    kernel: kernels.Kernel, op: Op, inputs: list[np.ndarray], zeros: list[int], z_out: int
) -> list[np.ndarray | None]:
    """The eight arguments; the output has 128 more elements than the kernel may write."""
    arrays = dict(kernels.pack_constants(op, kernel.isa, zeros, z_out))
    arrays |= dict(zip(("in", "in2"), inputs))
    memory: list[np.ndarray | None] = []
    for arg in kernel.args:
        count = arg.count + (128 if arg.name == "out" else 0)
        array = aligned(count, arg.dtype) if count else None
        if arg.name == "out":
            array[:] = 77
        elif arg.name == "workspace" and array is not None:
            array[:] = 255
        elif array is not None:
            given = np.asarray(arrays[arg.name]).reshape(-1)
            assert given.dtype == np.dtype(arg.dtype), (arg, given.dtype)
            assert given.size == arg.count, (arg, given.size)
            array[:] = given
        memory.append(array)
    return memory


def native(kernel: kernels.Kernel, memory: list[np.ndarray | None]) -> np.ndarray:
    """Run a kernel in this process; its output with what follows it."""
    assert load_kernel(kernel)(*pointers(memory), 0) == 0
    return memory[2]


def compare(spec: OpSpec, out: np.ndarray, expected: np.ndarray) -> None:
    """out: the output argument; what follows the output must not have changed."""
    assert (out[-128:] == 77).all(), "the kernel wrote past its output"
    got = out[:-128].reshape(*spec.out_size(), spec.c_out)
    if spec.is_float and spec.kind != "input":
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_array_equal(got, expected)
        assert spec.kind == "resample" or len(np.unique(got)) > 3, "the data saturate: nothing was tested"


def check(spec: OpSpec, isa: str, seed: int = 0, extreme: int | None = None, run=native, variant: str = "") -> None:
    """Build, run(kernel, arguments) and compare."""
    made, kernel = make(spec, seed, extreme), kernels.build(spec, isa, variant)
    compare(spec, run(kernel, bound(kernel, *made)), oracle(*made))


def conv(c_in: int, c_out: int, size: int, k: int, bits: int = 8, **more) -> OpSpec:
    kind, residual = more.pop("kind", "conv2d"), more.pop("residual", False)
    width = 32 if bits == 32 else 8
    given = dict(
        kernel=(k, k), pad=(k // 2,) * 4, w_bits=bits, in_bits=(width,) * (1 + residual), out_bits=width, **more
    )
    return OpSpec("conv2d_add" if residual else kind, 1, c_in, c_out, size, size, **given)


BITS = (32, 8, 4, 2)
SHAPES = {
    "rgb": conv(3, 16, 9, 3),
    "mono": replace(conv(1, 20, 12, 3), kernel=(10, 4), stride=(2, 2), pad=(4, 1, 5, 2)),
    "odd": conv(5, 10, 7, 3),
    "16": conv(16, 16, 11, 3),
    "residual": conv(12, 24, 6, 3, residual=True),
    "dilated": replace(conv(10, 33, 9, 3), dilation=(2, 2), pad=(2, 2, 2, 2)),
    "strided": replace(conv(20, 12, 9, 3), stride=(2, 2), pad=(0, 0, 1, 1)),
    "groups": replace(conv(12, 18, 6, 3), groups=3),
    "pointwise": conv(24, 33, 5, 1),
    "narrow": replace(conv(64, 48, 2, 1), width=1, height=3),
    "tiny": replace(conv(8, 16, 3, 3), width=1, stride=(1, 2)),
    "depthwise": replace(conv(33, 33, 7, 3), groups=33),
    "depthwise5": replace(conv(16, 16, 9, 5, residual=True), groups=16, stride=(2, 1)),
    "linear": OpSpec("linear", 1, 65, 10, 1, 1),
}


def with_bits(spec: OpSpec, bits: int) -> OpSpec:
    width = 32 if bits == 32 else 8
    return replace(spec, w_bits=bits, in_bits=(width,) * len(spec.in_bits), out_bits=width)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_kernels(shape: str, bits: int, isa: str) -> None:
    check(with_bits(SHAPES[shape], bits), isa, seed=sum(map(ord, shape)) + bits)


def extremes(bits: int) -> tuple[OpSpec, OpSpec]:
    """Long sums, and a depthwise convolution with many taps."""
    size = {8: 128, 4: 136, 2: 140}[bits]
    wide = replace(conv(size, 17, 3, 3, bits), out_bits=16)
    return wide, replace(conv(16, 16, 8, 7, bits), groups=16, out_bits=16)


POOLS = {
    "add": OpSpec("add", 1, 10, 10, 5, 7, in_bits=(8, 8)),
    "global": OpSpec("avg_pool", 1, 33, 33, 8, 8, kernel=(8, 8)),
    "average": OpSpec("avg_pool", 1, 5, 5, 6, 7, kernel=(2, 3), stride=(2, 2)),
    "max": OpSpec("max_pool", 1, 20, 20, 7, 7, kernel=(3, 3), stride=(2, 2), pad=(1, 0, 1, 1)),
    "resample": OpSpec("resample", 1, 16, 35, 8, 7, stride=(2, 2)),
    "input": OpSpec("input", 1, 3, 3, 9, 5),
    "mul": OpSpec("mul", 1, 21, 21, 5, 7, in_bits=(8, 8)),
    "excite": OpSpec("mul", 1, 21, 21, 5, 7, in_bits=(8, 8), attrs="by=channel"),
    "unary": OpSpec("unary", 1, 21, 21, 7, 9, attrs="fn=hardswish"),
    "concat": OpSpec("concat", 1, 10, 27, 3, 4),
    "split": OpSpec("split", 1, 27, 10, 3, 4),
    "shuffle": OpSpec("shuffle", 1, 44, 44, 3, 4, groups=2),
    "pad": OpSpec("pad", 1, 7, 7, 3, 4, pad=(1, 0, 2, 3)),
}


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "mbconv"}, "kind 'mbconv'"),
        ({"w_bits": 3}, "3-bit weights"),
        ({"batch": 2}, "batch 2"),
        ({"groups": 3}, "do not divide"),
        ({"w_bits": 32}, "does not mix"),
        ({"in_bits": (8, 8)}, "for the 1 inputs"),
        ({"in_bits": (16,)}, "codes of 1 to 8 bits"),
        ({"out_bits": 12}, "out_bits 12"),
        ({"kernel": (9, 9)}, "larger than the padded input"),
        ({"c_in": 0}, "below 1"),
    ],
)
def test_unsupported_specs_say_why(change: dict, reason: str) -> None:
    spec = replace(conv(16, 16, 4, 3), **change)
    assert reason in kernels.supported(spec)
    with pytest.raises(LutError, match="no kernel"):
        kernels.build(spec, HOST)


def test_supported_specs_are_supported() -> None:
    for spec, bits in itertools.product([*SHAPES.values(), *POOLS.values()], (32, 8)):
        assert kernels.supported(with_bits(spec, bits)) is None


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
