"""A deployed network on a device behind TVM's RPC: built and linked here, shipped there, run and timed there.

The counterpart of `tvm_build.HostModule` for devices with `runner: rpc`; lut/profilers/rpc.py has the rows. Every call
is a session of its own, and runs in a process of the server's that is ended when it takes too long.
"""

from __future__ import annotations

import signal
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lut.device import Device
from lut.errors import InputError, LutError
from lut.kernels.isa import machine_of
from lut.profilers.rpc import headers, session
from lut.profilers.timing import compile_c

from .built import Description, describe
from .results import dense, room
from .tvm_build import CACHE_BYTES

SOURCE = Path(__file__).with_name("network_rpc.c")
SECONDS = 120
"""For which one call may run on the device."""
IMAGES, HOT, COLD, STEPS = range(4)


def linked(path: Path, about: Description, folder: Path) -> Path:
    """network_rpc.c as a library that finds NAME.so beside it."""
    beside = [f"-L{path.parent}", f"-l:{path.name}", "-Wl,-rpath,$ORIGIN"]
    given = [f"-DNETWORK={about.name}", *headers(), str(SOURCE), *beside]
    return compile_c(given, folder / f"{about.name}_rpc.so", machine_of(about.isa))


class RemoteModule:
    """A network that `tvm_build.build` made, on a device. Raises InputError when `path` is none."""

    def __init__(self, path: str | Path, device: Device) -> None:
        self.path, self.device = Path(path).resolve(), device
        self.about = describe(self.path)

    def _call(self, what: int, images: np.ndarray, out: np.ndarray, windows: int = 0, window_us: float = 0.0) -> None:
        """Fill `out`. Raises LutError when the network crashed, hung, or could not be started."""
        import tvm

        assert self.device.tracker is not None
        remote = session(self.device.tracker, self.device.name, 2 * SECONDS)
        with tempfile.TemporaryDirectory() as folder:
            glue = linked(self.path, self.about, Path(folder))
            for file in (self.path, glue):
                remote.upload(bytearray(file.read_bytes()), file.name)
        there: Any = lambda array: tvm.runtime.tensor(array.reshape(-1).view(np.uint8), remote.cpu(0))  # noqa: E731
        sizes = int(np.prod(self.about.image)), room(self.about.outputs) * np.dtype(self.about.scores).itemsize
        answer = there(out)
        ended = remote.load_module(glue.name)["run"](
            what, there(np.ascontiguousarray(images)), answer, *sizes, windows, float(window_us), CACHE_BYTES, SECONDS
        )
        if ended:
            why = signal.Signals(ended).name if ended > 0 else "it could not start a process"
            why = f"not done after {SECONDS} s" if ended == signal.SIGALRM else why
            raise LutError(f"{self.path}: on {self.device.name}: {why}")
        out.reshape(-1).view(np.uint8)[:] = answer.numpy()

    def run(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, c) -> (n, values), as integer.run_program. Raises InputError when the shape is another."""
        if images.dtype != np.uint8 or images.shape[1:] != self.about.image:
            raise InputError(f"images: {images.dtype} {images.shape}; expected uint8 (n, {self.about.image})")
        scores = np.zeros((len(images), room(self.about.outputs)), self.about.scores)
        if len(images):
            self._call(IMAGES, images, scores)
        return dense(scores, self.about.outputs)

    def apart(self) -> AbstractContextManager[object]:
        """Nothing here: where its threads run is the device's business."""
        return nullcontext()

    def time_network(self, windows: int = 60, flush: bool = False, window_us: float = 2000.0) -> np.ndarray:
        """As HostModule's."""
        us = np.zeros(windows)
        self._call(COLD if flush else HOT, self._blank(), us, windows, window_us)
        return us

    def time_ops(self, windows: int = 60, window_us: float = 2000.0) -> dict[str, np.ndarray]:
        """As HostModule's."""
        us = np.zeros((windows, len(self.about.ops)))
        self._call(STEPS, self._blank(), us, windows, window_us)
        return dict(zip(self.about.ops, us.T))

    def _blank(self) -> np.ndarray:
        return np.zeros(self.about.image, np.uint8)
