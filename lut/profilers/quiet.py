"""Which cores a measurement runs on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

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


def one_core_each(start: Callable[[], object]) -> list[int]:
    """Keep this thread and those that start() starts to one core each, where there are enough; returns their ids.

    Left to itself the system may keep two threads that wait for each other on one core.
    """

    def threads() -> set[int]:
        return set(map(int, os.listdir("/proc/self/task")))

    before, cores = threads(), sorted(os.sched_getaffinity(0))
    start()
    team = [threading.get_native_id(), *sorted(threads() - before)]
    if len(team) <= len(cores):
        for thread, core in zip(team, cores):
            os.sched_setaffinity(thread, {core})
    return team
