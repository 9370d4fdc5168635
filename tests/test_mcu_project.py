"""A network's C project in the simulator against the integer reference, and its cost against its rows'."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mcu_toys import M4, needs_toolchain
from test_deploy_tvm_build import network

import deploy.mcu
from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import build, simulate, write_images
from deploy.predict import rows_of
from deploy.program import Program
from lut.build import build_table
from lut.errors import LutError
from lut.mcu.image import STACK_BYTES, enough_stack, linker_script


def program(bits: int) -> Program:
    return network(bits, seed=2, name=f"small-{bits}")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)


@needs_toolchain
@pytest.mark.parametrize("bits", [8, 2])
def test_scores_are_the_references_and_costs_the_rows(bits: int, tmp_path: Path) -> None:
    net = program(bits)
    project = write(net, M4, tmp_path / "net")
    ran = simulate(project, net, M4, images(100))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(100)))
    assert len(np.unique(ran.scores)) > 10
    assert ran.ram_bytes == project.ram_bytes
    assert 0 < ran.stack_bytes <= STACK_BYTES
    table = build_table(M4, [op.spec for op in net.ops], tmp_path / "m4.csv", every_row=True, progress=False)
    rows = rows_of(net, table)
    assert sum(row.us for row in rows.values()) == pytest.approx(ran.us, rel=0.02)
    kernels = {op.spec: rows[op.name].code_bytes for op in net.ops}
    assert project.constant_bytes + sum(kernels.values()) <= ran.flash_bytes


@needs_toolchain
def test_the_project_builds_alone(tmp_path: Path) -> None:
    """Moved elsewhere, with nothing but its own files."""
    project = write(program(8), M4, tmp_path / "net")
    moved = replace(project, folder=Path(shutil.move(project.folder, tmp_path / "elsewhere")))
    assert build(moved, M4).exists()
    assert str(tmp_path / "net") not in (moved.folder / "Makefile").read_text()


@needs_toolchain
def test_folders_are_relative_and_have_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As run_search.py names them, from where it was called; a comma ends an option of QEMU's plugin."""
    monkeypatch.chdir(tmp_path)
    net = program(8)
    ran = simulate(write(net, M4, Path("runs/a,b=c")), net, M4, images(2))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(2)))


@needs_toolchain
def test_make_run_prints_the_last_images_scores(tmp_path: Path) -> None:
    net = program(8)
    project = write(net, M4, tmp_path)
    write_images(images(3), project.folder)
    printed = subprocess.run(["make", "-s", "-C", str(tmp_path), "run"], capture_output=True, text=True, timeout=120)
    scores = [int(line.split()[1]) for line in printed.stderr.splitlines() if line.startswith("score ")]
    assert scores == list(run_program(net, images(3))[2]) and min(scores) < 0


@needs_toolchain
def test_a_stack_without_room_left_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = program(8)
    project = write(net, M4, tmp_path)
    few = 128  # the network takes more: what lies below is overwritten, and the scores may be right all the same
    (tmp_path / "link.ld").write_text(linker_script(M4, 1 << 20, 1 << 18, "", few))
    monkeypatch.setattr(deploy.mcu, "enough_stack", partial(enough_stack, stack=few))
    with pytest.raises(LutError, match=r"^small-8: 1\d\d of its stack's 128 bytes were used; 64 have to be left"):
        simulate(project, net, M4, images(1))


@needs_toolchain
def test_an_image_that_is_too_large_says_by_how_much(tmp_path: Path) -> None:
    small = replace(M4, flash=4096, ram=2048)
    with pytest.raises(
        LutError, match=r"device cortex-m4: the image exceeds its flash by \d+ bytes and its ram by \d+"
    ):
        build(write(program(8), small, tmp_path), small)


def test_what_cannot_be_deployed_is_named(tmp_path: Path) -> None:
    whole = network(8)
    odd = replace(whole.ops[1], spec=replace(whole.ops[1].spec, w_bits=3))
    with pytest.raises(LutError, match=r"small-net: stem: .*no kernel: 3-bit weights"):
        write(replace(whole, ops=(whole.ops[0], odd, *whole.ops[2:])), M4, tmp_path)
    with pytest.raises(LutError, match=r"small-net: the scores have 32 bits; expected int16"):
        write(network(32), M4, tmp_path)
