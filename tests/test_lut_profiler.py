"""Profiling with kernels that answer, raise, hang, crash and devour memory: every row ends as an answer.

The kernels are Python functions in a module of the test's own, which the workers import by its path.
"""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_kernels import CONV, HOST, calls, fake_engine
from interruptible import interruptible

from lut.build import build_table, read_specs
from lut.errors import LutError
from lut.interpolate import group_of
from lut.profilers.base import Built, Failure, disturbed, enough, spread, summarise, unconfirmed
from lut.profilers.host import Drift, HostProfiler, remeasure, sentinels
from lut.profilers.journal import Journal
from lut.profilers.pool import Pool, fixed_addresses
from lut.spec import Latency
from lut.table import LatencyTable
from scripts.build_lut import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return fake_engine(tmp_path, monkeypatch)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_contract_every_row_gets_one_answer_and_rounds_are_processes(engine, tmp_path):
    specs = [replace(CONV, c_in=c) for c in (4, 8, 16)]
    answers = list(engine.measure([*specs, specs[0]], HOST))
    assert sorted(s.c_in for s, _ in answers) == [4, 8, 16]
    for spec, row in answers:
        assert isinstance(row, Latency)
        assert row.us == pytest.approx(spec.c_in * 16 / 100 + 0.0002)
        assert row.p10 <= row.us <= row.p90
        assert (row.n, row.workspace_bytes, row.code_bytes, row.source) == (15, 64, 1016, "host")
    timed = [c for c in calls(tmp_path) if c.startswith("time")]
    assert len(timed) == 9
    assert len(set(timed)) == 3, "three processes, each passing over all rows"
    assert timed == sorted(timed, key=lambda c: timed.index(c)), "one after the other"


def test_failures_are_answers(engine, tmp_path):
    kinds = ["hang", "devour", "crash", "no_build", "conv2d"]
    found = dict(engine.measure([replace(CONV, kind=kind) for kind in kinds], HOST))
    answers = {spec.kind: answer for spec, answer in found.items()}
    assert isinstance(answers.pop("conv2d"), Latency)
    assert {kind: failure.reason for kind, failure in answers.items()} == {
        "hang": "timeout",
        "devour": "memory",
        "crash": "crash",
        "no_build": "error",
    }
    assert answers["crash"].detail == "SIGABRT: about to fall"
    assert "RuntimeError: LLVM does not like it" in answers["no_build"].detail
    (child,) = [int(c.split()[1]) for c in calls(tmp_path) if c.startswith("child")]
    assert not alive(child), "the whole process group is killed"


def test_workers_have_fixed_addresses_their_core_and_their_limit():
    with Pool([[0]], 10, 2**31) as pool:
        ((_, result),) = pool.run([("key", "build", ("os:getpid", CONV, "isa"))])
    assert isinstance(result, Failure)
    assert "TypeError" in result.detail, "a bad function is an error of its own row"
    with fixed_addresses() as allowed:
        inside = Path("/proc/thread-self/personality").read_text() if allowed else "00040000"
    outside = Path("/proc/thread-self/personality").read_text()
    assert int(inside, 16) & 0x0040000
    assert not int(outside, 16) & 0x0040000


def test_rows_that_disagree_are_timed_more():
    steady, torn = [[1.0] * 5, [1.01] * 5, [9.0] * 5], [[1.0] * 5, [1.3] * 5, [1.4] * 5]
    profiler = HostProfiler(processes=3)
    assert profiler._unsure(torn[:2], 3)
    assert not profiler._unsure(steady, 3)
    assert profiler._unsure(steady, 4)
    assert profiler._unsure(torn, 3)
    assert not replace(profiler, most=3)._unsure(torn, 3)
    assert spread(torn) == pytest.approx(0.3)
    assert summarise(torn).us == 1.3
    assert not profiler._unsure([*torn, [1.31] * 5, [1.02] * 5], 5)


def test_a_row_is_timed_once_in_each_turn_so_that_its_times_lie_apart(engine, tmp_path):
    specs = [replace(CONV, c_in=c) for c in (4, 8)]
    with Journal.open(tmp_path / "j.jsonl", {"device": "host-cpu"}) as journal:
        journal.add_samples(specs[0], [0.64] * 5)
        list(replace(engine, journal=journal).measure(specs, HOST))
    turns = Counter(line for line in calls(tmp_path) if line.startswith("time"))
    assert list(turns.values()) == [1, 2, 2], "the first row has had its first turn"


def test_progress_counts_what_a_busy_machine_will_need(engine, monkeypatch, capsys):
    monkeypatch.setattr("lut.progress.LINE_SECONDS", 0.0)
    specs = [replace(CONV, kind="busy", c_in=c) for c in range(4, 64)]
    list(replace(engine, processes=5, most=30, progress=True).measure(specs, HOST))
    lines = [re.match(r"time: (\d+)/(\d+) ", line) for line in capsys.readouterr().err.splitlines()]
    counts = [(int(line[1]), int(line[2])) for line in lines if line]
    assert counts[0] == (1, 300), "five processes for each, before any was seen"
    done, last = counts[-1]
    assert done == last
    after = {total for done, total in counts if 300 <= done < 0.9 * last}
    assert after
    assert all(0.8 * last < total < 1.2 * last for total in after), "not the next turn alone"


def test_how_many_processes_are_enough_brute_force():
    assert enough(0.0, 0.005, 30) == 2
    for share in (0.05, 0.3, 0.6):
        count = enough(share, 0.005, 30)
        assert unconfirmed(share, count) <= 0.005 < unconfirmed(share, count - 1)
    assert enough(0.6, 0.005, 7) == enough(1.0, 0.005, 7) == 7


def test_chance_of_too_few_undisturbed_processes_brute_force():
    for share, count in ((0.0, 1), (0.1, 2), (0.3, 3), (0.6, 7), (1.0, 4)):
        chance = 0.0
        for slow in itertools.product((True, False), repeat=count):
            if slow.count(False) < 2:
                chance += share ** slow.count(True) * (1 - share) ** slow.count(False)
        assert unconfirmed(share, count) == pytest.approx(chance)


def test_disturbed_processes_are_those_above_the_lowest_of_their_row():
    assert disturbed([]) == 0
    assert disturbed([[[1.0] * 3, [1.04] * 3, [1.06, 1.07, 2.0]], [[4.0], [5.0]]]) == pytest.approx(2 / 5)


def test_on_a_busy_machine_rows_are_timed_until_two_times_can_be_trusted(engine, tmp_path):
    """A neighbour slows three processes of five from beginning to end: five timings each leave rows that are wrong."""
    specs = [replace(CONV, kind="busy", c_in=c) for c in range(4, 64)]
    quiet = replace(CONV, c_in=4)
    list(engine.measure([quiet], HOST))
    assert len([c for c in calls(tmp_path) if c.startswith("time")]) == 3
    patient = replace(engine, processes=5, most=30)
    rows = dict(patient.measure(specs, HOST))
    wrong = [s.c_in for s, row in rows.items() if row.us > 1.01 * (s.c_in * s.c_out / 100)]
    assert len(wrong) <= 1
    assert min(row.n for row in rows.values()) >= 50, "ten processes or more of five samples each"
    hasty = dict(replace(patient, most=5).measure(specs, HOST))
    assert sum(row.us > 1.01 * (s.c_in * s.c_out / 100) for s, row in hasty.items()) > 5


def test_an_interrupted_build_goes_on_with_rows_in_doubt_and_a_finished_one_does_not(engine, tmp_path):
    machine, path = {"device": "host-cpu"}, tmp_path / "t.journal.jsonl"
    with Journal.open(path, machine) as journal:
        for us in (20.0, 2.56, 30.0):
            journal.add_samples(CONV, [us] * 5)
    with Journal.open(path, machine) as journal:
        ((_, row),) = replace(engine, journal=journal).measure([CONV], HOST)
        assert (row.us, row.n) == (pytest.approx(2.5602), 35)
        journal.add_samples(CONV, [0.1] * 5)
        journal.add_written(tmp_path / "t.csv")
    with Journal.open(path, machine) as journal:
        ((_, row),) = replace(engine, journal=journal).measure([CONV], HOST)
        assert row.n == 40


def test_summary_brute_force():
    chance = np.random.default_rng(0)
    processes = [chance.exponential(1, 7).tolist() for _ in range(3)]
    row = summarise(processes, Built(b"", 1, 2))
    assert row.us == sorted(np.quantile(p, 0.05) for p in processes)[1]
    assert row.n == 21
    assert row.p10 <= row.us <= row.p90


def test_sentinels_and_drift(engine):
    rows = {replace(CONV, c_in=c): Latency(c * 16 / 100 + 0.0002, 0, 99) for c in range(4, 84, 4)}
    table = LatencyTable(rows, {"device": "host-cpu"})
    chosen = sentinels(table)
    assert len(chosen) == 3
    assert [s.c_in for s in chosen] == sorted(s.c_in for s in chosen)
    drift = remeasure(table, profiler=engine)
    assert drift.ratio == pytest.approx(1)
    assert not drift.excessive
    assert "fine" in str(drift)
    slow = {s: replace(row, us=row.us / 1.05) for s, row in rows.items()}
    drift = remeasure(LatencyTable(slow, {"device": "host-cpu"}), profiler=engine)
    assert drift.excessive
    assert "+5.0% of the table's time (above 3%" in str(drift)
    assert Drift({CONV: (2.0, 1.0)}).excessive
    with pytest.raises(LutError, match="no row was measured"):
        sentinels(LatencyTable({}))


def test_ctrl_c_leaves_no_process_and_says_how_to_resume(engine, tmp_path):
    specs, out = tmp_path / "specs.csv", tmp_path / "t.csv"
    rows = {replace(CONV, kind="slow", c_in=c): Latency(1, 1, 1) for c in range(1, 17)}
    LatencyTable(rows).write(specs)
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path / "engine")!r}]
import lut.kernels, scripts.build_lut as script, lut.build
from lut.profilers.host import HostProfiler
lut.kernels.row_key, lut.kernels.supported = (lambda s, isa: s), (lambda s: None)
lut.build.HostProfiler = lambda: HostProfiler({engine.build!r}, {engine.measure_kernel!r})
sys.exit(script.main(["--specs", {str(specs)!r}, "--out", {str(out)!r}]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    try:
        end = time.monotonic() + 40
        while not any(c.startswith("time") for c in calls(tmp_path)) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"resume with: python scripts/build_lut.py --specs {specs}" in errors
    assert "Traceback" not in errors
    workers = {int(c.split()[1]) for c in calls(tmp_path) if c.startswith("time")}
    assert workers
    assert not any(alive(pid) for pid in workers)
    assert not out.exists()


def test_command_line(engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lut.build.HostProfiler", lambda: engine)
    specs, out = tmp_path / "specs.csv", tmp_path / "t.csv"
    LatencyTable({CONV: Latency(1, 1, 1), replace(CONV, kind="crash"): Latency(1, 1, 1)}).write(specs)
    assert read_specs(specs)[0] == CONV
    assert main(["--specs", str(specs), "--out", str(out), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["rows"], body["measured"]) == (1, 1)
    assert body["failures"][0]["reason"] == "crash"
    assert main(["--specs", str(tmp_path / "none.csv"), "--out", str(out)]) == 2
    assert "no such" in capsys.readouterr().err
    assert main(["--specs", str(specs), "--device", "hostcpu"]) == 2
    assert "did you mean host-cpu" in capsys.readouterr().err
    assert group_of(CONV) == group_of(next(iter(LatencyTable.read(out))))


@pytest.mark.tvm
def test_real_kernels_from_specs_to_sentinels(tmp_path):
    """Three rows of the project's own kernels, then the same again from the journal and as sentinels."""
    specs = [replace(CONV, c_in=c, w_bits=b, in_bits=(4,)) for c, b in ((8, 8), (16, 8), (16, 4))]
    profiler = HostProfiler(processes=3, most=3, windows=10, window_us=200)
    table = build_table("host-cpu", specs, tmp_path / "t.csv", profiler=profiler, progress=False)
    assert not table.missing(specs)
    assert all(0.1 < row.us < 1000 and row.code_bytes > 100 for row in table.values())
    assert table.lookup(specs[1]).us > table.lookup(specs[0]).us
    assert remeasure(table, k=1, profiler=profiler).ratio == pytest.approx(1, abs=0.9)
