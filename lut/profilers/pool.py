"""A few worker processes under limits of time and memory, driven by one loop without threads.

Workers are spawned, never forked, each leading a process group of its own that is killed as a whole; none outlives
the pool, whether it ends well, by an exception or by Ctrl-C. Where the system allows it they run without address
space randomisation, which takes most of the run-to-run noise out of short kernels.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

from .base import Failure

ADDR_NO_RANDOMIZE = 0x0040000
START_SECONDS = 60.0  # until a new process says that it is ready

Task = tuple[Hashable, str, tuple[Any, ...]]  # key, name in worker.CALLS, arguments


@contextmanager
def fixed_addresses() -> Iterator[bool]:
    """Children started inside have no address space randomisation; yields whether the system allowed it."""
    personality = ctypes.CDLL(None).personality  # of the calling thread, inherited by what it starts
    before = personality(0xFFFFFFFF)
    allowed = before != -1 and personality(before | ADDR_NO_RANDOMIZE) != -1
    try:
        yield allowed
    finally:
        if allowed:
            personality(before)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    errors: IO[bytes]
    key: Hashable = None
    deadline: float = 0.0
    ready: bool = False


class Pool:
    """One worker per entry of `cores`, each confined to the cores of its entry, started when first needed."""

    def __init__(self, cores: Sequence[Sequence[int]], seconds: float, memory_bytes: int) -> None:
        self._cores, self._seconds, self._memory = cores, seconds, memory_bytes
        self._workers: dict[int, _Worker] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for slot in list(self._workers):
            self._end(slot)

    def run(self, tasks: Iterable[Task]) -> Generator[tuple[Any, Any | Failure]]:
        """(key, result or Failure) of every task, as they finish. A task that kills its worker costs only itself."""
        queue = deque(tasks)
        busy: set[int] = set()
        try:
            while queue or busy:
                for slot in range(len(self._cores)):
                    if queue and slot not in busy:
                        self._give(slot, queue.popleft())
                        busy.add(slot)
                for slot, answer in self._answers(busy):
                    busy.discard(slot)
                    yield answer
        finally:  # nobody waits for what was left half done
            for slot in busy & self._workers.keys():
                self._end(slot)

    def _give(self, slot: int, task: Task) -> None:
        if slot in self._workers and self._workers[slot].process.poll() is not None:
            self._end(slot)  # it died while idle
        if slot not in self._workers:
            self._workers[slot] = self._start(slot)
        worker = self._workers[slot]
        worker.key, call, arguments = task
        worker.deadline = time.monotonic() + (self._seconds if worker.ready else START_SECONDS)
        with suppress(BrokenPipeError):  # it died at its start: recv tells
            worker.connection.send((call, arguments))

    def _answers(self, busy: set[int]) -> list[tuple[int, tuple[Any, Any | Failure]]]:
        """Wait until a busy worker answers, dies or runs out of time; what came of it."""
        slots = {self._workers[slot].connection: slot for slot in busy}
        first = min(self._workers[slot].deadline for slot in busy)
        ready = wait(list(slots), max(0.0, first - time.monotonic()))
        found: list[tuple[int, tuple[Any, Any | Failure]]] = []
        for connection in ready:
            slot = slots[connection]  # type: ignore[index]
            worker, key = self._workers[slot], self._workers[slot].key
            try:
                kind, result = worker.connection.recv()
            except (OSError, EOFError, UnpicklingError):  # of a part of an answer, too
                found.append((slot, (key, Failure("crash", self._end(slot)))))
                continue
            if kind == "ready":
                worker.ready, worker.deadline = True, time.monotonic() + self._seconds
                continue
            found.append((slot, (key, result if kind == "ok" else Failure(kind, result))))
            if kind == "memory":
                self._end(slot)
        now = time.monotonic()
        for slot in busy - {slot for slot, _ in found}:
            if self._workers[slot].deadline <= now:
                key = self._workers[slot].key
                self._end(slot)
                found.append((slot, (key, Failure("timeout", f"not done after {self._seconds:g} s"))))
        return found

    def _start(self, slot: int) -> _Worker:
        ours, theirs = Pipe()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _end)
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(dict.fromkeys([root, *(p for p in sys.path if p)]))
        cores = ",".join(map(str, self._cores[slot]))
        threads = str(len(self._cores[slot]))
        command = [sys.executable, "-m", "lut.profilers.worker", str(theirs.fileno()), str(os.getpid()), cores]
        limits = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")}
        with fixed_addresses():
            process = subprocess.Popen(
                [*command, str(self._memory)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, **limits},
            )
        theirs.close()
        return _Worker(process, ours, errors)

    def _end(self, slot: int) -> str:
        """Kill a worker with its whole process group; how it had ended, if it had, and the last line it printed."""
        worker = self._workers.pop(slot)
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        code = worker.process.wait()
        worker.connection.close()
        with worker.errors as errors:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"{how}: {last[-200:]}" if last else how
