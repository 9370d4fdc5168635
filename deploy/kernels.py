"""A network's kernels, compiled by worker processes under limits of time and memory.

A shape on which the compiler explodes costs an error that names its operator, not the search. A worker takes longer to
start than a small network takes to compile, so those of a process stay for its next network and end with it.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import threading
from contextlib import closing

from lut.errors import LutError
from lut.kernels import Kernel, row_key
from lut.profilers.base import Built
from lut.profilers.pool import Pool
from lut.progress import Progress
from lut.schedules import trace_of
from lut.table import LatencyTable

from .program import Program

BUILD = "lut.kernels:build"
SECONDS, MEMORY_BYTES = 60.0, 4 * 2**30
MOST_WORKERS = 8
"""They hold some 250 MB each."""
QUIET_SECONDS = 2.0
"""What is done by then shows no bar."""


def build_kernels(program: Program, isa: str, table: LatencyTable | None, threads: int) -> dict[str, Kernel]:
    """Kernel by operator name, with its row's schedule; equal row keys share one.

    Raises LutError that names the operator whose kernel can't be built, or not within SECONDS and MEMORY_BYTES.
    """
    if threads < 1:
        raise LutError(f"{program.name}: threads: {threads} is not positive")
    keys = {op.name: row_key(op.spec, isa) for op in program.ops}
    first = {key: name for name, key in reversed(keys.items())}
    tasks = []
    for key in dict.fromkeys(keys.values()):
        try:
            variant = table.variant(key) if table else ""
            tasks.append((key, "build", (BUILD, key, isa, variant, threads, trace_of(table, key, variant))))
        except LutError as error:
            raise LutError(f"{program.name}: {first[key]}: {error}") from None
    built: dict[object, Kernel] = {}
    bar = Progress(len(tasks), f"build {program.name}", "kernel", quiet=QUIET_SECONDS)
    pool, lock = workers(os.getpid())
    with lock, bar, closing(pool.run(tasks)) as answers:
        for key, answer in answers:
            if not isinstance(answer, Built):
                why = answer.detail if answer.reason == "error" else answer
                raise LutError(f"{program.name}: {first[key]}: {why}")
            built[key] = pickle.loads(answer.kernel)
            bar.update()
    return {name: built[key] for name, key in keys.items()}


@functools.cache
def workers(process: int) -> tuple[Pool, threading.Lock]:
    """Those of a process, by its id: a forked child starts its own. Whoever runs them holds the lock."""
    cores = sorted(os.sched_getaffinity(0))
    pool = Pool([cores[i::MOST_WORKERS] for i in range(min(len(cores), MOST_WORKERS))], SECONDS, MEMORY_BYTES)

    def end() -> None:
        if os.getpid() == process:
            pool.__exit__()

    atexit.register(end)
    return pool, threading.Lock()
