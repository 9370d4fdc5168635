"""A few trials of MetaSchedule per row: kept where one is faster than the row's template and computes the same bits.

Half of the trials are drawn at random from the search space, then two rounds mutate the best four so far
(lut/kernels/metaschedule.py). Every trial is built by a worker under the limits of time and memory that all builds
have, its output is compared with the template's to the bit, and it is timed as schedules are (`tune.py`). A trial that
fails costs itself alone; one that computes other bits is an error of the kernels and fails the row. The best of them
meets the template once more, as schedules do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ..kernels import untunable
from ..kernels.traces import variant_of
from ..progress import Progress
from ..schedules import Entry
from ..spec import OpSpec
from .base import Built, Failure, Timing
from .pool import Pool
from .tune import DUELS, best_times

PARENTS = 4
"""How many of the best are mutated."""


def generations(trials: int) -> list[int]:
    """Trials per generation: half, a quarter, the rest."""
    first, second = -(-trials // 2), trials // 4
    return [n for n in (first, second, trials - first - second) if n]


class Disagreement(Exception):
    """Two kernels of one row computed different bits."""


@dataclass
class Trials:
    """What a row's search has seen: by variant every trace, and what ran with its time; the first failure."""

    traces: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Built] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None

    def note(self, failure: Failure) -> None:
        self.failure = self.failure or failure

    def best(self, count: int) -> list[str]:
        return sorted(self.times, key=lambda name: self.times[name])[:count]

    def entry(self, variant: str, ratio: float = 0.0, reason: str = "") -> Entry:
        failed = len(self.traces) - len(self.times)
        return Entry(variant, "" if reason else self.traces[variant], len(self.traces), failed, ratio, reason)


@dataclass(frozen=True)
class Tuner:
    """What a profiler lends to the search. build: import path, as HostProfiler's; isa, threads: the device's.

    makers: workers that draw and build; pool(seconds): workers that time; timing, agree: what these do.
    """

    build: str
    isa: str
    threads: int
    makers: Pool
    pool: Callable[[float], Pool]
    timing: Callable[[Built], Timing]
    agree: Callable[[Sequence[Built]], Timing]

    def tune(
        self, spec: OpSpec, template: Built, trials: int, done: Callable[[], None] = lambda: None
    ) -> tuple[Built | Failure, Entry]:
        """The kernel of a tunable row, or why it fails, and what to write down. done() is called after each build."""
        seen = Trials()
        try:
            for turn, count in enumerate(generations(trials)):
                self._generation(seen, spec, template, count, turn, done)
        except Disagreement as error:
            return Failure("error", str(error)), seen.entry(template.variant, reason=str(error))
        if not seen.times:
            cause = f": {seen.failure}" if seen.failure else ""
            return template, seen.entry(template.variant, reason=f"none of {len(seen.traces)} trials ran{cause}")
        name = seen.best(1)[0]
        times, failures = best_times({"template": template, "tuned": seen.kernels[name]}, self.pool, self.timing, DUELS)
        if failures:
            return template, seen.entry(template.variant, reason=f"not timed: {next(iter(failures.values()))}")
        ratio = times["tuned"] / times["template"]
        if ratio < 1:
            return seen.kernels[name], seen.entry(name, ratio)
        return template, seen.entry(
            template.variant, ratio, f"the best trial takes {ratio:.2f} times the template's time"
        )

    def _generation(
        self, seen: Trials, spec: OpSpec, template: Built, count: int, turn: int, done: Callable[[], None]
    ) -> None:
        drawn = self._draw(spec, count, turn, [seen.traces[name] for name in seen.best(PARENTS)])
        if isinstance(drawn, Failure):
            seen.note(drawn)
            return
        fresh = {name: trace for trace in drawn if (name := variant_of(trace)) not in seen.traces}
        seen.traces |= fresh
        made = dict[str, Built]()
        build = (self.build, spec, self.isa)
        for name, answer in self.makers.run((n, "build", (*build, n, self.threads, t)) for n, t in fresh.items()):
            done()
            if isinstance(answer, Built):
                made[name] = answer
            else:
                seen.note(answer)
        same = self._same(seen, template, made)
        times, failures = best_times(same, self.pool, self.timing)
        for name, built in same.items():
            if name in failures:
                seen.note(failures[name])
            else:
                seen.kernels[name], seen.times[name] = built, times[name]

    def _draw(self, spec: OpSpec, count: int, seed: int, parents: list[str]) -> list[str] | Failure:
        """New traces: mutated ones where there are parents."""
        name, given = ("mutate", (spec, self.isa, parents)) if parents else ("sample", (spec, self.isa))
        task = (name, "call", (f"lut.kernels.metaschedule:{name}", *given, count, seed))
        [(_, answer)] = self.makers.run([task])
        return cast("list[str] | Failure", answer)

    def _same(self, seen: Trials, template: Built, made: Mapping[str, Built]) -> dict[str, Built]:
        """The kernels that run and compute the template's bits. Raises Disagreement when one computes others."""
        asked = {name: self.agree([template, kernel]) for name, kernel in made.items()}
        same = {}
        with self.pool(max((task.seconds for task in asked.values()), default=0.0)) as workers:
            for name, answer in workers.run((name, task.call, task.arguments) for name, task in asked.items()):
                if isinstance(answer, Failure):
                    seen.note(answer)
                elif answer:
                    raise Disagreement(f"schedules disagree in their output: {name} from {template.variant}")
                else:
                    same[name] = made[name]
        return same


def tuned(
    tuner: Tuner, rows: Mapping[OpSpec, Built], trials: int, bar: Progress
) -> Iterator[tuple[OpSpec, Built | Failure, Entry]]:
    """Every row's kernel with what to write down, one after the other; those that can't be tuned first."""
    reasons = {spec: untunable(spec, tuner.isa, tuner.threads) for spec in rows}
    for spec, reason in reasons.items():
        if reason is not None:
            yield spec, rows[spec], Entry(rows[spec].variant, reason=reason)
    due = [spec for spec, reason in reasons.items() if reason is None]
    bar.grow(len(due) * trials)
    for number, spec in enumerate(due, 1):
        answer, entry = tuner.tune(spec, rows[spec], trials, bar.update)
        bar.update(number * trials - bar.done)
        yield spec, answer, entry
