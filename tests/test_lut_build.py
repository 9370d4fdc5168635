"""A table that is built, resumed, extended and built anew with kernels of the test's own."""

import os
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from fake_kernels import CONV, HOST, calls, fake_engine

from lut.build import build_table, run_build
from lut.errors import LutError
from lut.lock import alone
from lut.profilers.journal import Journal, journal_path
from lut.table import LatencyTable


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return fake_engine(tmp_path, monkeypatch)


def test_build_writes_a_table_that_answers_for_the_space(engine, tmp_path, capsys):
    path = tmp_path / "t.csv"
    space = [
        replace(CONV, c_in=i, c_out=o, in_bits=(b,))
        for i in (4, 8, 12, 16, 20, 24)
        for o in (8, 12, 16, 24, 32)
        for b in (4, 8)
    ]
    table = build_table(HOST, space, path, profiler=engine)
    assert SIXTEEN <= len(table) < 30
    assert not table.missing(space)
    assert dict(LatencyTable.read(path)) == dict(table)
    guesses = [s for s in space if table.lookup(s).source == "interpolated"]
    assert guesses
    assert np.median([abs(table.lookup(s).us * 100 / (s.c_in * s.c_out) - 1) for s in guesses]) < 0.08
    assert float(table.provenance["held_out_error"]) < 0.08
    assert {"cpu", "isa", "compiler", "threads", "kernels", "date", "clock", "flags", "spread", "lanes"} <= set(
        table.provenance
    )
    assert "interpolation, held out: median" in capsys.readouterr().err
    before = len(calls(tmp_path))
    again = build_table(HOST, space, path, profiler=engine)
    assert len(calls(tmp_path)) == before, "nothing is measured twice"
    assert dict(again) == dict(table)
    more = run_build(HOST, [*space, replace(CONV, c_out=64)], path, profiler=engine)
    assert more.measured == 1
    assert set(table) < set(more.table)


def test_what_another_process_measured_meanwhile_is_read_instead(engine, tmp_path, monkeypatch, capsys):
    """Of a table that another one is building: this one waits, and measures what is still missing."""
    path, other = tmp_path / "t.csv", replace(CONV, c_in=4)

    @contextmanager
    def waited(lock, waiting):
        assert (lock, "waiting for another process" in waiting) == (tmp_path / ".t.lock", True)
        monkeypatch.setattr("lut.build.alone", alone)
        build_table(HOST, [CONV, replace(CONV, c_in=8)], path, profiler=engine)
        yield

    monkeypatch.setattr("lut.build.alone", waited)
    result = run_build(HOST, [CONV, other], path, profiler=engine)
    assert result.measured == 1
    assert set(LatencyTable.read(path)) == {CONV, other, replace(CONV, c_in=8)}
    assert run_build(HOST, [CONV, other], path, profiler=engine).measured == 0


SIXTEEN = 16


def test_a_machine_that_is_too_busy_is_told_of(engine, tmp_path, capsys, caplog):
    rows = [replace(CONV, kind="busy", c_in=c) for c in range(4, 24)]
    table = build_table(HOST, rows, tmp_path / "t.csv", every_row=True, profiler=replace(engine, processes=4, most=4))
    share = float(table.provenance["disturbed"])
    assert 0.3 < share < 0.7
    (told,) = [record.getMessage() for record in caplog.records if "too slow" in record.getMessage()]
    assert f"{share:.0%} of the timings were disturbed by other work on this machine, so about" in told
    assert "of 20 rows may be too slow" in told
    assert f"{share:.0%} of the timings disturbed by other work, and repeated" in capsys.readouterr().err
    calm = build_table(HOST, [CONV], tmp_path / "c.csv", profiler=engine)
    assert float(calm.provenance["disturbed"]) == 0
    assert "disturbed" not in capsys.readouterr().err
    assert len([record for record in caplog.records if "too slow" in record.getMessage()]) == 1


def test_unsupported_and_failed_rows_are_recorded_and_the_rest_is_written(engine, tmp_path):
    path = tmp_path / "t.csv"
    result = run_build(HOST, [CONV, replace(CONV, kind="unheard"), replace(CONV, kind="crash")], path, profiler=engine)
    assert list(result.table) == [CONV]
    assert sorted(f.reason for f in result.failures.values()) == ["crash", "unsupported"]
    assert {s.kind: f.reason for s, f in Journal.read(journal_path(path)).failures.items()} == {
        "unheard": "unsupported",
        "crash": "crash",
    }
    with pytest.raises(LutError, match=r"no row was measured; crash 16->16 .*: crash: SIGABRT"):
        build_table(HOST, [replace(CONV, kind="crash")], tmp_path / "u.csv", profiler=engine)
    assert not (tmp_path / "u.csv").exists()


def test_interrupted_build_resumes(engine, tmp_path, monkeypatch):
    path, specs = tmp_path / "t.csv", [replace(CONV, c_in=c) for c in (4, 8, 12, 16)]
    record, seen = Journal.add_samples, []

    def interrupt(self, spec, us):
        if len(seen) == 6:
            raise KeyboardInterrupt
        seen.append(spec)
        record(self, spec, us)

    monkeypatch.setattr(Journal, "add_samples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_table(HOST, specs, path, profiler=engine)
    assert not path.exists()
    monkeypatch.setattr(Journal, "add_samples", record)
    before = sum(c.startswith("time") for c in calls(tmp_path))
    table = build_table(HOST, specs, path, profiler=engine)
    assert set(table) == set(specs)
    assert sum(c.startswith("time") for c in calls(tmp_path)) - before == 12 - 6
    assert all(row.n == 15 for row in table.values())


def test_another_machine_is_refused_and_force_keeps_the_old_journal(engine, tmp_path):
    path = tmp_path / "t.csv"
    build_table(HOST, [CONV], path, profiler=engine)
    text = path.read_text()
    path.write_text(text.replace("# kernels: ", "# kernels: older"))
    with pytest.raises(LutError, match=r"kernels: the table has older.*\n.*--force"):
        build_table(HOST, [CONV], path, profiler=engine)
    before = len(calls(tmp_path))
    table = build_table(HOST, [CONV], path, force=True, profiler=engine)
    assert len(calls(tmp_path)) == before + 4
    assert not table.provenance["kernels"].startswith("older")
    assert (tmp_path / "t.journal.1.jsonl").exists()


def test_full_disk_leaves_the_old_table_and_the_journal_resumes(engine, tmp_path, monkeypatch):
    path, more = tmp_path / "t.csv", [CONV, replace(CONV, c_in=4)]
    build_table(HOST, [CONV], path, profiler=engine)
    before = path.read_bytes()
    fsync = os.fsync

    def full(descriptor):
        if str(tmp_path / ".t.csv") in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("lut.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        build_table(HOST, more, path, profiler=engine)
    assert path.read_bytes() == before
    monkeypatch.setattr("lut.files.os.fsync", fsync)
    count = len(calls(tmp_path))
    assert set(build_table(HOST, more, path, profiler=engine)) == set(more)
    assert len(calls(tmp_path)) == count, "the rows were in the journal"
