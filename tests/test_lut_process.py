"""Programs under a limit: what they printed, how they ended, and that none outlives who started it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from lut.errors import LutError
from lut.process import Hang, run_image, run_limited, run_tool


def test_status_and_output(tmp_path):
    assert run_limited(["sh", "-c", "echo said >&2; pwd; exit 3"], tmp_path, 10) == (3, f"{tmp_path}\n", "said\n")
    assert run_image(["echo", "fine"], tmp_path / "net.elf", tmp_path, 10) == "fine\n"
    with pytest.raises(LutError, match=r"^net.elf: exit status 3: said$"):
        run_image(["sh", "-c", "echo said; exit 3"], tmp_path / "net.elf", tmp_path, 10)
    with pytest.raises(LutError, match=r"^net.elf: SIGSEGV: it printed nothing$"):
        run_image(["sh", "-c", "kill -SEGV $$"], tmp_path / "net.elf", tmp_path, 10)


def test_a_tool_prints_or_complains(tmp_path):
    assert run_tool(["sh", "-c", "echo said; echo more >&2"]) == "said\n"
    with pytest.raises(LutError, match=r"^sh -c .*: more$"):
        run_tool(["sh", "-c", "echo said; echo more >&2; exit 1"])
    with pytest.raises(Hang, match=r"^sleep: the image did not end within 0\.2 s$"):
        run_image(["sleep", "9"], tmp_path / "net.elf", tmp_path, 0.2)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def ends(pid, seconds):
    """Whether a process is gone within some seconds; it is afterwards."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    gone = not alive(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return gone


SPIN = "echo $$ > pid.new; mv pid.new pid; while :; do :; done"


def test_what_hangs_is_killed_with_its_children(tmp_path):
    with pytest.raises(Hang, match=r"^sh -c .*: not done after 0\.5 s$"):
        run_limited(["sh", "-c", f"sh -c '{SPIN}'"], tmp_path, 0.5)
    assert ends(int((tmp_path / "pid").read_text()), 5)


def test_what_hangs_ends_when_nobody_waits_for_it_any_more(tmp_path):
    code = f"from lut.process import run_limited; run_limited(['sh', '-c', {SPIN!r}], '.', 0.5)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()})
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert ends(child, 60)
