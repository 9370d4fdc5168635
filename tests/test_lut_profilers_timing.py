"""What a kernel is timed with: arguments as a deployed network has them."""

import shutil
from dataclasses import replace

import pytest
from kernel_toys import POOLS, SHAPES
from test_lut_process import ends

from lut import kernels
from lut.errors import LutError
from lut.profilers import timing
from lut.profilers.timing import measure, random_arguments

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.mark.parametrize(("spec", "place"), [(SHAPES["residual"], 1), (POOLS["add"], 0), (SHAPES["16"], None)])
def test_sums_are_timed_in_place(spec, place):
    kernel = kernels.build(spec, kernels.isa_of_host())
    arrays = random_arguments(kernel)
    assert [i for i in (0, 1) if arrays[i] is not None and arrays[i] is arrays[2]] == ([] if place is None else [place])
    assert (measure(kernel, windows=2, window_us=50) > 0).all()


def test_scores_are_never_in_place_of_codes():

    kernel = kernels.build(replace(SHAPES["residual"], out_bits=16), kernels.isa_of_host())
    arrays = random_arguments(kernel)
    assert arrays[2].dtype == "int16"
    assert all(arrays[2] is not array for array in arrays[:2])


def test_a_compiler_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    compiler = tmp_path / "hanging-cc"
    child = f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 60"
    compiler.write_text(f"#!/bin/sh\nsh -c '{child}'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(timing, "COMPILE_SECONDS", 1.0)
    with pytest.raises(LutError, match=r"hanging-cc -O2 .*: not done after 1 s"):
        timing.compile_c(["net.c"], tmp_path / "net.so")
    assert ends(int((tmp_path / "pid").read_text()), 5)
