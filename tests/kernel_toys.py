"""Operators to try kernels on, their random arguments, and what a naive NumPy oracle says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deploy.program import Op
from lut import kernels
from lut.kernels.isa import get_isa, host_flags
from lut.kernels.kinds import KINDS
from lut.kernels.signature import by_channel
from lut.profilers.timing import aligned, load_kernel, pointers
from lut.spec import OpSpec

HOST = kernels.isa_of_host()
ISAS = sorted({"llvm", HOST, *(name for name in ("avx2", "avxvnni") if get_isa(name).needs <= host_flags())})
"""Those of this processor: kernels of AVX2 and of AVX-VNNI are others than those of AVX-512."""


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
    other = (1 << (spec.in_bits[1] - 1)) - 1 if spec.kind == "mul" and not float_ else max(top, 1)
    reached = 2.0**spec.out_bits / 4 if spec.out_bits <= 8 else 2000
    spread = 2.0**32 * reached / (largest * other * np.sqrt(size) * 0.3)
    if extreme is not None:
        spread = 2.0**32 * 30000 / (255 * top * size)
    mult = (rng.uniform(0.3, 1, channels) * min(spread, 2**30) / 2).astype("i4") * 2
    mult = mult * np.where(rng.random(channels) < 0.3, -1, 1)  # negative gammas
    narrow = (3, (1 << spec.out_bits) - 2) if spec.out_bits > 2 else (0, 3)
    low, high = {32: (-1.5, 6.0), 16: (-32768, 32767)}.get(spec.out_bits, narrow)
    gather = rng.integers(-1, spec.c_in, spec.c_out) if spec.kind == "resample" else None
    table, codes = None, 1 << min(spec.out_bits, 8)
    if spec.kind == "input":
        table = (
            rng.standard_normal((spec.c_in, 256)).astype("f4") if float_ else rng.integers(0, codes, (spec.c_in, 256))
        )
        table = table if float_ else table.astype("u1")
    if spec.kind == "unary":
        table = rng.integers(0, codes, 256).astype("u1")
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
    zeros = [0, 0] if float_ else [128 >> (8 - spec.in_bits[0]) if spec.in_bits[0] > 2 else 1, 3]
    return op, inputs, zeros[: len(inputs)], 0 if float_ else 1 if spec.out_bits == 2 else 5


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
    "depthwise_wide": replace(conv(18, 18, 3, 3), groups=18, width=41, kernel=(2, 7), pad=(0, 2, 1, 3)),
    "depthwise_dilated": replace(conv(17, 17, 9, 3), groups=17, dilation=(1, 2), pad=(1, 2, 1, 2)),
    "linear": OpSpec("linear", 1, 65, 10, 1, 1),
}


def with_bits(spec: OpSpec, bits: int) -> OpSpec:
    width = 32 if bits == 32 else 8
    return replace(spec, w_bits=bits, in_bits=(width,) * len(spec.in_bits), out_bits=width)


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


def spec_of(kind: str, c: int, h: int, w: int, is_float: bool = False, **more) -> OpSpec:
    inputs = KINDS[kind].inputs
    bits = dict(w_bits=32, in_bits=(32,) * inputs, out_bits=32) if is_float else dict(in_bits=(8,) * inputs)
    return OpSpec(kind, 1, c, more.pop("c_out", c), h, w, **{**bits, **more})
