"""Runs a compiler or a simulator under a limit of time, and leaves nothing of it behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from .errors import LutError

MOST_BYTES = 256 << 20
"""Of what a program prints, how much is read."""


class Hang(LutError):
    """A program that did not end within its limit."""


class Ended(NamedTuple):
    """status: of the exit, or minus the signal that ended it. What went to standard output and to standard error."""

    status: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        return self.output + self.errors


def run_limited(command: list[str], folder: Path, seconds: float) -> Ended:
    """Run a program in `folder`, in a process group of its own, which is killed as a whole. Raises Hang.

    Where this process is killed first, the kernel kills the program with it, if util-linux is there to ask for that,
    and else ends it after twice the seconds, of the CPU's time.
    """
    guarded = [setpriv, "--pdeathsig", "KILL", *command] if (setpriv := shutil.which("setpriv")) else command
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            guarded, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            limit = int(2 * seconds) + 1
            with suppress(OSError):  # it has ended
                resource.prlimit(process.pid, resource.RLIMIT_CPU, (limit, limit))
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Hang(f"{' '.join(command)}: not done after {seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ended(process.returncode, _text(output), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MOST_BYTES).decode(errors="replace")


def run_tool(command: list[str], seconds: float = 120.0, folder: Path | None = None) -> str:
    """What a program prints. LutError has its complaint, or that it took too long."""
    ended = run_limited(command, folder or Path(), seconds)
    if ended.status:
        raise LutError(f"{' '.join(command)}: {ended.errors.strip() or ended.output.strip()}")
    return ended.output


def run_image(command: list[str], image: Path, folder: Path, seconds: float) -> str:
    """What an image printed, in a simulator. Raises Hang, and LutError when it faults or ends with another status than
    0: with what it printed."""
    try:
        ended = run_limited(command, folder, seconds)
    except Hang:
        raise Hang(f"{Path(command[0]).name}: the image did not end within {seconds:g} s") from None
    if status := ended.status:
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise LutError(f"{image.name}: {how}: {ended.said.strip()[-500:] or 'it printed nothing'}")
    return ended.said
