"""Whole networks through TVM's RPC, this machine as the device: equal to the reference, timed, ended when they hang."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from rpc_toys import loopback
from test_deploy_tvm_build import network

from deploy.integer import run_program
from deploy.rpc import RemoteModule, linked
from deploy.tvm_build import HostModule, build, describe
from deploy.validate import measure_networks, open_module
from lut.device import Device
from lut.errors import InputError, LutError
from lut.profilers.timing import compile_c

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
IMAGES = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def board() -> Iterator[Device]:
    with loopback() as device:
        yield device


@pytest.mark.parametrize("threads", [1, 2])
def test_scores_are_the_references(board, tmp_path, threads):
    program = network()
    module = open_module(build(program, board.isa, tmp_path, threads=threads), board)
    assert isinstance(module, RemoteModule)
    assert np.array_equal(module.run(IMAGES), run_program(program, IMAGES))
    assert module.run(IMAGES[:0]).shape == (0, 10)
    with pytest.raises(InputError, match="expected uint8"):
        module.run(IMAGES[:, :4])


def test_times_are_of_the_network_and_its_operators(board, tmp_path):
    path = build(network(), board.isa, tmp_path)
    timing = measure_networks({"net": path}, board, processes=2, windows=10, progress=False)["net"]
    here = HostModule(path).time_network(10, window_us=500.0).min()
    assert here / 5 < timing.hot.us < here * 5
    assert timing.cold.us > timing.hot.us
    assert list(timing.ops) == [op.name for op in network().ops]


@pytest.mark.parametrize(
    ("body", "message"),
    [("for (volatile int i = 0;; i++) {}", "loop: not done after 1 s"), ("__builtin_trap();", "loop: SIGILL")],
)
def test_a_network_that_hangs_or_crashes_is_an_error_and_the_next_one_runs(board, tmp_path, monkeypatch, body, message):
    program = network()
    path = build(program, board.isa, tmp_path)
    sound = path.read_bytes()
    names = [f"{describe(path).name}_{suffix}" for suffix in ("run", "time", "time_steps")]
    (tmp_path / "broken.c").write_text("".join(f"int {name}(void) {{ {body} return 0; }}\n" for name in names))
    module = RemoteModule(path, board)
    compile_c([str(tmp_path / "broken.c")], path)
    monkeypatch.setattr("deploy.rpc.SECONDS", 1)
    with pytest.raises(LutError, match=message):
        module.run(IMAGES)
    path.write_bytes(sound)
    assert np.array_equal(module.run(IMAGES), run_program(program, IMAGES))


def test_the_glue_is_for_the_boards_architecture(tmp_path):
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc missing")
    path = build(network(), "neon-dot", tmp_path)
    glue = linked(path, describe(path), tmp_path)
    assert int.from_bytes(glue.read_bytes()[18:20], "little") == 183
