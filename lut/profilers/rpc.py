"""Times kernels on another machine through TVM's RPC: built here, shipped as a library, run and timed there.

A device with `runner: rpc` names a tracker; on the board runs

    python -m tvm.exec.rpc_server --tracker HOST:PORT --key DEVICE

Every row is a session of its own, which is one process of the server. The times are those of timing.c, as on the host.
A request for a key that no server has would wait for ever, so the tracker is asked first.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device
from ..errors import LutError
from ..kernels import Kernel
from ..kernels.isa import machine_of
from ..kernels.signature import SLACK
from .base import Failure, Timing
from .host import HostProfiler
from .timing import compile_c, random_arguments, telling_arguments

SOURCE = Path(__file__).with_name("rpc.c")
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 30.0
"""How long a server that another client holds, or that begins a new session, is waited for."""


def tracker_of(address: str) -> Any:
    """TVM's tracker session at `host:port`. Raises LutError when nothing answers there."""
    from tvm import rpc

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()  # TVM would try for a minute
        return rpc.connect_tracker(host, int(port))
    except (OSError, RuntimeError) as error:
        raise LutError(
            f"tracker: {address}: no answer ({error}); start one: "
            f"python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port {port}"
        ) from None


def check_server(tracker: Any, address: str, key: str) -> None:
    """Raise LutError unless a server with this key is registered."""
    keys = sorted({str(item["key"]).partition(":")[2] for item in tracker.summary()["server_info"]})
    if key not in keys:
        raise LutError(
            f"tracker: {address} has no server for {key!r} (it has: {', '.join(keys) or 'none'}); on the device: "
            f"python -m tvm.exec.rpc_server --tracker {address} --key {key}"
        )


def session(address: str, key: str, seconds: float) -> Any:
    """A session with a free server, which ends it after `seconds`; at least the tracker has seen one."""
    tracker, deadline = tracker_of(address), time.monotonic() + WAIT_SECONDS
    check_server(tracker, address, key)
    while not tracker.summary()["queue_info"].get(key, {}).get("free"):
        if time.monotonic() > deadline:
            raise LutError(f"tracker: {address}: no server for {key!r} was free within {WAIT_SECONDS:g} s")
        time.sleep(0.02)
    return tracker.request(key, session_timeout=seconds)


def headers() -> list[str]:
    """Where the C of this file and of TVM's interface is."""
    from tvm_ffi.libinfo import include_paths

    return [f"-I{folder}" for folder in (SOURCE.parent, *include_paths())]


def linked(kernel: Kernel, folder: Path) -> Path:
    """The kernel and rpc.c, linked for the kernel's architecture."""
    path = folder / f"{kernel.symbol}.o"
    path.write_bytes(kernel.object)
    parts = [f"-DTHREADS={kernel.threads}", f"-DSTRIDE={kernel.stride}"]
    given = ["-pthread", f"-DKERNEL={kernel.symbol}", *parts, *headers(), str(SOURCE), str(path)]
    return compile_c(given, path.with_suffix(".so"), machine_of(kernel.isa))


def execute(
    kernel: Kernel, arrays: list[np.ndarray | None], remote: Any, windows: int, window_us: float, seconds: int
) -> tuple[np.ndarray, np.ndarray] | Failure:
    """(microseconds per call (windows,), the output) of a kernel on a device; no windows: one call.

    arrays: the kernel's eight arguments (lut/kernels/signature.py).
    """
    import tvm

    with tempfile.TemporaryDirectory() as folder:
        built = linked(kernel, Path(folder))
        remote.upload(bytearray(built.read_bytes()), built.name)
    cpu, out = remote.cpu(0), arrays[2]
    assert out is not None

    def there(array: np.ndarray | None) -> Any:
        raw = b"" if array is None else array.tobytes()
        return tvm.runtime.tensor(np.frombuffer(raw + bytes(SLACK), np.uint8), cpu) if raw else None

    given = [there(array) for array in arrays]
    given[2] = next((given[i] for i in (0, 1) if arrays[i] is out), given[2])
    us = tvm.runtime.tensor(np.zeros(max(1, windows)), cpu)
    ended = remote.load_module(built.name)["run"](*given, us, windows, float(window_us), seconds)
    if ended == signal.SIGALRM:
        return Failure("timeout", f"not done after {seconds} s")
    if ended:
        return Failure("crash", signal.Signals(ended).name if ended > 0 else "the device could not start a process")
    return us.numpy()[:windows], given[2].numpy()[: out.nbytes].view(out.dtype)


def measure(
    pickled: bytes, address: str, key: str, windows: int, window_us: float, seconds: float
) -> list[float] | Failure:
    """Microseconds per call, one per window, of a kernel with random arguments in a session of its own."""
    kernel = pickle.loads(pickled)
    remote = session(address, key, 2 * seconds + ANSWER_SECONDS)
    result = execute(kernel, random_arguments(kernel), remote, windows, window_us, max(1, round(seconds)))
    return result if isinstance(result, Failure) else [float(us) for us in result[0]]


def differing(pickled: Sequence[bytes], address: str, key: str, seconds: float) -> list[str] | Failure:
    """The variants whose output on the device is not that of the first (lut/profilers/tune.py)."""
    outputs = []
    for raw in pickled:
        kernel, said = pickle.loads(raw), b""
        for arguments in (random_arguments(kernel), telling_arguments(kernel)):
            remote = session(address, key, 2 * seconds + ANSWER_SECONDS)
            result = execute(kernel, arguments, remote, 0, 0.0, max(1, round(seconds)))
            if isinstance(result, Failure):
                return result
            said += result[1].tobytes()
            del remote, result  # a live handle keeps the device busy
        outputs.append((kernel.variant, said))
    return [variant for variant, out in outputs if out != outputs[0][1]]


@dataclass(frozen=True)
class RpcProfiler(HostProfiler):
    """A HostProfiler whose kernels run on the device, each for `run_seconds` at most. Timings are long and few: each is
    a session with the server."""

    build: str = "lut.kernels:build"
    most: int = 10
    windows: int = 60
    run_seconds: float = 10.0
    source: str = "board"

    def _cores(self, device: Device) -> list[int]:
        assert device.tracker is not None
        check_server(tracker_of(device.tracker), device.tracker, device.name)
        return sorted(os.sched_getaffinity(0))[-1:]

    def _timing(self, device: Device, kernel: bytes, windows: int) -> Timing:
        arguments = (kernel, device.tracker, device.name, windows, self.window_us, self.run_seconds)
        return Timing("call", ("lut.profilers.rpc:measure", *arguments), self._limit())

    def _agreement(self, device: Device, kernels: Sequence[bytes]) -> Timing:
        arguments = (list(kernels), device.tracker, device.name, self.run_seconds)
        return Timing("call", ("lut.profilers.rpc:differing", *arguments), len(kernels) * self._limit())

    def _limit(self) -> float:
        return self.seconds + 2 * self.run_seconds + WAIT_SECONDS
