"""Cores that run in RTL alone: their kernels against the oracle, to the bit; rows and networks are measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_toys import POOLS, SHAPES, conv, extremes
from mcu_toys import CV32E40P, VEXRISCV, XPULP, compare, needs_riscv, needs_rtl
from test_mcu_packed import stored
from test_mcu_project import images, program

from cost_models.counts import macs
from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import RTL_ALONE, simulate
from deploy.predict import rows_of
from lut.build import build_table
from lut.device import Device
from lut.mcu.image import kernel_headers
from lut.spec import OpSpec

pytestmark = [needs_riscv, needs_rtl]
BOTH = pytest.mark.parametrize("device", [XPULP, VEXRISCV], ids=lambda device: device.name)


@BOTH
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_kernels_are_the_oracles_to_the_bit(bits: int, device: Device) -> None:
    """Channels that fill words, and others; one to four pixels left; inputs of fewer bits than the weights."""
    shapes = [SHAPES[name] for name in ("odd", "16", "residual", "strided", "depthwise", "linear")]
    shapes += [replace(conv(8, 4, width, 3), height=1) for width in (2, 3, 4)]
    shapes += [conv(16, 6, 7, 3, residual=True), OpSpec("linear", 1, 640, 18, 1, 1)]
    pairs = [((8, 8), (4, 2), (2, 4))[(i + bits // 2) % 3] for i in range(len(shapes))]  # of input and output
    specs = [stored(spec, bits, in_bits, out, 4) for spec, (in_bits, out) in zip(shapes, pairs)]
    compare(specs, bits, None, device, storage="packed")


@BOTH
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_extremes(bits: int, device: Device) -> None:
    """The largest weights on the largest codes."""
    specs = [replace(spec, in_bits=(bits,)) for w in (8, 4, 2) for spec in extremes(w)]
    compare(specs, extreme=(1 << bits) - 1, device=device, storage="packed")


@BOTH
def test_scores_and_what_has_no_weights(device: Device) -> None:
    compare([*POOLS.values(), stored(SHAPES["linear"], 4, 4, 16)], 3, device=device, storage="packed")


def test_speed() -> None:
    """Cycles per multiplication: a quarter of those without the extension."""
    specs = [replace(conv(16, 16, 8, 3), w_bits=bits) for bits in (8, 4, 2)]
    fast, slow = (compare(specs, device=device, storage="packed") for device in (XPULP, CV32E40P))
    assert all(result.cycles / macs(spec) < 0.95 for spec, result in zip(specs, fast))
    assert all(2 * one.cycles < other.cycles for one, other in zip(fast, slow))


def test_a_row_with_caches_hardly_depends_on_its_company() -> None:
    """They are empty when it begins; a line of code may lie elsewhere."""
    one, two = conv(12, 8, 5, 1), conv(8, 8, 6, 3)
    ahead, behind = (compare(specs, device=VEXRISCV, storage="packed") for specs in ([one, two], [two, one]))
    for first, second in ((ahead[0], behind[1]), (ahead[1], behind[0])):
        assert first.cycles == pytest.approx(second.cycles, rel=0.002)


def test_headers_are_the_extensions_and_those_of_the_core_below() -> None:
    assert {path.parent.name for path in kernel_headers(XPULP)} == {"kernels", "xpulp", "bytes", "rv32"}


@BOTH
def test_a_network_is_measured_and_costs_what_its_rows_do(device: Device, tmp_path: Path) -> None:
    net = program(2)
    project = write(net, device, tmp_path / "net")
    ran = simulate(project, net, device, images(100))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(100)[:RTL_ALONE]))
    assert (ran.source, len(ran.scores), ran.ram_bytes) == ("rtl", RTL_ALONE, project.ram_bytes)
    table = build_table(device, [op.spec for op in net.ops], tmp_path / "t.csv", every_row=True, progress=False)
    assert {row.source for row in table.values()} == {"rtl"}
    assert sum(row.us for row in rows_of(net, table).values()) == pytest.approx(ran.us, rel=0.02)
