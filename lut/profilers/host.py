"""Times kernels on this computer: build all with every core, then time one at a time on a quiet one.

A time depends on the process (where its memory lies) and on the minute (clock, neighbours), so every row is timed in
several processes, each of which passes over all rows in an order of its own. Where no two
processes agree on the undisturbed time, more are asked.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..columns import describe
from ..device import Device
from ..errors import LutError
from ..kernels.isa import require
from ..machine import this_machine
from ..progress import Progress
from ..spec import Latency, OpSpec
from ..table import LatencyTable
from .base import Failure, spread, summarise
from .journal import Journal
from .pool import Pool
from .quiet import quiet_cores

DRIFT_LIMIT = 0.03


@dataclass(frozen=True)
class HostProfiler:
    """build(spec, isa, threads) -> kernel and measure(kernel, windows, window_us) -> us: import paths, "module:name".

    processes: times each row is measured at least, and `most` at most while no two agree within `agree` (relative).
    Limits of one build or timing: `seconds`, `memory_bytes` (address space). Rows in the `journal` are not run again.
    """

    build: str = "lut.kernels:build"
    measure_kernel: str = "lut.profilers.timing:measure"
    processes: int = 5
    most: int = 10
    agree: float = 0.03
    windows: int = 60
    window_us: float = 500.0
    seconds: float = 20.0
    memory_bytes: int = 4 * 2**30
    journal: Journal | None = None
    progress: bool = False

    def measure(self, ops: Iterable[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Latency | Failure]]:
        """Failures come as they happen, latencies at the end.

        Raises LutError when this CPU lacks the device's instruction set or no core is left to time on.
        """
        if device.isa != "auto":
            require(device.isa)
        specs = list(dict.fromkeys(ops))
        known = self.journal.samples if self.journal else {}
        samples = {spec: [list(process) for process in known.get(spec, [])] for spec in specs}
        sizes = dict(self.journal.built) if self.journal else {}
        kernels: dict[OpSpec, bytes] = {}
        quiet, cores = quiet_cores(device), sorted(os.sched_getaffinity(0))
        wanted = [spec for spec in specs if len(samples[spec]) < self.processes]
        with Progress(len(wanted), "build", shown=self.progress) as bar:
            for spec, answer in self._builds(wanted, device, cores):
                bar.update()
                if isinstance(answer, Failure):
                    yield spec, self._failed(spec, answer)
                    del samples[spec]
                    continue
                kernels[spec], *size = answer
                sizes[spec] = (size[0], size[1])
                if self.journal:
                    self.journal.add_build(spec, *sizes[spec])
        rounds = max(self.processes, self.most)
        with Progress(sum(self.processes - len(samples[s]) for s in kernels), "time", "timing", self.progress) as bar:
            for turn in range(rounds):
                due = [spec for spec in kernels if spec in samples and self._due(samples[spec], turn)]
                random.Random(turn).shuffle(due)
                bar.grow(len(due) if turn >= self.processes else 0)
                with Pool([quiet], self.seconds, self.memory_bytes) as pool:
                    tasks = [(s, "time", (self.measure_kernel, kernels[s], self.windows, self.window_us)) for s in due]
                    for spec, answer in pool.run(tasks):
                        bar.update()
                        if isinstance(answer, Failure):
                            yield spec, self._failed(spec, answer)
                            del samples[spec]
                            continue
                        samples[spec].append(answer)
                        if self.journal:
                            self.journal.add_samples(spec, answer)
        for spec, processes in samples.items():
            yield spec, summarise(processes, *sizes.get(spec, (0, 0)))

    def _due(self, processes: Sequence[Sequence[float]], turn: int) -> bool:
        if len(processes) < self.processes:
            return len(processes) <= turn
        return len(processes) == turn and spread(processes) > self.agree

    def _builds(
        self, specs: Sequence[OpSpec], device: Device, cores: Sequence[int]
    ) -> Iterator[tuple[OpSpec, tuple[bytes, int, int] | Failure]]:
        if not specs:
            return
        isa = this_machine(device)["isa"]
        with Pool([[core] for core in cores], self.seconds, self.memory_bytes) as pool:
            yield from pool.run([(spec, "build", (self.build, spec, isa, device.threads)) for spec in specs])

    def _failed(self, spec: OpSpec, failure: Failure) -> Failure:
        if self.journal:
            self.journal.add_failure(spec, failure)
        return failure


@dataclass(frozen=True)
class Drift:
    """Sentinel rows now and in the table, microseconds; `ratio` is their median now / then."""

    rows: Mapping[OpSpec, tuple[float, float]]

    @property
    def ratio(self) -> float:
        ratios = sorted(now / then for then, now in self.rows.values())
        return ratios[len(ratios) // 2]

    @property
    def excessive(self) -> bool:
        return abs(self.ratio - 1) > DRIFT_LIMIT

    def __str__(self) -> str:
        rows = "; ".join(f"{describe(s)}: {then:.2f} -> {now:.2f} us" for s, (then, now) in self.rows.items())
        verdict = f"above {DRIFT_LIMIT:.0%}, rebuild the table or quieten the machine" if self.excessive else "fine"
        return f"the machine runs at {self.ratio - 1:+.1%} of the table's time ({verdict}): {rows}"


def sentinels(table: LatencyTable, k: int = 3) -> list[OpSpec]:
    """k measured rows spread evenly over the range of latencies, its shortest tenth (call overhead) left out."""
    rows = sorted((s for s, row in table.items() if row.source == "host"), key=lambda s: table[s].us)
    if not rows:
        raise LutError(f"{table.path}: no row was measured on this kind of device, so none can be measured again")
    last = len(rows) - 1
    places = [round(last * (0.1 + 0.85 * i / max(1, k - 1))) for i in range(k)]
    return [rows[place] for place in dict.fromkeys(places)]


def remeasure(
    table: LatencyTable, k: int = 3, device: Device | None = None, profiler: HostProfiler | None = None
) -> Drift:
    """Measure `k` rows of a table again. Raises LutError when one of them no longer runs."""
    device = device or Device.load(table.provenance.get("device", "host-cpu"))
    rows = {}
    for spec, answer in (profiler or HostProfiler()).measure(sentinels(table, k), device):
        if isinstance(answer, Failure):
            raise LutError(f"{table.path}: {describe(spec)}: could not be measured again: {answer}")
        rows[spec] = (table[spec].us, answer.us)
    return Drift(rows)
