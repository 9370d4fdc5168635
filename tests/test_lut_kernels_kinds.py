"""Tables, copies, products and float islands: every kernel without weights of its own, against NumPy."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from kernel_toys import ISAS, bound, native, spec_of

from deploy.program import Op
from lut import kernels
from lut.kernels.kinds import KINDS
from lut.profilers.timing import measure
from lut.spec import OpSpec
from supernet.unary import UNARY

pytest.importorskip("tvm")
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.parametrize("isa", ISAS),
]
SIZES = ((16, 8, 8), (5, 3, 3), (33, 7, 5), (1, 1, 1), (130, 2, 3))
"""Channels, height, width: below, at and above whole vectors, unrolled and not."""


def codes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def floats(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def run(spec: OpSpec, isa: str, *inputs: np.ndarray, zeros=(0, 0), z_out=0, **constants) -> np.ndarray:
    op, kernel = Op("op", spec, ("a", "b")[: len(inputs)], "y", **constants), kernels.build(spec, isa)
    out = native(kernel, bound(kernel, op, list(inputs), list(zeros[: len(inputs)]), z_out))
    assert (out[-128:] == 77).all(), "the kernel wrote past its output"
    return out[:-128].reshape(*spec.out_size(), spec.c_out)


@pytest.mark.parametrize("size", SIZES)
def test_any_table_is_looked_up_to_the_bit(size, isa):
    x, table = codes(size[1], size[2], size[0]), codes(256, seed=1)
    np.testing.assert_array_equal(run(spec_of("unary", *size), isa, x, table=table), table[x])


def test_every_code_finds_its_entry(isa):
    x, table = np.arange(256, dtype=np.uint8).reshape(2, 4, 32), codes(256, seed=2)
    np.testing.assert_array_equal(run(spec_of("unary", 32, 2, 4), isa, x, table=table), table[x])


def test_a_table_of_fewer_codes_is_filled_up(isa):
    x, table = codes(4, 4, 20) % 16, codes(16, seed=3)
    np.testing.assert_array_equal(run(spec_of("unary", 20, 4, 4, in_bits=(4,)), isa, x, table=table), table[x])


@pytest.mark.parametrize("name", UNARY)
def test_float_functions(name, isa):
    x = np.concatenate([floats(3, 5, 19, scale=4), np.linspace(-120, 120, 3 * 2 * 19, dtype="f4").reshape(3, 2, 19)], 1)
    x[0, 0, :3] = 0.0, -0.0, 1e-30
    found = run(spec_of("unary", 19, 3, 7, True, attrs=f"fn={name}"), isa, x)
    expected = UNARY[name](torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("by", ["", "by=channel"])
def test_products(size, by, isa):
    c, h, w = size
    a, b = codes(h, w, c), codes(*((1, 1, c) if by else (h, w, c)), seed=1)
    mult, shift, low, high = (3 << 20) * 2, 3, 4, 250
    zeros, z_out = (128, 7), 100
    found = run(spec_of("mul", c, h, w, attrs=by), isa, a, b, zeros=zeros, z_out=z_out, mult=np.array([mult], "i4"),
                shift=shift, low=low, high=high)  # fmt: skip
    product = ((a.astype(np.int64) - zeros[0]) * (b.astype(np.int64) - zeros[1])) << shift
    expected = np.clip(z_out + ((product * mult + (1 << 31)) >> 32), low, high)
    np.testing.assert_array_equal(found, expected)
    assert c == 1 or len(np.unique(expected)) > 8


@pytest.mark.parametrize("by", ["", "by=channel"])
def test_float_products(by, isa):
    a, b = floats(3, 4, 21), floats(*((1, 1, 21) if by else (3, 4, 21)), seed=1)
    found = run(spec_of("mul", 21, 3, 4, True, attrs=by), isa, a, b, low=-1.0, high=1.5)
    np.testing.assert_array_equal(found, np.clip(a * b, np.float32(-1.0), np.float32(1.5)))


@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_concat_writes_its_own_channels_alone(size, is_float, isa):
    c, h, w = size
    x = floats(h, w, c) if is_float else codes(h, w, c)
    found = run(spec_of("concat", c, h, w, is_float, c_out=c + 9), isa, x)
    np.testing.assert_array_equal(found[..., :c], x)
    assert (found[..., c:] == 77).all(), "it wrote into another part's channels"


@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_split_reads_its_own_channels(size, is_float, isa):
    c, h, w = size
    x = floats(h, w, c + 3) if is_float else codes(h, w, c + 3)
    np.testing.assert_array_equal(run(spec_of("split", c + 3, h, w, is_float, c_out=c), isa, x), x[..., :c])


@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize(("c", "groups"), [(32, 2), (58, 2), (6, 2), (2, 2), (21, 3), (16, 16), (64, 4)])
def test_channel_shuffle(c, groups, is_float, isa):
    x = floats(3, 2, c) if is_float else codes(3, 2, c)
    spec = spec_of("shuffle", c, 3, 2, is_float, groups=groups)
    expected = x.reshape(3, 2, groups, c // groups).swapaxes(2, 3).reshape(3, 2, c)
    np.testing.assert_array_equal(run(spec, isa, x), expected)


@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize("frame", [(1, 1, 1, 1), (0, 3, 2, 0), (2, 0, 0, 0), (0, 0, 0, 1)])
def test_padding_writes_the_zero_point(frame, is_float, isa):
    x = floats(3, 5, 7) if is_float else codes(3, 5, 7)
    top, left, bottom, right = frame
    found = run(spec_of("pad", 7, 3, 5, is_float, pad=frame), isa, x, zeros=(128, 0))
    value = 0.0 if is_float else 128
    np.testing.assert_array_equal(found, np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=value))


@pytest.mark.parametrize("size", SIZES)
def test_codes_to_float_and_back(size, isa):
    c, h, w = size
    x, table = codes(h, w, c), ((np.arange(256) - 128) * 0.37).astype(np.float32)
    values = run(spec_of("dequantize", c, h, w, out_bits=32), isa, x, table=table)
    np.testing.assert_array_equal(values, table[x])
    inverse = np.array([1 / 0.37], np.float32)
    back = run(spec_of("quantize", c, h, w, in_bits=(32,)), isa, values, z_out=128, weights=inverse, low=3, high=251)
    np.testing.assert_array_equal(back, np.clip(x, 3, 251))


def test_quantize_rounds_halves_to_even_and_clamps_what_no_int_holds(isa):
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3.49999, 1e30, -1e30], np.float32).reshape(1, 1, 8)
    spec = spec_of("quantize", 8, 1, 1, in_bits=(32,))
    found = run(spec, isa, x, z_out=10, weights=np.ones(1, np.float32), low=0, high=255)
    assert found.reshape(-1).tolist() == [10, 12, 12, 10, 8, 13, 255, 0]


@pytest.mark.parametrize("size", SIZES)
def test_softmax(size, isa):
    x = floats(size[1], size[2], size[0], scale=30)
    found = run(spec_of("softmax", *size, True), isa, x)
    np.testing.assert_allclose(found, torch.from_numpy(x).double().softmax(-1).numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_layer_norm(size, isa):
    c = size[0]
    x, gain, bias = floats(size[1], size[2], c) + 3, floats(c, seed=1), floats(c, seed=2)
    found = run(spec_of("layer_norm", *size, True), isa, x, weights=gain, bias=bias, eps=1e-3)
    wide = [torch.from_numpy(t).double() for t in (x, gain, bias)]
    expected = torch.nn.functional.layer_norm(wide[0], (c,), *wide[1:], 1e-3).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["unary", "mul", "concat", "quantize", "dequantize", "layer_norm", "softmax"])
def test_they_can_be_timed(kind, isa):
    role = KINDS[kind]
    in_bits, out_bits = ((32,) if role.reads == "float" else (8,) * role.inputs), 32 if role.writes == "float" else 8
    spec = spec_of(kind, 24, 4, 4, in_bits=in_bits, out_bits=out_bits)
    us = measure(kernels.build(spec, isa), windows=2, window_us=50)
    assert (us > 0).all()
