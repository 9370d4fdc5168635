"""Two processes at the same files: one waits or is refused, and a dead one holds nothing."""

import errno
import fcntl
import subprocess
import sys
import threading

import pytest

from lut.errors import InputError
from lut.lock import alone

HOLDER = """
import sys
from lut.lock import alone
with alone(sys.argv[1]):
    print("inside", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds a path until it reads a line."""
    started = []

    def start(path):
        command = [sys.executable, "-c", HOLDER, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "inside\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_another_process_is_refused_until_this_one_is_done(tmp_path, holder, kind):
    path = tmp_path if kind == "folder" else tmp_path / "new" / ".lock"
    process = holder(path)
    with pytest.raises(InputError, match=rf"{path}: another process works there"), alone(path):
        pass
    process.communicate("\n", timeout=30)
    with alone(path):
        pass
    with alone(path):
        pass


def test_a_killed_process_holds_nothing(tmp_path, holder):
    process = holder(tmp_path)
    process.kill()
    process.wait(30)
    with alone(tmp_path):
        pass


def test_it_waits_when_told_what_to_say(tmp_path, holder, capsys):
    process, entered = holder(tmp_path), threading.Event()

    def enter():
        with alone(tmp_path, "waiting for the other one"):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.3)
    process.communicate("\n", timeout=30)
    thread.join(30)
    assert entered.is_set()
    assert capsys.readouterr().err == "waiting for the other one\n"


def test_a_file_system_without_locks_is_worked_on(tmp_path, monkeypatch):
    def unsupported(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with alone(tmp_path), alone(tmp_path):
        pass
