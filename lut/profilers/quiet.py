"""Which cores a measurement runs on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..device import Device
from ..errors import LutError


def quiet_cores(device: Device) -> list[int]:
    """The last of this process's cores, as many as the device has threads; the first ones take the interrupts."""
    cores = sorted(os.sched_getaffinity(0))
    if device.threads > len(cores):
        raise LutError(
            f"device {device.name}: threads: {device.threads} is above the {len(cores)} cores that this process may use"
        )
    return cores[-device.threads :]


@contextmanager
def one_core_each(start: Callable[[], object]) -> Iterator[list[int]]:
    """Inside, this thread and those that start() starts keep to a core each, where there are enough; yields their ids.

    Left to itself the system may keep two threads that wait for each other on one core. Afterwards this thread may use
    all of its cores again.
    """

    def threads() -> set[int]:
        return set(map(int, os.listdir("/proc/self/task")))

    before, cores = threads(), os.sched_getaffinity(0)
    start()
    team = [threading.get_native_id(), *sorted(threads() - before)]
    if len(team) <= len(cores):
        for thread, core in zip(team, sorted(cores)):
            os.sched_setaffinity(thread, {core})
    try:
        yield team
    finally:
        os.sched_setaffinity(0, cores)
