"""Cores without a cycle model: the kernels of the DSP extension to the bit on each, and instructions that say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_toys import POOLS, SHAPES, conv, extremes
from mcu_toys import M4, compare, needs_toolchain
from test_mcu_packed import stored
from test_mcu_project import images, program

from cost_models.counts import macs
from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import simulate
from deploy.predict import rows_of
from lut.build import build_table
from lut.device import Device
from lut.errors import LutError
from lut.mcu import emit
from lut.mcu.cycles import model_of
from lut.mcu.image import kernel_headers
from lut.spec import OpSpec, how, how_long
from search.outcome import provenance

pytestmark = needs_toolchain
CORES = ("cortex-m7", "cortex-m33", "cortex-m55")
M33, M55 = map(Device.load, CORES[1:])


@pytest.fixture(params=CORES)
def device(request: pytest.FixtureRequest) -> Device:
    return Device.load(request.param)


def test_kernels_are_the_oracles_to_the_bit(device: Device) -> None:
    specs = [spec for spec in SHAPES.values() if emit.supported(spec) is None]
    specs += [stored(SHAPES[name], bits, 4, bits, 2) for name in ("odd", "residual", "depthwise") for bits in (4, 2)]
    compare([*specs, *POOLS.values()], seed=4, device=device, storage="packed")


def test_a_network_scores_as_the_reference_and_costs_what_its_rows_do(device: Device, tmp_path: Path) -> None:
    net = program(4)
    project = write(net, device, tmp_path / "net")
    ran = simulate(project, net, device, images(20))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(20)))
    assert ran.ram_bytes == project.ram_bytes and ran.source == "instructions"
    table = build_table(device, [op.spec for op in net.ops], tmp_path / "rows.csv", every_row=True, progress=False)
    rows = rows_of(net, table).values()
    assert sum(row.us for row in rows) == pytest.approx(ran.us, rel=0.02)
    assert {row.source for row in rows} == {"instructions"}
    assert device.clock is not None
    assert all(row.us == pytest.approx(row.cycles / device.clock * 1e6) for row in rows if row.cycles)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_vectors_of_any_length(bits: int) -> None:
    """Words of weights that fill vectors and others, of blocks of pixels and of single ones; one to four pixels left;
    inputs of fewer bits; the largest weights on the largest codes."""
    assert {path.parent.name for path in kernel_headers(M55)} == {"kernels", "mve", "bytes", "dsp"}
    specs = [conv(c_in, 6, width, 3) for c_in, width in ((4, 5), (8, 3), (12, 2), (3, 4), (16, 7))]
    specs += [conv(c_in, 5, 7, 1, residual=True) for c_in in (4, 20, 36, 56)]
    specs += [OpSpec("linear", 1, c_in, 10, 1, 1) for c_in in (4, 24, 33, 100, 640)]
    pairs = [((8, 8), (4, 2), (2, 4))[i % 3] for i in range(len(specs))]
    mixed = [stored(spec, bits, in_bits, out, 8) for spec, (in_bits, out) in zip(specs, pairs)]
    compare(mixed, seed=bits, device=M55, storage="packed")
    compare(extremes(bits), extreme=255, device=M55, storage="packed")


def test_vectors_take_a_third_of_the_instructions() -> None:
    specs = [replace(conv(16, 16, 8, 3), w_bits=bits) for bits in (8, 4, 2)]
    vectors, words = (compare(specs, device=device, storage="packed") for device in (M55, M33))
    for spec, one, other in zip(specs, vectors, words):
        assert 3 * one.instructions < 1.1 * other.instructions, (spec, one.instructions / macs(spec))


def test_time_made_of_instructions_is_called_uncalibrated() -> None:
    words = {"instructions": "uncalibrated", "cycle-model": "simulated", "rtl": "measured"}
    assert {source: how_long(source) for source in words} == words
    assert how("instructions") == "simulated", "bytes are those of the linked image"
    assert "uncalibrated" in provenance({"drift": [], "source": "instructions"})


def test_an_unknown_model_names_those_that_there_are() -> None:
    assert M4.core is not None
    with pytest.raises(LutError, match=r"core\.cycle_model: 'instruction' is unknown.*instructions"):
        model_of(replace(M4.core, cycle_model="instruction"))
