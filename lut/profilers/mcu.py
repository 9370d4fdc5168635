"""Cycles of kernels on a microcontroller, simulated: many rows in one start, the same number every time.

What a kernel executes does not depend on the values that it computes with, so one run says all. A row that does not
compile, faults or does not end is found by halving the batch that it broke.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..device import Device
from ..errors import LutError
from ..mcu import cycles, emit, image, rows
from ..mcu.qemu import Hang
from ..mcu.toolchain import toolchain
from ..progress import Progress
from ..spec import Latency, OpSpec
from .base import Built, Failure
from .journal import Journal


@dataclass(frozen=True)
class McuProfiler:
    """batch: rows in one start of the simulator; seconds: its limit. Rows in the `journal` are not run again."""

    batch: int = 24
    seconds: float = 60.0
    journal: Journal | None = None
    progress: bool = False
    schedules: int = 1
    tune: int = 0

    def measure(self, ops: Iterable[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Latency | Failure]]:
        """Answers come batch by batch. Raises LutError when the toolchain is missing or the device has no core, or when
        more than one schedule, or tuning, is asked for: kernels have one."""
        if self.schedules > 1:
            raise LutError(f"schedules: {self.schedules}; a microcontroller's kernels have one")
        if self.tune:
            raise LutError(f"tune: {self.tune}; a microcontroller's kernels are not tuned")
        toolchain()
        model = cycles.model_of(image.core_of(device))
        assert device.clock is not None
        specs = list(dict.fromkeys(ops))
        known = self.journal.samples if self.journal else {}
        for spec in specs:
            if spec in known and self.journal:
                yield (
                    spec,
                    latency(round(known[spec][0][0] * device.clock / 1e6), device, self.journal.built[spec], model),
                )
        todo = [spec for spec in specs if spec not in known]
        with Progress(len(todo), "simulate", shown=self.progress) as bar:
            for start in range(0, len(todo), self.batch):
                for spec, answer in self._batch(todo[start : start + self.batch], device):
                    bar.update()
                    if isinstance(answer, Failure):
                        if self.journal:
                            self.journal.add_failure(spec, answer)
                        yield spec, answer
                        continue
                    made, count = answer
                    row = latency(count, device, made, model)
                    if self.journal:
                        self.journal.add_build(spec, made)
                        self.journal.add_samples(spec, [row.us])
                    yield spec, row

    def _batch(self, specs: Sequence[OpSpec], device: Device) -> Iterator[tuple[OpSpec, tuple[Built, int] | Failure]]:
        """(sizes, cycles) of each."""
        try:
            kernels = [emit.kernel(spec) for spec in specs]
            results = rows.execute(device, kernels, [random_arguments(kernel) for kernel in kernels], self.seconds)
        except LutError as error:
            if len(specs) > 1:
                for half in (specs[: len(specs) // 2], specs[len(specs) // 2 :]):
                    yield from self._batch(half, device)
                return
            yield specs[0], Failure("timeout" if isinstance(error, Hang) else "error", str(error))
            return
        for spec, kernel, result in zip(specs, kernels, results):
            yield spec, (Built(b"", kernel.sizes["workspace"], result.code_bytes), result.cycles)


def latency(count: int, device: Device, made: Built, model: cycles.Model) -> Latency:
    """A row of `count` cycles."""
    assert device.clock is not None
    us = count / device.clock * 1e6
    return Latency(us, us, us, 1, made.workspace_bytes, made.code_bytes, model.source, cycles=count)


def random_arguments(kernel: emit.Kernel, seed: int = 0) -> dict[str, np.ndarray]:
    """Valid random data for all that a kernel reads."""
    rng = np.random.default_rng(seed)
    names = ("in", "in2", "weights", "bias")
    given = {name: rng.integers(0, 256, kernel.sizes[name]).astype(np.uint8) for name in names}
    if kernel.spec.kind == "resample":
        given["weights"] = rng.integers(-1, kernel.spec.c_in, kernel.spec.c_out).astype(np.int32)
    given["params"] = np.array([0, 255, 0, 0, 0, 0, 1 << 30, 0, 1 << 30], np.int32)  # lut/kernels/requantize.py: PARAMS
    return given
