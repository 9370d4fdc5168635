"""The search over MetaSchedule's trials: what is kept, what fails whom, what is written down, and a resumed run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kernel_toys import HOST as ISA
from kernel_toys import conv, with_bits

from lut import kernels
from lut.build import run_build
from lut.columns import spec_cells
from lut.device import Device
from lut.kernels.traces import is_tuned, variant_of
from lut.profilers import metaschedule
from lut.profilers.base import Built, Failure, Timing
from lut.profilers.host import HostProfiler, remeasure
from lut.profilers.journal import Journal, journal_path
from lut.schedules import ScheduleDatabase, schedules_path
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from scripts.build_lut import main

ROOT = Path(__file__).resolve().parents[1]
needs_kernels = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
FLOAT = with_bits(conv(8, 8, 4, 3), 32)
SMALL = [with_bits(conv(2, c, 2, 3), 32) for c in (2, 4)]
QUICK = HostProfiler(processes=1, most=1, windows=3, window_us=50, seconds=100)
TEMPLATE = Built(b"", 0, 0, "6x1")


class FakePool:
    """Answers tasks in this process. draws: what each `sample` and `mutate` gives; builds: failures by variant."""

    def __init__(self, draws=(), builds=None):
        self.draws, self.builds, self.asked = list(draws), builds or {}, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, tasks):
        for key, call, arguments in tasks:
            if call == "call":
                self.asked.append((arguments[0].rpartition(":")[2], arguments[3:]))
                yield key, self.draws.pop(0) if self.draws else []
            elif call == "build":
                yield key, self.builds.get(arguments[3], Built(b"", 0, 0, arguments[3]))
            elif call == "time" and not isinstance(arguments[0], Failure):
                yield key, [arguments[0] + 1, arguments[0]]
            else:
                yield key, arguments[0]


def search(draws, us, builds=None, outputs=None, trials=8):
    """The row's kernel, its entry and what was drawn. us, builds, outputs: by trace (the template's is `template`)."""
    named = lambda found: {variant_of(trace): value for trace, value in (found or {}).items()}  # noqa: E731
    makers, done = FakePool(draws, named(builds)), []
    times = {"6x1": us["template"], **named(us)}
    tuner = metaschedule.Tuner(
        "m:build", "llvm", 1, makers, lambda seconds: FakePool(),
        lambda made: Timing("time", (times[made.variant],), 1.0),
        lambda made: Timing("agree", (named(outputs).get(made[1].variant, []),), 1.0),
    )  # fmt: skip
    kernel, entry = tuner.tune(FLOAT, TEMPLATE, trials, lambda: done.append(1))
    assert len(done) == entry.trials
    return kernel, entry, makers.asked


@pytest.mark.parametrize("trials", range(1, 40))
def test_generations_make_up_the_trials(trials):
    found = metaschedule.generations(trials)
    assert sum(found) == trials
    assert all(found)
    assert found[0] == -(-trials // 2)


def test_the_fastest_trial_is_kept_and_its_trace_written_down():
    kernel, entry, asked = search([["a", "b"], ["c"], ["b"]], {"template": 9.0, "a": 12.0, "b": 6.0, "c": 4.5})
    assert kernel.variant == entry.variant == variant_of("c")
    assert (entry.trace, entry.trials, entry.failed, entry.ratio, entry.reason) == ("c", 3, 0, 0.5, "")
    assert asked == [("sample", (4, 0)), ("mutate", (["b", "a"], 2, 1)), ("mutate", (["c", "b", "a"], 2, 2))]


def test_a_template_that_is_faster_stays():
    kernel, entry, _ = search([["a"]], {"template": 4.0, "a": 5.0})
    assert kernel is TEMPLATE
    assert (entry.variant, entry.trace, entry.ratio) == ("6x1", "", 1.25)
    assert entry.reason == "the best trial takes 1.25 times the template's time"


def test_a_trial_that_fails_costs_itself_alone():
    lost = Failure("memory", "an allocation was refused")
    kernel, entry, _ = search(
        [["a", "b", "c"], Failure("timeout", "not done"), ["d"]],
        {"template": 9.0, "a": 1.0, "b": Failure("crash", "SIGSEGV"), "c": 3.0, "d": 5.0},
        builds={"a": lost},
        outputs={"d": Failure("crash", "SIGILL")},
    )
    assert kernel.variant == variant_of("c")
    assert (entry.trials, entry.failed) == (4, 3)


def test_a_row_whose_trials_all_fail_keeps_its_template_and_says_why():
    lost = Failure("memory", "an allocation was refused")
    kernel, entry, _ = search([["a"], [], []], {"template": 9.0}, builds={"a": lost})
    assert kernel is TEMPLATE
    assert entry.reason == "none of 1 trials ran: memory: an allocation was refused"
    kernel, entry, _ = search([Failure("crash", "no space")] * 3, {"template": 9.0})
    assert kernel is TEMPLATE
    assert entry.reason == "none of 0 trials ran: crash: no space"


def test_a_trial_that_computes_other_bits_fails_the_row():
    wrong = {"b": [variant_of("b")]}
    kernel, entry, _ = search([["a", "b"]], {"template": 9.0, "a": 1.0, "b": 1.0}, outputs=wrong, trials=2)
    assert isinstance(kernel, Failure)
    assert kernel.reason == "error"
    assert kernel.detail == entry.reason == f"schedules disagree in their output: {variant_of('b')} from 6x1"
    assert entry.trace == ""


@needs_kernels
def test_a_row_tuned_with_two_trials_is_measured_recorded_and_measured_again(tmp_path, monkeypatch):
    """Everything but which of the two is faster, which is not for so short a test to say."""
    pytest.importorskip("tvm")
    timed = []

    def best_times(built, *_):
        timed.append(set(built))
        return {key: 2.0 if key == "template" else 1.0 for key in built}, {}

    monkeypatch.setattr(metaschedule, "best_times", best_times)
    others, out = [conv(4, 4, 2, 3, 4), OpSpec("add", 1, 4, 4, 2, 2, in_bits=(8, 8))], tmp_path / "host-cpu.csv"
    result = run_build("host-cpu", [SMALL[0], *others], out, every_row=True, progress=False, tune=2, profiler=QUICK)
    assert not result.failures
    assert timed[-1] == {"template", "tuned"}
    database = ScheduleDatabase(schedules_path(out), "host-cpu")
    entries = {spec.kind + str(spec.w_bits): entry for spec, entry in database.entries().items()}
    tuned, row = entries["conv2d32"], kernels.row_key(SMALL[0], ISA)
    assert (tuned.trials, tuned.failed, tuned.ratio) == (2, 0, 0.5)
    assert entries["conv2d4"].reason == "4-bit weights: unpacking them is written by hand"
    assert entries["add8"].reason == "add: only convolutions and linear layers are tuned"
    table = LatencyTable.read(out)
    assert is_tuned(tuned.variant)
    assert table[row].variant == tuned.variant
    assert Journal.read(journal_path(out)).built[row].variant == tuned.variant
    only = LatencyTable({row: table[row]}, table.provenance, out)
    assert remeasure(only, 1, profiler=QUICK).rows[row][0] == table[row].us


SCRIPT = """
import sys, json
from lut.build import run_build, read_specs
from lut.profilers.host import HostProfiler
quick = HostProfiler(processes=1, most=1, windows=3, window_us=50, seconds=100)
run_build("host-cpu", read_specs(sys.argv[1]), sys.argv[2], every_row=True, progress=False, tune=2, profiler=quick)
"""


@pytest.mark.slow
@needs_kernels
def test_a_killed_run_goes_on_with_the_rows_that_it_had_not_tuned(tmp_path):
    pytest.importorskip("tvm")
    specs, out = tmp_path / "specs.csv", tmp_path / "host-cpu.csv"
    LatencyTable({spec: Latency(1, 1, 1) for spec in SMALL}).write(specs)
    command = [sys.executable, "-c", SCRIPT, str(specs), str(out)]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=given, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (journal_path(out).exists() and b'"built"' in journal_path(out).read_bytes()):
        assert process.poll() is None, "the run ended before a row was tuned"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = Journal.read(journal_path(out)).built
    assert 0 < len(before) < len(SMALL)
    subprocess.run(command, env=given, cwd=tmp_path, check=True, timeout=300)
    lines = [json.loads(line) for line in schedules_path(out).read_text().splitlines()]
    tuned = [tuple(line["spec"].values()) for line in lines]
    for spec, made in before.items():
        assert tuned.count(tuple(cell for cell in spec_cells(spec) if cell)) == 1, "a finished row was tuned again"
        assert LatencyTable.read(out)[spec].variant == made.variant
    assert len(LatencyTable.read(out)) == len(SMALL)


def test_bad_numbers_are_refused(tmp_path, capsys):
    specs = tmp_path / "specs.csv"
    LatencyTable({}).write(specs)
    assert main(["--specs", str(specs), "--tune", "-1"]) == 2
    assert "a number of trials" in capsys.readouterr().err
    assert main(["--specs", str(specs), "--tune", "2", "--device", "cortex-m4", "--out", str(tmp_path / "t.csv")]) == 2


def test_a_tuned_row_without_a_database_is_refused():
    known = HostProfiler(variants={kernels.row_key(FLOAT, ISA): "meta-schedule:0123456789ab"})
    with pytest.raises(Exception, match="needs its trace, and no database of schedules was given"):
        list(known.measure([kernels.row_key(FLOAT, ISA)], Device.load("host-cpu")))
