"""What every profiler offers, and how raw samples become a row.

A profiler runs operators on a device one by one. What fails is an answer too: a `Failure` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..device import Device
from ..spec import Latency, OpSpec

DISTURBED = 0.05
"""How far above a row's lowest time a process's is that was never undisturbed; clocks and places make less."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no latency. reason: unsupported | timeout | memory | crash | error."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Built:
    """A kernel as a worker made it. kernel: pickled; variant: its schedule."""

    kernel: bytes
    workspace_bytes: int
    code_bytes: int
    variant: str = ""


@dataclass(frozen=True)
class Timing:
    """What a worker does with a kernel: a name in worker.CALLS, its arguments, its limit."""

    call: str
    arguments: tuple[Any, ...]
    seconds: float


class Profiler(Protocol):
    def measure(self, ops: Iterable[OpSpec], device: Device) -> Iterator[tuple[OpSpec, Latency | Failure]]:
        """One answer per distinct op, in any order; an op's failure never ends the run."""
        ...


def floor(samples: Sequence[float]) -> float:
    """The time of an undisturbed run, from one process's samples: their 5th percentile.

    Disturbances (another program, an interrupt, a cold cache) only ever add time, so the truth is at the lower end; a
    percentile, where a minimum would hang on one sample.
    """
    return float(np.quantile(samples, 0.05))


def confirmed(processes: Sequence[Sequence[float]]) -> float:
    """The lowest floor that a second process confirms: the second lowest; of three processes, their median.

    A process has one memory layout for life, so its samples share an error that more of them do not average out.
    """
    floors = sorted(map(floor, processes))
    return floors[min(1, len(floors) - 1)]


def spread(processes: Sequence[Sequence[float]]) -> float:
    """How far the second lowest floor is above the lowest, relative; 0 for one process."""
    return confirmed(processes) / min(map(floor, processes)) - 1


def disturbed(rows: Iterable[Sequence[Sequence[float]]]) -> float:
    """The share of all rows' processes that were disturbed from their first sample to their last: whose floor is more
    than DISTURBED above their row's lowest. 0 without any."""
    above: list[bool] = []
    for processes in rows:
        floors = list(map(floor, processes))
        above += [us > min(floors) * (1 + DISTURBED) for us in floors]
    return sum(above) / len(above) if above else 0.0


def unconfirmed(share: float, processes: int) -> float:
    """The chance that all but one of a row's processes, or all of them, were disturbed, where each is with a chance of
    `share`: its time may then be a disturbed one."""
    return float(share**processes + processes * (1 - share) * share ** (processes - 1))


def enough(share: float, doubt: float, most: int) -> int:
    """The least number of processes, at most `most`, for which `unconfirmed` is not above `doubt`."""
    return next((count for count in range(1, most) if unconfirmed(share, count) <= doubt), most)


def summarise(processes: Sequence[Sequence[float]], built: Built | None = None, source: str = "host") -> Latency:
    """A row from its samples (microseconds), one sequence per process: `confirmed`; p10 and p90 over all samples."""
    us, made = confirmed(processes), built or Built(b"", 0, 0)
    p10, p90 = (float(q) for q in np.quantile(np.concatenate([np.asarray(s, float) for s in processes]), [0.1, 0.9]))
    count = sum(map(len, processes))
    return Latency(us, min(p10, us), max(p90, us), count, made.workspace_bytes, made.code_bytes, source,
                   variant=made.variant)  # fmt: skip
