"""This machine behind a tracker of TVM's RPC, as a device."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

from lut import kernels
from lut.device import Device
from lut.errors import LutError
from lut.profilers import rpc


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ports(port: int) -> list[str]:
    """Options for this port and no other."""
    return ["--port", str(port), "--port-end", str(port + 1)]


@contextmanager
def running(*arguments: str) -> Iterator[None]:
    """A TVM process that is ended, children and all, with the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=log, stderr=log, env=os.environ | {"TVM_NUM_THREADS": "1"},
            start_new_session=True,
        )  # fmt: skip
        try:
            yield
        finally:
            os.killpg(process.pid, 9)
            process.wait(10)


def until(call: Callable[[], object], seconds: float = 90.0) -> None:
    """Call until it raises no LutError."""
    end = time.monotonic() + seconds
    while True:
        try:
            call()
            return
        except LutError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextmanager
def loopback() -> Iterator[Device]:
    """This machine behind a tracker, as the device `loop`."""
    with ExitStack() as stack:
        tracker, server = free_port(), free_port()
        address = f"127.0.0.1:{tracker}"
        stack.enter_context(running("tvm.exec.rpc_tracker", "--host", "127.0.0.1", *ports(tracker)))
        until(lambda: rpc.tracker_of(address))
        given = ["--host", "127.0.0.1", "--tracker", address, "--key", "loop", *ports(server)]
        stack.enter_context(running("tvm.exec.rpc_server", *given))
        until(lambda: rpc.check_server(rpc.tracker_of(address), address, "loop"))
        yield Device("loop", isa=kernels.isa_of_host(), runner="rpc", tracker=address)
