"""Profiling through TVM's RPC: a tracker and a server on this machine, with kernels that answer, crash and hang."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from kernel_toys import bound, compare, conv, make, oracle
from rpc_toys import loopback

from lut import LatencyTable, kernels
from lut.build import build_table
from lut.device import Device
from lut.errors import LutError
from lut.machine import this_machine
from lut.profilers import rpc
from lut.profilers.base import Failure
from lut.profilers.journal import Journal
from lut.profilers.rpc import RpcProfiler
from lut.spec import Latency, OpSpec

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
SPEC = conv(16, 24, 6, 3)


@pytest.fixture(scope="module")
def board() -> Iterator[Device]:
    with loopback() as device:
        yield device


def test_output_is_the_oracles_to_the_bit(board: Device) -> None:
    made = make(SPEC, seed=3)
    kernel = kernels.build(SPEC, board.isa)
    remote = rpc.session(board.tracker, board.name, 60)
    us, out = rpc.execute(kernel, bound(kernel, *made), remote, 0, 0.0, 10)
    assert us.size == 0
    compare(SPEC, out, oracle(*made))
    del remote
    gc.collect()


BROKEN = '''
"""Kernels whose objects are C: one calls abort, one never returns."""
import subprocess
from dataclasses import replace
from pathlib import Path
import lut.kernels

BODY = {"abort": "__builtin_trap();", "hang": "for (volatile int i = 0;; i++) {}"}

def build(spec, isa, threads=1):
    kernel = lut.kernels.build(spec, isa, threads=threads)
    if spec.c_out > 10:
        return kernel
    path = Path(__file__).with_name(kernel.symbol + ".o")
    body = BODY["abort" if spec.c_out == 8 else "hang"]
    source = f"int {kernel.symbol}(void) {{ {body} return 0; }}"
    subprocess.run(["cc", "-x", "c", "-fPIC", "-c", "-", "-o", str(path)], input=source.encode(), check=True)
    return replace(kernel, object=path.read_bytes())
'''


def test_every_row_gets_one_answer(board: Device, tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_kernels.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    specs = [SPEC, replace(SPEC, c_out=8), replace(SPEC, c_out=9), OpSpec("linear", 1, 64, 32, 1, 1)]
    with Journal.open(tmp_path / "x.journal.jsonl", this_machine(board)) as journal:
        given = {"processes": 2, "most": 2, "windows": 5, "window_us": 100.0, "run_seconds": 1.0}
        profiler = RpcProfiler("broken_kernels:build", **given, seconds=30.0, journal=journal)
        answers = dict(profiler.measure([*specs, SPEC], board))
    assert set(answers) == set(specs)
    assert answers[specs[1]] == Failure("crash", "SIGILL")
    assert answers[specs[2]] == Failure("timeout", "not done after 1 s")
    for spec in (specs[0], specs[3]):
        row = answers[spec]
        assert isinstance(row, Latency)
        assert (row.n, row.source, row.code_bytes > 0) == (10, "board", True)
        assert 0 < row.p10 <= row.us <= row.p90 < 1e4
    kept = Journal.read(tmp_path / "x.journal.jsonl")
    assert set(kept.failures) == {specs[1], specs[2]}
    assert [len(kept.samples[spec]) for spec in (specs[0], specs[3])] == [2, 2]


def test_an_absent_server_or_tracker_is_an_error_at_once(board: Device) -> None:
    with pytest.raises(LutError, match=r"no server for 'other' \(it has: loop\); on the device: .* --key other"):
        list(RpcProfiler().measure([SPEC], replace(board, name="other")))
    with pytest.raises(LutError, match=r"tracker: 127.0.0.1:1: no answer .*exec.rpc_tracker"):
        rpc.tracker_of("127.0.0.1:1")


def test_a_table_is_built_through_rpc(board: Device, tmp_path, monkeypatch) -> None:
    brief = partial(RpcProfiler, processes=2, most=2, windows=5, window_us=100.0)
    monkeypatch.setattr("lut.build.RpcProfiler", brief)
    path = tmp_path / "loop.csv"
    table = build_table(board, [SPEC], path, every_row=True, progress=False)
    assert [row.source for row in table.values()] == ["board"]
    assert LatencyTable.read(path).provenance["cpu"] == "loop behind RPC"


def test_provenance_is_the_boards(board: Device) -> None:
    machine = this_machine(board)
    assert (machine["cpu"], machine["profiler"], machine["isa"]) == ("loop behind RPC", "rpc", board.isa)


def test_the_library_is_for_the_boards_architecture(tmp_path) -> None:
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc missing")
    device = Device.load("aarch64")
    built = rpc.linked(kernels.build(SPEC, device.isa), tmp_path)
    assert int.from_bytes(built.read_bytes()[18:20], "little") == 183
