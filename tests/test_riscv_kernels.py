"""Kernels of RISC-V cores in QEMU against the oracle, to the bit: every kind, packed weights and activations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from kernel_toys import POOLS, SHAPES, conv, extremes, with_bits
from mcu_toys import IBEX, compare, needs_riscv
from test_mcu_packed import stored, without_weights

from cost_models.counts import macs
from lut.mcu import emit
from lut.spec import OpSpec

pytestmark = needs_riscv


def few(repeat: int, chosen: set[tuple[int, ...]]) -> list:
    """Products of bits; those that are not chosen only with -m slow."""
    return [
        pytest.param(*bits, marks=() if bits in chosen else pytest.mark.slow)
        for bits in itertools.product((2, 4, 8), repeat=repeat)
    ]


def test_convolutions_without_packing() -> None:
    specs = [spec for spec in SHAPES.values() if emit.supported(spec) is None]
    narrow = ("odd", "16", "residual", "strided", "depthwise", "linear")
    compare([*specs, *(with_bits(SHAPES[name], bits) for name in narrow for bits in (4, 2))], device=IBEX)


@pytest.mark.parametrize(("w_bits", "in_bits", "out_bits"), few(3, {(8, 4, 2), (4, 8, 4), (2, 2, 8)}))
def test_convolutions(w_bits: int, in_bits: int, out_bits: int) -> None:
    """Channels that fill words, and others; one to four pixels left; a residual of other bits than the output."""
    some = SHAPES if w_bits == 8 else ("16", "residual", "odd", "depthwise", "linear")
    shapes = [SHAPES[name] for name in some if emit.supported(SHAPES[name]) is None]
    shapes += [conv(32, 17, 5, 3), conv(16, 6, 7, 3, residual=True), replace(conv(8, 3, 5, 1), stride=(2, 1))]
    shapes += [replace(conv(8, 4, width, 3), height=1) for width in (2, 3, 4)]
    shapes += [OpSpec("linear", 1, 640, 18, 1, 1), replace(conv(48, 48, 5, 3), groups=48)]
    second = {2: 8, 4: 2, 8: 4}[in_bits]
    compare([stored(spec, w_bits, in_bits, out_bits, second) for spec in shapes], in_bits + out_bits, None, IBEX,
            storage="packed")  # fmt: skip


def test_scores() -> None:
    specs = [SHAPES["linear"], SHAPES["residual"], SHAPES["depthwise"], POOLS["add"], POOLS["global"]]
    compare([replace(spec, out_bits=16) for spec in specs[:4]], 5, device=IBEX)
    compare([stored(spec, 4, 4, 16) for spec in specs], 5, device=IBEX, storage="packed")


@pytest.mark.parametrize(("in_bits", "out_bits"), few(2, {(8, 8), (4, 2), (2, 2)}))
def test_what_has_no_weights(in_bits: int, out_bits: int) -> None:
    compare(without_weights(in_bits, out_bits), in_bits, device=IBEX, storage="packed")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_extremes(bits: int) -> None:
    """The largest weights on the largest codes: the halves of a word that hold two sums are full."""
    specs = [replace(spec, in_bits=(bits,)) for w in (8, 4, 2) for spec in extremes(w)]
    specs += [replace(OpSpec("linear", 1, 640, 6, 1, 1), w_bits=w, in_bits=(bits,)) for w in (4, 2)]
    compare(specs, extreme=(1 << bits) - 1, device=IBEX, storage="packed")


SPEED = [
    (conv(16, 16, 32, 3), 3.25),
    (conv(16, 16, 32, 3, 4), 2.6),
    (conv(16, 16, 32, 3, 2), 2.4),
    (conv(64, 64, 16, 1), 3.45),
    (replace(conv(64, 64, 16, 3), groups=64), 7.0),
]


def test_speed() -> None:
    """Cycles per multiplication on Ibex."""
    for (spec, most), result in zip(SPEED, compare([spec for spec, _ in SPEED], device=IBEX)):
        assert result.cycles / macs(spec) < most, spec
