"""Cycles of kernels on a microcontroller, many rows in one image: simulated, the same number every time, or on a board.

What a kernel executes does not depend on the values that it computes with, so one run says all. A row that does not
compile, faults or does not end is found by halving the batch that it broke.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from ..device import Device
from ..errors import LutError
from ..mcu import board_rows, cycles, emit, image, rows
from ..mcu.serial_line import Silent, Unreachable
from ..process import Hang
from ..progress import Progress
from ..spec import Latency, OpSpec, Source
from .base import Built, Failure
from .journal import Journal

HUNG = 3
"""Rows that may hang in a row: then it is not they who hang."""
Counted = tuple[Built, Sequence[int]]
"""Sizes, and the cycles of each run."""


@dataclass(frozen=True)
class McuProfiler:
    """batch: rows in one image; seconds: limit of the simulator. Rows in the `journal` are not run again."""

    batch: int = 24
    seconds: float = 60.0
    journal: Journal | None = None
    progress: bool = False
    schedules: int = 1
    tune: int = 0

    def measure(self, ops: Iterable[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Latency | Failure]]:
        """Answers come batch by batch. Raises LutError when the toolchain is missing or the device has no core, when
        several schedules or tuning are asked for (kernels have one), when a board is not flashed or not reached, and
        when HUNG rows did not end, one after another."""
        if self.schedules > 1:
            raise LutError(f"schedules: {self.schedules}; a microcontroller's kernels have one")
        if self.tune:
            raise LutError(f"tune: {self.tune}; a microcontroller's kernels are not tuned")
        image.tools_of(device)
        source = source_of(device)
        assert device.clock is not None
        specs = list(dict.fromkeys(ops))
        samples = self.journal.samples if self.journal else {}
        built = self.journal.built if self.journal else {}
        done = samples.keys() & built.keys()
        for spec in specs:
            if spec in done:
                runs: Sequence[int] = [round(us * device.clock / 1e6) for us in samples[spec][0]]
                yield spec, latency(runs, device, built[spec], source)
        todo, hung = [spec for spec in specs if spec not in done], 0
        with Progress(len(todo), "measure" if source == "board" else "simulate", shown=self.progress) as bar:
            for start in range(0, len(todo), self.batch):
                for spec, answer in self._batch(todo[start : start + self.batch], device):
                    bar.update()
                    hung = hung + 1 if isinstance(answer, Failure) and answer.reason == "timeout" else 0
                    if isinstance(answer, Failure):
                        if self.journal:
                            self.journal.add_failure(spec, answer)
                        yield spec, answer
                        if hung == HUNG:
                            raise LutError(f"device {device.name}: {hung} rows one after another: {answer}")
                        continue
                    made, runs = answer
                    row = latency(runs, device, made, source)
                    if self.journal:
                        self.journal.add_build(spec, made)
                        self.journal.add_samples(spec, [count / device.clock * 1e6 for count in runs])
                    yield spec, row

    def _batch(self, specs: Sequence[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Counted | Failure]]:
        try:
            kernels = [emit.kernel(spec, device.act_storage) for spec in specs]
            arguments = [random_arguments(kernel) for kernel in kernels]
            if device.runner == "serial":
                results = board_rows.execute(device, kernels, arguments)
            else:
                results = rows.execute(device, kernels, arguments, self.seconds)
        except Unreachable:
            raise
        except LutError as error:
            if len(specs) > 1:
                for half in (specs[: len(specs) // 2], specs[len(specs) // 2 :]):
                    yield from self._batch(half, device)
                return
            yield specs[0], Failure("timeout" if isinstance(error, Hang | Silent) else "error", str(error))
            return
        for spec, kernel, result in zip(specs, kernels, results):
            yield spec, (Built(b"", kernel.sizes["workspace"], result.code_bytes), result.runs)


def source_of(device: Device) -> Source:
    """Where a row's cycles are from. Raises LutError for a device without a core or a cycle model."""
    core = image.core_of(device)
    return "board" if device.runner == "serial" else cycles.model_of(core).source


def latency(runs: Sequence[int], device: Device, made: Built, source: Source) -> Latency:
    """A row of the cycles of each run: their median, beside the lower and the higher tenth."""
    assert device.clock is not None
    count = median_low(runs)
    p10, p90 = np.quantile(runs, 0.1, method="lower"), np.quantile(runs, 0.9, method="higher")
    us, low, high = (float(value) / device.clock * 1e6 for value in (count, p10, p90))
    return Latency(us, low, high, len(runs), made.workspace_bytes, made.code_bytes, source, cycles=count)


def random_arguments(kernel: emit.Kernel, seed: int = 0) -> dict[str, np.ndarray]:
    """Valid random data for all that a kernel reads."""
    rng = np.random.default_rng(seed)
    names = ("in", "in2", "weights", "bias")
    given = {name: rng.integers(0, 256, kernel.sizes[name]).astype(np.uint8) for name in names}
    if kernel.spec.kind == "resample":
        given["weights"] = rng.integers(-1, kernel.spec.c_in, kernel.spec.c_out).astype(np.int32)
    given["params"] = np.array([0, 255, 0, 0, 0, 0, 1 << 30, 0, 1 << 30], np.int32)  # lut/kernels/requantize.py: PARAMS
    return given
