"""The process that builds and times kernels for a profiler: `python -m lut.profilers.worker FD PARENT CORES BYTES`.

It answers one call at a time over a pipe and can be killed at any moment. It dies with its parent, keeps to its cores
and its memory, and prints to stderr alone. Functions come by import path, "module:name".
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from ..errors import LutError
from ..spec import OpSpec
from .base import Built

PR_SET_PDEATHSIG = 1


def build(function: str, spec: OpSpec, isa: str, variant: str, threads: int, trace: str = "") -> Built:
    """The kernel of `function(spec, isa, threads=threads)`, with the variant, and its trace, if one is named."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # no kernel needs it; TVM would import it, for a second
    named = {name: given for name, given in (("variant", variant), ("trace", trace)) if given}
    kernel = resolve(function)(spec, isa, threads=threads, **named)
    sizes = int(kernel.workspace_bytes), int(kernel.code_bytes)
    return Built(pickle.dumps(kernel), *sizes, str(getattr(kernel, "variant", "")))


def time(function: str, kernel: bytes, windows: int, window_us: float) -> list[float]:
    """Microseconds per call, one per window, of `function(kernel, windows, window_us)`."""
    return [float(us) for us in resolve(function)(pickle.loads(kernel), windows=windows, window_us=window_us)]


def call(function: str, *arguments: Any) -> Any:
    """Any function of plain arguments and a plain result."""
    return resolve(function)(*arguments)


CALLS: dict[str, Callable[..., Any]] = {"build": build, "time": time, "call": call}


def resolve(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _answer(call: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "ok", CALLS[call](*arguments)
    except MemoryError:
        return "memory", "an allocation was refused"
    except LutError as error:
        return "error", str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})"


def main() -> None:
    descriptor, parent, cores, memory = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return  # the parent died before it could be watched
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.set_inheritable(int(descriptor), False)
    connection = Connection(int(descriptor))
    connection.send(("ready", None))
    while True:
        try:
            call, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_answer(call, arguments))


if __name__ == "__main__":
    main()
