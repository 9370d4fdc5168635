"""Schedules: every one computes the same, they are named in tables, and a deployed network takes its rows'."""

import itertools
import shutil
from dataclasses import replace

import pytest
from kernel_toys import HOST, SHAPES, check, conv, with_bits
from test_deploy_tvm_build import images, network

from deploy.integer import run_program
from deploy.kernels import build_kernels
from deploy.tvm_build import HostModule, build
from lut import kernels
from lut.errors import LutError
from lut.kernels.isa import ISAS, get_isa
from lut.kernels.schedule import Schedule, candidates, default, parse
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@needs_compiler
@pytest.mark.parametrize("bits", [32, 8, 4, 2])
@pytest.mark.parametrize("shape", ["16", "odd", "residual", "dilated", "groups", "narrow", "linear", "strided"])
def test_every_schedule_computes_the_same(shape, bits):
    pytest.importorskip("tvm")
    spec = with_bits(SHAPES[shape], bits)
    for variant in kernels.variants(spec, HOST, 6):
        check(spec, HOST, seed=bits, variant=variant)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_candidates_are_distinct_fit_the_registers_and_begin_with_the_default(shape, isa):
    spec, limit = SHAPES[shape], get_isa(isa).blocks
    found = candidates(spec, get_isa(isa), 8)
    assert found[0] == default(spec, get_isa(isa))
    assert len(found) == len(set(found)) <= 8
    assert all(schedule.pixels * schedule.blocks <= limit + 1 for schedule in found)
    assert candidates(spec, get_isa(isa), 1) == found[:1]


@pytest.mark.parametrize("isa", ISAS)
def test_the_default_has_pixels_whatever_the_shape(isa):
    """Tall tiles of narrow outputs once left none where several blocks share an input."""
    for rows, cols in itertools.product((*range(1, 33), 40, 48, 64), range(1, 9)):
        for c_out in (16, 32, 48, 64, 96, 128):
            spec = OpSpec("conv2d", 1, 16, c_out, rows, cols, (3, 1), pad=(1, 0, 1, 0))
            chosen = default(spec, get_isa(isa))
            assert chosen.pixels >= 1 and parse(str(chosen)) == chosen


@needs_compiler
def test_a_network_of_one_dimension():
    pytest.importorskip("tvm")
    check(OpSpec("conv2d", 1, 16, 32, 16, 1, (3, 1), pad=(1, 0, 1, 0)), HOST)


def test_tiles_cover_short_rows_whole():
    assert Schedule(6, 1).tile(32, 32) == (1, 6)
    assert Schedule(6, 1).tile(4, 2) == (2, 2), "three rows do not divide four"
    assert Schedule(12, 1).tile(4, 4) == (2, 4)
    assert Schedule(6, 1).tile(1, 1) == (1, 1)


def test_kinds_without_schedules_have_one():
    assert kernels.variants(OpSpec("add", 1, 8, 8, 4, 4, in_bits=(8, 8)), HOST, 5) == ("",)
    assert kernels.variants(replace(conv(32, 32, 8, 3), groups=32), HOST, 5) == ("",)


@pytest.mark.parametrize("text", ["6", "0x1", "6x", "x", "6x1x2", "100x1", "6 x 1", "__import__('os')"])
def test_other_words_are_no_schedule(text):
    with pytest.raises(LutError, match="no schedule; expected PIXELSxBLOCKS"):
        parse(text)


def test_schedules_that_do_not_fit_are_refused():
    pytest.importorskip("tvm")
    with pytest.raises(LutError, match="3 does not divide the 2 blocks"):
        kernels.build(conv(32, 32, 8, 3), HOST, "2x3")
    with pytest.raises(LutError, match="but one schedule"):
        kernels.build(OpSpec("add", 1, 8, 8, 4, 4, in_bits=(8, 8)), HOST, "6x1")


@needs_compiler
def test_a_deployed_network_takes_the_schedules_of_its_rows(tmp_path, monkeypatch):
    pytest.importorskip("tvm")
    program, found = network(), {}
    keys = [kernels.row_key(op.spec, HOST) for op in program.ops]
    chosen = {key: kernels.variants(key, HOST, 9)[-1] for key in keys}
    rows = {key: Latency(1, 1, 1, variant=variant) for key, variant in chosen.items()}
    table = LatencyTable(rows, {"collapse": "act_bits", "isa": HOST})

    def built(*given):
        made = build_kernels(*given)
        found.update({kernel.spec: kernel.variant for kernel in made.values()})
        return made

    monkeypatch.setattr("deploy.tvm_build.build_kernels", built)
    module = HostModule(build(program, HOST, tmp_path, table))
    assert found == chosen
    assert any(chosen[key] != kernels.variants(key, HOST, 1)[0] for key in keys)
    assert (module.run(images(5)) == run_program(program, images(5))).all()


def test_rows_that_were_not_measured_name_no_schedule():
    spec = conv(16, 16, 8, 3)
    for source, expected in (("host", "4x1"), ("imported", ""), ("interpolated", "")):
        table = LatencyTable({spec: Latency(1, 1, 1, source=source, variant="4x1")})
        assert table.variant(spec) == expected
    assert table.variant(replace(spec, c_in=5)) == ""
