"""The database of schedules: what was added comes back, what is damaged or of another machine is told apart."""

import json
from dataclasses import replace

import pytest
from table_toys import CONV, LINEAR

from lut.errors import LutError
from lut.kernels import kernel_source_hash
from lut.kernels.traces import variant_of
from lut.schedules import Entry, ScheduleDatabase, schedules_path, trace_of
from lut.spec import Latency
from lut.table import LatencyTable

TRACES = [f'[[["GetSBlock",[],["sum","main"],["b{i}"]]],[[0,[{i},0.25]]]]' for i in range(3)]
FIRST, SECOND = (Entry(variant_of(trace), trace, 8, 1, 0.5) for trace in TRACES[:2])
KEPT = Entry("6x1", "", 8, 0, 1.25, "the best trial takes 1.25 times the template's time")


@pytest.fixture
def database(tmp_path):
    found = ScheduleDatabase(schedules_path(tmp_path / "host-cpu.csv"), "host-cpu")
    found.add(CONV, FIRST)
    found.add(LINEAR, KEPT)
    found.add(CONV, SECOND)
    return found


def test_what_was_added_comes_back(database):
    again = ScheduleDatabase(database.path, "host-cpu")
    assert again.entries() == {CONV: SECOND, LINEAR: KEPT}
    assert again.trace(CONV, FIRST.variant) == FIRST.trace, "an older table may still name it"
    assert again.trace(CONV, SECOND.variant) == SECOND.trace
    assert database.path.name == "host-cpu.schedules.jsonl"
    assert "1 rows faster by MetaSchedule, 1 keep their template, 0 have nothing" in again.account([CONV, LINEAR])


def test_a_cut_last_line_is_dropped_and_written_over(database):
    whole = database.path.read_bytes()
    for cut in (whole + b'{"spec": {"ki', whole[:-1]):
        database.path.write_bytes(cut)
        kept = len(cut[: cut.rfind(b"\n") + 1].splitlines())
        assert len(list(database._records())) == kept
        database.add(LINEAR, FIRST)
        lines = database.path.read_bytes().splitlines()
        assert len(lines) == kept + 1
        assert database.entries()[LINEAR] == FIRST
        database.path.write_bytes(whole)


def damaged(change):
    def apply(line):
        body = json.loads(line)
        change(body)
        return json.dumps(body).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: b"{" + line, ":1: no entry of a database of schedules"),
        (lambda line: b"[]", ":1: no entry"),
        (lambda line: b"null", ":1: no entry"),
        (lambda line: b"\xff\xfe", ":1: no entry"),
        (damaged(lambda b: b.pop("trace")), ":1: no entry of a database of schedules: 'trace'"),
        (damaged(lambda b: b["spec"].pop("kind")), ":1: no entry"),
        (damaged(lambda b: b["spec"].update(c_in="-3")), ":1: c_in"),
        (damaged(lambda b: b.update(trials="many")), ":1: no entry"),
        (lambda line: line.replace(b'"trials":', b'"trials":1e400,"_":'), ":1: no entry"),
        (lambda line: b"[" * 10**5, ":1: no entry"),
        (damaged(lambda b: b["trace"].append(0)), ":1: the trace is not that of meta-schedule:"),
        (damaged(lambda b: b.update(trace=None)), ":1: the trace is not that of meta-schedule:"),
    ],
)
def test_a_damaged_line_is_refused_with_its_place(database, change, message):
    lines = database.path.read_bytes().split(b"\n")
    database.path.write_bytes(b"\n".join([change(lines[0]), *lines[1:]]))
    with pytest.raises(LutError, match=message):
        database.trace(CONV, SECOND.variant)


def test_what_is_missing_is_named(database, tmp_path):
    missing, third = ScheduleDatabase(tmp_path / "none.jsonl", "host-cpu"), variant_of(TRACES[2])
    with pytest.raises(LutError, match="no such file"):
        missing.trace(CONV, third)
    with pytest.raises(
        LutError, match=f"no schedule {third}; it has {', '.join(sorted((FIRST.variant, SECOND.variant)))}"
    ):
        database.trace(CONV, third)
    with pytest.raises(LutError, match="it has none for this operator"):
        database.trace(LINEAR, third)
    with pytest.raises(LutError, match="it has none for this operator"):
        database.trace(replace(CONV, c_in=8), FIRST.variant)
    with pytest.raises(LutError, match="was tuned on host-cpu, not on my-board"):
        ScheduleDatabase(database.path, "my-board").trace(CONV, FIRST.variant)
    with pytest.raises(LutError, match=f"is of kernels {kernel_source_hash()}; these: 0123"):
        ScheduleDatabase(database.path, "host-cpu", "0123").trace(CONV, FIRST.variant)
    assert ScheduleDatabase(database.path, "my-board").entries() == {}


def test_a_table_s_rows_find_their_traces_beside_it(database, tmp_path):
    rows = {CONV: Latency(1, 1, 1, variant=SECOND.variant), LINEAR: Latency(1, 1, 1, variant="6x1")}
    table = LatencyTable(rows, {"device": "host-cpu"}, tmp_path / "host-cpu.csv")
    assert trace_of(table, CONV, SECOND.variant) == SECOND.trace
    assert trace_of(table, LINEAR, "6x1") == trace_of(None, CONV, "") == ""
    database.path.unlink()
    with pytest.raises(
        LutError, match=r"no such file(.|\n)*build_lut.py --device host-cpu .*host-cpu.csv --force --tune"
    ):
        trace_of(table, CONV, SECOND.variant)
