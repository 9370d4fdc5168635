"""Times kernels on this computer: build all with every core, then time one at a time on a quiet one.

A time depends on the process (where its memory lies) and on the moment (clock, neighbours), so every row is timed in
several processes, each of which passes over all rows in an order of its own. On a shared machine most of the moments
may be disturbed: what another program does on the same physical core makes a kernel 1.2 to 1.5 times as slow, for
longer than one timing takes. So timings are short, and all rows are timed in more processes until it is unlikely that
a row lacks two undisturbed times; rows whose two lowest times differ then, in more still.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..columns import describe
from ..device import Device
from ..errors import LutError
from ..kernels.isa import require
from ..kernels.traces import is_tuned
from ..machine import this_machine
from ..progress import Progress
from ..schedules import ScheduleDatabase, schedules_path
from ..spec import MEASURED, Latency, OpSpec
from ..table import LatencyTable
from . import metaschedule, tune
from .base import Built, Failure, Timing, disturbed, enough, spread, summarise
from .journal import Journal
from .pool import Pool
from .quiet import quiet_cores

DRIFT_LIMIT = 0.03


@dataclass(frozen=True)
class HostProfiler:
    """build(spec, isa, threads) -> kernel and measure(kernel, windows, window_us) -> us: import paths, "module:name".

    processes: times each row is measured at least; all rows are measured again while the chance that one lacks two
    undisturbed times is above `doubt`, a row alone while its two lowest differ by more than `agree` (relative), until
    `most`.
    Limits of one build or timing: `seconds`, `memory_bytes` (address space). Rows in the `journal` are not run again.
    schedules: how many of a kernel's are tried; tune: trials of MetaSchedule after that; variants: those of rows that
    have one already; database: where traces are.
    """

    build: str = "lut.profilers.timing:build_linked"
    measure_kernel: str = "lut.profilers.timing:measure"
    processes: int = 5
    most: int = 30
    doubt: float = 0.005
    agree: float = 0.03
    windows: int = 20
    window_us: float = 500.0
    seconds: float = 20.0
    memory_bytes: int = 4 * 2**30
    source: str = "host"
    schedules: int = 1
    tune: int = 0
    database: ScheduleDatabase | None = None
    variants: Mapping[OpSpec, str] = field(default_factory=dict)
    journal: Journal | None = None
    progress: bool = False

    def measure(self, ops: Iterable[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Latency | Failure]]:
        """Failures come as they happen, latencies at the end.

        Raises LutError when this CPU lacks the device's instruction set or no core is left to time on.
        """
        specs = list(dict.fromkeys(ops))
        self._choose_again(specs)
        known = self.journal.samples if self.journal else {}
        samples = {spec: [list(process) for process in known.get(spec, [])] for spec in specs}
        built = dict(self.journal.built) if self.journal else {}
        quiet = self._cores(device)
        goal = self._goal(samples.values())
        interrupted = self.journal is not None and not self.journal.written
        wanted = [
            spec
            for spec, processes in samples.items()
            if len(processes) < self.processes or (interrupted and self._unsure(processes, goal))
        ]
        kernels: dict[OpSpec, Built] = {}
        for spec, answer in self._built(wanted, built, device, quiet):
            if isinstance(answer, Failure):
                yield spec, self._failed(spec, answer)
                del samples[spec]
                continue
            kernels[spec] = built[spec] = answer
            if self.journal:
                self.journal.add_build(spec, answer, self.schedules, self.tune)
        with Progress(0, "time", "timing", self.progress) as bar:
            for turn in range(max(self.processes, self.most)):
                timed = {spec: samples[spec] for spec in kernels if spec in samples}
                goal = self._goal(timed.values())
                due = [spec for spec, taken in timed.items() if len(taken) <= turn and self._unsure(taken, goal)]
                bar.expect(max(len(due), sum(max(0, goal - len(taken)) for taken in timed.values())))
                random.Random(turn).shuffle(due)
                timings = {spec: self._timing(device, kernels[spec].kernel, self.windows) for spec in due}
                with Pool([quiet], max((t.seconds for t in timings.values()), default=0), self.memory_bytes) as pool:
                    for spec, answer in pool.run((s, t.call, t.arguments) for s, t in timings.items()):
                        bar.update()
                        if isinstance(answer, Failure):
                            yield spec, self._failed(spec, answer)
                            del samples[spec]
                            continue
                        samples[spec].append(answer)
                        if self.journal:
                            self.journal.add_samples(spec, answer)
        for spec, processes in samples.items():
            yield spec, summarise(processes, built.get(spec), self.source)

    def _choose_again(self, specs: Sequence[OpSpec]) -> None:
        """Rows of an interrupted build that tried fewer schedules than are asked for now are not known."""
        if not self.journal:
            return
        for spec in self.journal.effort.keys() & specs:
            schedules, trials = self.journal.effort[spec]
            if schedules < self.schedules or trials < self.tune:
                self.journal.again(spec)

    def _built(
        self, specs: Sequence[OpSpec], known: Mapping[OpSpec, Built], device: Device, quiet: Sequence[int]
    ) -> Iterator[tuple[OpSpec, Built | Failure]]:
        """The kernel that a row is timed with: of its schedules the fastest; one that is known stays."""
        from .. import kernels

        isa, found = this_machine(device)["isa"], dict[OpSpec, list[Built]]()
        wanted: list[tuple[OpSpec, str]] = []
        settled = {spec: self.variants.get(spec) or (known[spec].variant if spec in known else "") for spec in specs}
        for spec, named in settled.items():
            search = self.schedules > 1 and not named
            tried = kernels.variants(spec, isa, self.schedules, device.threads) if search else (named,)
            wanted += [(spec, variant) for variant in tried]
        if not wanted:
            return
        failed = set()
        with (
            Progress(len(wanted), "build", shown=self.progress) as bar,
            Pool([[core] for core in sorted(os.sched_getaffinity(0))], self.seconds, self.memory_bytes) as pool,
        ):
            tasks = (
                (key, "build", (self.build, key[0], isa, key[1], device.threads, *self._trace(*key))) for key in wanted
            )
            for (spec, _), answer in pool.run(tasks):
                bar.update()
                if isinstance(answer, Built):
                    found.setdefault(spec, []).append(answer)
                elif spec not in failed:
                    failed.add(spec)
                    yield spec, answer
        sound = {spec: made for spec, made in found.items() if spec not in failed}
        with Progress(tune.tasks(sound), "schedules", shown=self.progress and tune.tasks(sound) > 0) as bar:
            chosen = tune.choose(
                sound,
                partial(Pool, [quiet], memory_bytes=self.memory_bytes),
                lambda made: self._timing(device, made.kernel, tune.WINDOWS),
                lambda made: self._agreement(device, [each.kernel for each in made]),
                bar.update,
            )
            templates = dict[OpSpec, Built]()
            for spec, answer in chosen:
                if self.tune and isinstance(answer, Built) and not settled[spec]:
                    templates[spec] = answer
                else:
                    yield spec, answer
        if templates:
            yield from self._tuned(templates, isa, device, quiet)

    def _tuned(
        self, templates: Mapping[OpSpec, Built], isa: str, device: Device, quiet: Sequence[int]
    ) -> Iterator[tuple[OpSpec, Built | Failure]]:
        """Each row's template, or what MetaSchedule found that is faster; both are written down."""
        if self.database is None:
            raise LutError(f"tune: {self.tune}: traces need a database to be kept in")
        with (
            Progress(0, "tune", "trial", self.progress) as bar,
            Pool([[core] for core in sorted(os.sched_getaffinity(0))], self.seconds, self.memory_bytes) as makers,
        ):
            tuner = metaschedule.Tuner(
                self.build,
                isa,
                device.threads,
                makers,
                partial(Pool, [quiet], memory_bytes=self.memory_bytes),
                lambda made: self._timing(device, made.kernel, tune.WINDOWS),
                lambda made: self._agreement(device, [each.kernel for each in made]),
            )
            for spec, answer, entry in metaschedule.tuned(tuner, templates, self.tune, bar):
                self.database.add(spec, entry)
                yield spec, answer

    def _trace(self, spec: OpSpec, variant: str) -> tuple[str, ...]:
        """The trace of a tuned variant, as the last argument of a build."""
        if not is_tuned(variant):
            return ()
        if self.database is None:
            raise LutError(f"{describe(spec)}: {variant} needs its trace, and no database of schedules was given")
        return (self.database.trace(spec, variant),)

    def _cores(self, device: Device) -> list[int]:
        """The cores of this computer that timings run on."""
        if device.isa != "auto":
            require(device.isa)
        return quiet_cores(device)

    def _timing(self, device: Device, kernel: bytes, windows: int) -> Timing:
        return Timing("time", (self.measure_kernel, kernel, windows, self.window_us), self.seconds)

    def _agreement(self, device: Device, kernels: Sequence[bytes]) -> Timing:
        return Timing("call", ("lut.profilers.tune:differing", list(kernels)), self.seconds)

    def _goal(self, rows: Iterable[Sequence[Sequence[float]]]) -> int:
        """How many processes are to time every row, by the share of these timings that were disturbed."""
        return max(self.processes, enough(disturbed(rows), self.doubt, self.most))

    def _unsure(self, processes: Sequence[Sequence[float]], goal: int) -> bool:
        """Whether a row's time may still be a disturbed one."""
        return len(processes) < goal or (len(processes) < self.most and spread(processes) > self.agree)

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
    rows = sorted((s for s, row in table.items() if row.source in MEASURED), key=lambda s: table[s].us)
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
    rows, specs = {}, sentinels(table, k)
    database = ScheduleDatabase(schedules_path(table.path), device.name)
    variants = {spec: table[spec].variant for spec in specs}
    same = replace(profiler or HostProfiler(), variants=variants, database=database)
    for spec, answer in same.measure(specs, device):
        if isinstance(answer, Failure):
            raise LutError(f"{table.path}: {describe(spec)}: could not be measured again: {answer}")
        rows[spec] = (table[spec].us, answer.us)
    return Drift(rows)
