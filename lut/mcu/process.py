"""Runs a simulator under a limit of time, and leaves nothing of it behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from lut.errors import LutError


class Hang(LutError):
    """An image that did not end within its limit."""


def run_limited(command: list[str], folder: Path, seconds: float) -> tuple[int, str]:
    """(exit status, output) of a program in a process group of its own, which is killed as a whole.

    Where this process is killed first, the kernel kills the program with it, if util-linux is there to ask for that,
    and else ends it after twice the seconds, of the CPU's time.
    """
    guarded = [setpriv, "--pdeathsig", "KILL", *command] if (setpriv := shutil.which("setpriv")) else command
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            guarded, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            limit = int(2 * seconds) + 1
            with suppress(OSError):  # it has ended
                resource.prlimit(process.pid, resource.RLIMIT_CPU, (limit, limit))
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Hang(f"{Path(command[0]).name}: the image did not end within {seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return process.returncode, output.read(1 << 20).decode(errors="replace")


def run_image(command: list[str], image: Path, folder: Path, seconds: float) -> str:
    """What an image printed. Raises Hang, and LutError when it faults or ends with another status than 0: with what it
    printed."""
    status, output = run_limited(command, folder, seconds)
    if status:
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise LutError(f"{image.name}: {how}: {output.strip()[-500:] or 'it printed nothing'}")
    return output
