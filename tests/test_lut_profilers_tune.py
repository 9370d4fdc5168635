"""Choosing schedules by measuring them: the fastest that computes the same bits, remembered in journal and row."""

import pickle
import shutil
from dataclasses import replace

import pytest

from lut import kernels
from lut.device import Device
from lut.profilers import tune
from lut.profilers.base import Built, Failure, Timing
from lut.profilers.host import HostProfiler, remeasure
from lut.profilers.journal import Journal
from lut.profilers.timing import OUT, load_kernel, pointers, random_arguments, telling_arguments
from lut.spec import OpSpec
from lut.table import LatencyTable
from scripts.build_lut import main

needs_kernels = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
HOST = Device.load("host-cpu")
A, B = (OpSpec("conv2d", 1, 16, c, 8, 8, (3, 3), pad=(1, 1, 1, 1)) for c in (16, 32))
SHORT = HostProfiler(processes=1, most=1, windows=3, window_us=50)


class FakePool:
    """Runs tasks in this process: ("time", (us,)) answers with windows of us, ("agree", (variants,)) with them."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, tasks):
        for key, call, (value,) in tasks:
            if isinstance(value, Failure) or call == "agree":
                yield key, value
            else:
                yield key, [value + 1, value, value + 2]


def choose(times, wrong=()):
    """times: per row, microseconds (or a Failure) by variant."""
    built = {spec: [Built(b"", 0, 0, name) for name in found] for spec, found in times.items()}
    calls = []
    found = tune.choose(
        built,
        lambda seconds: FakePool(),
        lambda made: Timing("time", (next(t[made.variant] for t in times.values() if made.variant in t),), 1.0),
        lambda made: Timing("agree", ([each.variant for each in made if each.variant in wrong],), 1.0),
        lambda: calls.append(1),
    )
    answers = dict(found)
    assert len(calls) == tune.tasks(built) or any(isinstance(a, Failure) for a in answers.values())
    return answers


def test_the_fastest_is_taken_and_one_alone_is_not_timed():
    found = choose({A: {"6x1": 5.0, "4x1": 3.0, "5x1": 4.0}, B: {"3x2": 1.0}})
    assert {spec: made.variant for spec, made in found.items()} == {A: "4x1", B: "3x2"}


def test_the_default_stays_unless_it_loses_twice():
    built = {A: [Built(b"", 0, 0, name) for name in ("6x1", "4x1")]}
    asked = []

    def timing(made):
        asked.append(made.variant)
        first = len(asked) <= 2 * tune.ROUNDS
        return Timing("time", (5.0 if made.variant == "6x1" else 4.0 if first else 6.0,), 1.0)

    agree = lambda made: Timing("agree", ([],), 1.0)  # noqa: E731
    [(_, made)] = tune.choose(built, lambda seconds: FakePool(), timing, agree, lambda: None)
    assert made.variant == "6x1"
    assert len(asked) == 2 * (tune.ROUNDS + tune.DUELS)


def test_schedules_that_disagree_fail_the_row_even_when_they_are_fast():
    found = choose({A: {"6x1": 5.0, "4x1": 1.0}, B: {"3x2": 2.0, "2x2": 1.0}}, wrong=("4x1",))
    assert isinstance(found[A], Failure)
    assert found[A].reason == "error"
    assert "schedules disagree in their output: 4x1 from 6x1" in found[A].detail
    assert found[B].variant == "2x2"


def test_a_schedule_that_crashes_fails_the_row():
    assert choose({A: {"6x1": 5.0, "4x1": Failure("crash", "SIGSEGV")}})[A] == Failure("crash", "SIGSEGV")


@needs_kernels
def test_outputs_are_compared_to_the_bit():
    pytest.importorskip("tvm")
    isa = kernels.isa_of_host()
    made = [kernels.build(A, isa, variant) for variant in kernels.variants(A, isa, 3)]
    assert tune.differing([pickle.dumps(kernel) for kernel in made]) == []
    other = replace(kernels.build(replace(A, pad=(0, 2, 2, 0)), isa), variant="shifted")
    assert tune.differing([pickle.dumps(kernel) for kernel in (*made, other)]) == ["shifted"]


PARAMS = ("low", "high", "z_out", "shift", "z_in")


@needs_kernels
@pytest.mark.parametrize("name", PARAMS)
def test_arguments_tell_whether_a_kernel_reads_each_parameter(name):
    pytest.importorskip("tvm")
    kernel = kernels.build(A, kernels.isa_of_host())
    function, outputs = load_kernel(kernel), []
    for left_out in (False, True):
        arguments, plain = telling_arguments(kernel), random_arguments(kernel)
        place = next(i for i, arg in enumerate(kernel.args) if arg.name == "params")
        if left_out:  # as a kernel that takes its neutral value would
            arguments[place][PARAMS.index(name)] = plain[place][PARAMS.index(name)]
        function(*pointers(arguments), 0)
        outputs.append(arguments[OUT].copy())
    assert (outputs[0] != outputs[1]).any()


@needs_kernels
def test_rows_record_the_schedule_and_a_resumed_run_keeps_it(tmp_path, monkeypatch):
    pytest.importorskip("tvm")
    isa, path = kernels.isa_of_host(), tmp_path / "t.journal.jsonl"
    with Journal.open(path, {"device": "host-cpu"}) as journal:
        rows = dict(replace(SHORT, schedules=3, journal=journal).measure([A, B], HOST))
    chosen = {spec: row.variant for spec, row in rows.items()}
    assert all(chosen[spec] in kernels.variants(spec, isa, 3) for spec in (A, B))
    assert {spec: made.variant for spec, made in Journal.read(path).built.items()} == chosen

    tried = []

    def first(built, *_):
        tried.append(built)
        return [(spec, found[0]) for spec, found in built.items()]

    monkeypatch.setattr(tune, "choose", first)
    with Journal.open(path, {"device": "host-cpu"}) as journal:
        resumed = dict(replace(SHORT, schedules=3, journal=journal, processes=2, most=2).measure([A, B], HOST))
    assert {spec: row.variant for spec, row in resumed.items()} == chosen
    assert [len(found) for found in tried[0].values()] == [1, 1]


@needs_kernels
def test_a_resumed_run_chooses_again_where_more_schedules_are_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("tvm")
    isa, path = kernels.isa_of_host(), tmp_path / "t.journal.jsonl"
    with Journal.open(path, {"device": "host-cpu"}) as journal:
        for spec in (A, B):
            journal.add_build(spec, Built(b"", 0, 0, kernels.variants(spec, isa, 1)[0]))
            journal.add_samples(spec, [1.0, 1.1])
    tried, whole = [], tune.choose

    def choose(built, *others):
        tried.append({spec: {made.variant for made in found} for spec, found in built.items()})
        return whole(built, *others)

    monkeypatch.setattr(tune, "choose", choose)
    for schedules in (2, 2, 1):
        with Journal.open(path, {"device": "host-cpu"}) as journal:
            rows = dict(replace(SHORT, schedules=schedules, journal=journal).measure([A], HOST))
    assert tried == [{A: set(kernels.variants(A, isa, 2))}], "once"
    read = Journal.read(path)
    assert (read.built[A].variant, read.effort[A]) == (rows[A].variant, (2, 0))
    assert len(read.samples[A]) == 1, "those of the former schedule do not count"
    assert (read.effort[B], read.samples[B]) == ((1, 0), [[1.0, 1.1]]), "nobody asked for this row"


@needs_kernels
def test_a_row_is_measured_again_with_its_own_schedule(monkeypatch):
    pytest.importorskip("tvm")
    variant = kernels.variants(A, kernels.isa_of_host(), 3)[-1]
    rows = dict(replace(SHORT, variants={A: variant}).measure([A], HOST))
    assert rows[A].variant == variant
    seen, whole = [], HostProfiler._timing

    def timing(self, device, kernel, windows):
        seen.append(pickle.loads(kernel).variant)
        return whole(self, device, kernel, windows)

    monkeypatch.setattr(HostProfiler, "_timing", timing)
    remeasure(LatencyTable(rows, {"device": "host-cpu"}), 1, HOST, SHORT)
    assert seen == [variant]


def test_less_than_one_schedule_is_refused(tmp_path, capsys):
    specs = tmp_path / "specs.csv"
    LatencyTable({}).write(specs)
    assert main(["--specs", str(specs), "--schedules", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
