"""Kernels on packed 8-, 4- and 2-bit activations against the oracle, to the bit; what packing saves and costs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from kernel_toys import POOLS, SHAPES, conv, extremes, make
from mcu_toys import M4, compare, needs_toolchain, packed, unpacked

from lut.errors import LutError
from lut.mcu import emit, pack, rows
from lut.spec import OpSpec

ONE_BITS = ("max", "resample", "concat", "split", "shuffle", "pad")
"""Kinds that move codes: input and output have the same bits."""
NARROW = [bits for bits in itertools.product((2, 4, 8), repeat=2) if bits != (8, 8)]


def stored(spec: OpSpec, w_bits: int, in_bits: int, out_bits: int, second: int | None = None) -> OpSpec:
    inputs = (in_bits, second or in_bits)[: len(spec.in_bits)]
    return replace(spec, w_bits=w_bits, in_bits=inputs, out_bits=out_bits)


def test_packing_is_its_own_inverse() -> None:
    codes = np.random.default_rng(0).integers(0, 4, (3, 2, 5)).astype(np.uint8)
    assert packed(codes, 2).shape == (3, 2, 2) and packed(codes, 4).shape == (3, 2, 3)
    np.testing.assert_array_equal(unpacked(packed(codes, 2), 2, codes.shape), codes)


def product() -> list:
    """Bits of weights, input and output; two thirds of them only with -m slow."""
    powers = itertools.product(range(3), repeat=3)
    marks = {i: () if sum(i) % 3 == 1 else (pytest.mark.slow,) for i in powers if i[1:] != (2, 2)}
    return [pytest.param(*((2, 4, 8)[i] for i in index), marks=mark) for index, mark in marks.items()]


@needs_toolchain
@pytest.mark.parametrize(("w_bits", "in_bits", "out_bits"), product())
def test_convolutions(w_bits: int, in_bits: int, out_bits: int) -> None:
    """Channels that fill words, and others; a residual of other bits than the output."""
    some = SHAPES if w_bits == 8 else ("16", "residual", "odd", "depthwise", "linear")
    shapes = [SHAPES[name] for name in some if emit.supported(SHAPES[name]) is None]
    shapes += [conv(32, 17, 5, 3), conv(16, 6, 7, 3, residual=True), replace(conv(8, 3, 5, 1), stride=(2, 1))]
    shapes += [OpSpec("linear", 1, 640, 18, 1, 1), replace(conv(48, 48, 5, 3), groups=48)]
    second = {2: 8, 4: 2, 8: 4}[in_bits]
    compare([stored(spec, w_bits, in_bits, out_bits, second) for spec in shapes], in_bits + out_bits, storage="packed")


@needs_toolchain
@pytest.mark.parametrize("in_bits", [4, 2])
def test_scores(in_bits: int) -> None:
    specs = [SHAPES["linear"], SHAPES["residual"], SHAPES["depthwise"], POOLS["add"], POOLS["global"]]
    compare([stored(spec, 4, in_bits, 16) for spec in specs], 5, storage="packed")


def without_weights(in_bits: int, out_bits: int) -> list[OpSpec]:
    """One of every kind that can have these bits."""
    specs = []
    for name, spec in POOLS.items():
        if name == "input":
            specs.append(replace(spec, out_bits=out_bits))
        elif name == "global" and in_bits == out_bits == 2:
            continue  # its data would saturate
        elif name not in ONE_BITS or in_bits == out_bits:
            specs.append(stored(spec, 8, in_bits, out_bits, out_bits))
    return specs


@needs_toolchain
@pytest.mark.parametrize(("in_bits", "out_bits"), NARROW)
def test_what_has_no_weights(in_bits: int, out_bits: int) -> None:
    specs = without_weights(in_bits, out_bits)
    even = [replace(POOLS["add"], c_in=12, c_out=12), replace(POOLS["unary"], c_in=8, c_out=8)]
    compare([*specs, *(stored(spec, 8, in_bits, out_bits) for spec in even)], in_bits, storage="packed")


@needs_toolchain
def test_extremes() -> None:
    """The largest weights on the largest codes, of sums as long as the others'."""
    specs = [replace(spec, in_bits=(bits,)) for w in (8, 4, 2) for spec in extremes(w) for bits in (4, 2)]
    for bits in (4, 2):
        chosen = [spec for spec in specs if spec.in_bits == (bits,)]
        compare(chosen, extreme=(1 << bits) - 1, storage="packed")


@needs_toolchain
def test_narrow_inputs_cost_little() -> None:
    """Packed words are spread as fast as bytes; a depthwise convolution unpacks every tap."""
    for spec, most in ((conv(16, 16, 16, 3), 1.03), (replace(conv(32, 32, 12, 3), groups=32), 1.25)):
        whole, *narrow = compare([spec, *(stored(spec, 8, bits, bits) for bits in (4, 2))], storage="packed")
        assert all(result.cycles < most * whole.cycles for result in narrow), spec


def test_rows_are_told_apart_by_what_is_stored() -> None:
    spec = replace(conv(16, 16, 8, 3), in_bits=(4,), out_bits=2)
    key = emit.row_key(spec, "packed")
    assert (key.in_bits, key.out_bits) == ((4,), 2) and emit.row_key(spec).in_bits == (8,)
    sizes = emit.kernel(spec, "packed").sizes
    assert (sizes["in"], sizes["out"]) == (8 * 8 * 8, 8 * 8 * 4)
    odd = emit.kernel(replace(spec, c_in=3, c_out=5), "packed").sizes
    assert (odd["in"], odd["out"]) == (8 * 8 * 2, 8 * 8 * 2)
    with pytest.raises(LutError, match="3-bit activations; packed ones have 2, 4 or 8"):
        emit.kernel(replace(spec, in_bits=(3,)), "packed")
    assert emit.supported(replace(spec, in_bits=(3,))) is None
    for kind in ("max", "concat", "split", "pad"):
        moved = stored(POOLS[kind], 8, 8, 4)
        assert "to 4 bits; packed codes are moved as they are" in (emit.supported(moved, "packed") or "")
        assert emit.supported(moved) is None


@needs_toolchain
def test_a_part_may_begin_inside_of_a_byte() -> None:
    """Concat and split at the offsets of params, which lie behind the byte's first code."""
    for kind, whole, part, bits, offset in (("concat", 9, 3, 4, 5), ("split", 11, 4, 2, 6), ("split", 9, 8, 4, 1)):
        shape = dict(c_in=part, c_out=whole) if kind == "concat" else dict(c_in=whole, c_out=part)
        spec = OpSpec(kind, 1, height=2, width=3, in_bits=(bits,), out_bits=bits, **shape)
        op, (codes,), zeros, z_out = make(spec)
        made = emit.kernel(spec, "packed")
        given = pack.pack_constants(replace(op, spec=made.spec, offset=offset), zeros, z_out)
        start, shift = divmod(offset * bits, 8)
        assert shift and given["params"][3] == shift // bits
        stored_in, stored_out = packed(codes, bits), np.full((2, 3, -(-whole * bits // 8)), 0xFF, np.uint8)
        wide = stored_out if kind == "concat" else stored_in
        moved = np.concatenate([wide.reshape(-1)[start:], np.zeros(start, np.uint8)])
        given |= (
            {"in": stored_in, "out": moved}
            if kind == "concat"
            else {"in": moved, "out": 0 * packed(codes[..., :part], bits)}
        )
        (result,) = rows.execute(M4, [made], [given])
        if kind == "split":
            np.testing.assert_array_equal(
                unpacked(result.output, bits, (2, 3, part)), codes[..., offset : offset + part]
            )
            continue
        got = np.concatenate([np.full(start, 0xFF, np.uint8), result.output])[: wide.size]
        expected = np.full((2, 3, whole), (1 << bits) - 1)
        expected[..., offset : offset + part] = codes
        np.testing.assert_array_equal(unpacked(got, bits, expected.shape), expected)
