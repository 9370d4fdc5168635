"""The journal of a profiling run: what was written comes back, a cut end is dropped, anything else is refused."""

from dataclasses import replace

import pytest

from lut.errors import LutError
from lut.profilers.base import Built, Failure
from lut.profilers.journal import Journal
from lut.spec import OpSpec

CONV = OpSpec("conv2d", 1, 16, 16, 8, 8, (3, 3), pad=(1, 1, 1, 1))


def journal(path, machine, rows=3):
    with Journal.open(path, machine) as book:
        for i in range(rows):
            book.add_build(replace(CONV, c_in=4 + i), Built(b"kernel", 1, 2, "6x1"))
            book.add_samples(replace(CONV, c_in=4 + i), [1.0, 2.0 + i])
        book.add_failure(CONV, Failure("timeout", "not done"))


def test_journal_round_trip_and_cut_end(tmp_path):
    path, machine = tmp_path / "j.jsonl", {"cpu": "a", "isa": "b"}
    journal(path, machine)
    raw = path.read_bytes()
    whole = Journal.read(path)
    assert whole.provenance == machine
    assert whole.samples[replace(CONV, c_in=6)] == [[1.0, 4.0]]
    assert whole.built[replace(CONV, c_in=5)] == Built(b"", 1, 2, "6x1")
    assert whole.failures == {CONV: Failure("timeout", "not done")}
    first = raw.index(b"\n") + 1
    for cut in range(first, len(raw), 7):
        path.write_bytes(raw[:cut])
        with Journal.open(path, machine) as book:
            book.add_samples(CONV, [9.0])
        again = Journal.read(path)
        assert again.samples[CONV] == [[9.0]], "what follows a cut line is whole"
        assert all(again.samples[s] == whole.samples[s] for s in again.samples if s != CONV)
    path.write_bytes(raw[: first - 5])
    with Journal.open(path, machine) as book:
        assert not book.samples


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: b"{" + line, ":3: no record of a journal"),
        (lambda line: b"[1, 2]", ":3: no record of a journal"),
        (lambda line: b'{"spec": {"kind": "conv2d"}}', ":3: no record of a journal"),
        (lambda line: line.replace(b'"c_in":"4"', b'"c_in":"-4"'), ":3: c_in: -4 is not a whole number"),
        (lambda line: line.replace(b"1.0", b"-1.0"), ":3: no record of a journal: samples are no list of positive"),
        (lambda line: line.replace(b"1.0", b"NaN"), ":3: no record of a journal: samples are no list of positive"),
        (lambda line: line.replace(b"1.0", b"1e400"), ":3: no record of a journal: samples are no list of positive"),
        (lambda line: line.replace(b"[1.0", b'"1.0').replace(b"]}", b'"}'), ":3: no record of a journal"),
        (lambda line: b"\xff\xfe", ":3: no record of a journal"),
        (lambda line: b"[" * 10**5, ":3: no record of a journal"),
    ],
)
def test_journal_with_a_corrupt_line_is_refused(tmp_path, damage, message):
    path = tmp_path / "j.jsonl"
    journal(path, {"cpu": "a"})
    lines = path.read_bytes().split(b"\n")
    lines[2] = damage(lines[2])
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(LutError, match=message):
        Journal.open(path, {"cpu": "a"})
    assert path.read_bytes() == before


def test_a_row_to_be_measured_again_is_forgotten(tmp_path):
    path, machine, (first, second) = tmp_path / "j.jsonl", {"cpu": "a"}, (replace(CONV, c_in=c) for c in (4, 5))
    journal(path, machine, 2)
    with Journal.open(path, machine) as book:
        assert book.effort == {first: (1, 0), second: (1, 0)}
        book.again(first)
        book.add_build(second, Built(b"", 1, 2, "4x1"), 8, 64)
    found = Journal.read(path)
    assert list(found.samples) == list(found.built) == [second]
    assert found.effort == {second: (8, 64)}


def test_a_journal_without_the_effort_is_one_of_plain_builds(tmp_path):
    path = tmp_path / "j.jsonl"
    journal(path, {"cpu": "a"}, 1)
    path.write_text(path.read_text().replace('"6x1",1,0]', '"6x1"]'))
    assert list(Journal.read(path).effort.values()) == [(1, 0)]
