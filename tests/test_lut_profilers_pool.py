"""Pools that live for several runs: what one leaves behind does not reach the next."""

import os
import signal
import sys
from io import StringIO

import pytest

from lut.profilers.base import Failure
from lut.profilers.pool import Pool
from lut.progress import Progress

CORE = [min(os.sched_getaffinity(0))]


def asked(pool, *numbers):
    return dict(pool.run((n, "call", ("math:sqrt", n)) for n in numbers))


def test_what_was_left_half_done_answers_no_later_task():
    with Pool([CORE, CORE], 20.0, 2**31) as pool:
        running = pool.run([("quick", "call", ("math:sqrt", 1)), ("slow", "call", ("time:sleep", 60))])
        assert next(running) == ("quick", 1.0)
        running.close()
        assert len(pool._workers) == 1, "the slow one was ended"
        assert asked(pool, 4, 9, 16) == {4: 2.0, 9: 3.0, 16: 4.0}


def test_a_worker_that_died_while_idle_is_replaced():
    with Pool([CORE], 20.0, 2**31) as pool:
        assert asked(pool, 4) == {4: 2.0}
        process = pool._workers[0].process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert asked(pool, 9) == {9: 3.0}


HALF = '''
import os, struct, sys
def half(first):
    """Half an answer, then death."""
    if first:
        os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"x" * 400)
        os._exit(9)
    return "whole"
'''


def test_a_worker_that_dies_while_it_answers_costs_its_own_task(tmp_path, monkeypatch):
    name = f"half_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(HALF)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Pool([CORE], 20.0, 2**31) as pool:
        answers = dict(pool.run((first, "call", (f"{name}:half", first)) for first in (True, False)))
    assert answers == {True: Failure("crash", "exit status 9"), False: "whole"}


def test_a_refusal_is_its_own_words():
    with Pool([CORE], 20.0, 2**31) as pool:
        ((_, answer),) = pool.run([("key", "call", ("lut.kernels.schedule:parse", "6"))])
    assert isinstance(answer, Failure) and answer.reason == "error"
    assert answer.detail.startswith("variant: '6' is no schedule; expected"), "no class, no line of ours"


@pytest.mark.parametrize(("quiet", "shown"), [(0.0, True), (60.0, False)])
def test_a_bar_may_wait(quiet, shown, monkeypatch):
    terminal = StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(2, "build", "kernel", quiet=quiet) as bar:
        bar.update()
        bar.update()
    assert ("build" in terminal.getvalue()) is shown
