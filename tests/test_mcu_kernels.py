"""Kernels of microcontrollers in QEMU against the oracle, to the bit, and their speed on the cycle model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernel_toys import POOLS, SHAPES, conv, extremes, with_bits
from mcu_toys import compare, needs_toolchain

from cost_models.counts import macs
from lut.errors import LutError
from lut.mcu import emit
from lut.spec import OpSpec

pytestmark = needs_toolchain


def test_convolutions() -> None:
    compare([spec for spec in SHAPES.values() if emit.supported(spec) is None])


@pytest.mark.parametrize("bits", [4, 2])
def test_narrow_weights(bits: int) -> None:
    compare([with_bits(SHAPES[name], bits) for name in ("odd", "16", "residual", "strided", "depthwise", "linear")])


def test_scores_and_sums_of_sixteen_bits() -> None:
    linear, residual = SHAPES["linear"], SHAPES["residual"]
    compare([replace(spec, out_bits=16) for spec in (linear, residual, SHAPES["depthwise"], POOLS["add"])], seed=5)


def test_extremes() -> None:
    """The largest weights on the largest codes."""
    compare([spec for bits in (8, 4, 2) for spec in extremes(bits)], extreme=255)


def test_what_has_no_weights() -> None:
    compare(list(POOLS.values()), seed=3)


def test_in_place_is_what_networks_do() -> None:
    """A sum of one pixel's odd channels, where both halves of a block are the same pixel."""
    compare([replace(conv(6, 7, 1, 1, residual=True)), replace(conv(8, 5, 3, 3, 4, residual=True))])


SPEED = [
    (conv(16, 16, 32, 3), 1.55),
    (conv(16, 16, 32, 3, 4), 1.7),
    (conv(16, 16, 32, 3, 2), 1.65),
    (conv(64, 64, 8, 1), 1.5),
    (replace(conv(64, 64, 16, 3), groups=64), 4.5),
]


def test_speed() -> None:
    """Cycles per multiplication, zero wait states."""
    for (spec, most), result in zip(SPEED, compare([spec for spec, _ in SPEED])):
        assert result.cycles / macs(spec) < most, spec


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (OpSpec("softmax", 1, 4, 4, 1, 1), "kind 'softmax'; a microcontroller has conv2d"),
        (replace(conv(12, 18, 6, 3), groups=3), "3 groups"),
        (conv(16, 16, 8, 3, 32), "float32; a microcontroller's kernels are integer"),
        (replace(conv(16, 16, 8, 3), w_bits=3), "3-bit weights"),
        (conv(16, 16, 2, 9), ""),
    ],
)
def test_what_has_no_kernel_says_why(spec: OpSpec, reason: str) -> None:
    if not reason:
        assert emit.supported(spec) is None
        return
    with pytest.raises(LutError, match=reason):
        emit.kernel(spec)
