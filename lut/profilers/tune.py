"""Which schedule of a row's kernel is fastest here, among those that compute the same bits.

Every candidate is timed for a few windows in each of ROUNDS processes, those of all rows in turn; the lowest window
decides. Where that is not the default's, both meet once more in DUELS fresh processes, and the default stays unless it
loses again: the least of many noisy times flatters. Before all that their outputs on the same random data are compared:
one that differs by a bit is an error of the kernels, and fails the row instead of being left out.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..spec import OpSpec
from .base import Built, Failure, Timing
from .pool import Pool

ROUNDS, DUELS, WINDOWS = 2, 4, 10


def differing(kernels: Sequence[bytes]) -> list[str]:
    """The variants of pickled kernels whose output is not that of the first. Called in a worker."""
    from .timing import OUT, load_kernel, pointers, random_arguments, telling_arguments

    outputs = []
    for raw in kernels:
        kernel = pickle.loads(raw)
        function, said = load_kernel(kernel), b""
        for arguments in (random_arguments(kernel), telling_arguments(kernel)):
            for part in range(kernel.threads):
                function(*pointers(arguments), part)
            out = arguments[OUT]
            assert out is not None
            said += out.tobytes()
        outputs.append((kernel.variant, said))
    return [variant for variant, out in outputs if out != outputs[0][1]]


def choose(
    built: Mapping[OpSpec, Sequence[Built]],
    pool: Callable[[float], Pool],
    timing: Callable[[Built], Timing],
    agree: Callable[[Sequence[Built]], Timing],
    done: Callable[[], None],
) -> Iterator[tuple[OpSpec, Built | Failure]]:
    """Each row's fastest kernel, or why it has none.

    pool(seconds): workers with that limit; timing, agree: what they do; done() is called after each task.
    """
    several = {spec: found for spec, found in built.items() if len(found) > 1}
    failed: dict[OpSpec, Failure] = {}
    for spec, answer in _ask(pool, {spec: agree(found) for spec, found in several.items()}):
        done()
        if isinstance(answer, Failure):
            failed[spec] = answer
        elif answer:
            names = f"{', '.join(answer)} from {several[spec][0].variant}"
            failed[spec] = Failure("error", f"schedules disagree in their output: {names}")
    competing = {(spec, i): made for spec in several if spec not in failed for i, made in enumerate(several[spec])}
    best, broken = best_times(competing, pool, timing, done=done)
    for (spec, _), failure in broken.items():
        failed.setdefault(spec, failure)
    winners = {
        spec: min(range(len(found)), key=lambda i: best[spec, i])
        for spec, found in several.items()
        if spec not in failed
    }
    again = {(spec, i): several[spec][i] for spec, winner in winners.items() if winner for i in (0, winner)}
    times, broken = best_times(again, pool, timing, DUELS)
    for (spec, _), failure in broken.items():
        failed.setdefault(spec, failure)
    for spec, found in built.items():
        winner = winners.get(spec, 0)
        if spec in failed:
            yield spec, failed[spec]
        else:
            yield spec, found[winner if winner and times[spec, winner] < times[spec, 0] else 0]


def best_times(
    built: Mapping[Any, Built],
    pool: Callable[[float], Pool],
    timing: Callable[[Built], Timing],
    rounds: int = ROUNDS,
    done: Callable[[], None] = lambda: None,
) -> tuple[dict[Any, float], dict[Any, Failure]]:
    """(the lowest window in microseconds, or else the first failure, by key): all in turn, in `rounds` processes."""
    best, failed = dict.fromkeys(built, float("inf")), dict[Any, Failure]()
    for turn in range(rounds):
        due = list(best)
        random.Random(turn).shuffle(due)
        for key, answer in _ask(pool, {key: timing(built[key]) for key in due}):
            done()
            if isinstance(answer, Failure):
                failed.setdefault(key, answer)
            else:
                best[key] = min(best[key], *answer)
    return best, failed


def _ask(pool: Callable[[float], Pool], asked: Mapping[Any, Timing]) -> Iterator[tuple[Any, Any]]:
    """(key, answer) of every task."""
    with pool(max((task.seconds for task in asked.values()), default=0.0)) as workers:
        yield from workers.run((key, task.call, task.arguments) for key, task in asked.items())


def tasks(built: Mapping[OpSpec, Sequence[Built]]) -> int:
    """How often `done` will be called."""
    return sum(1 + ROUNDS * len(found) for found in built.values() if len(found) > 1)
