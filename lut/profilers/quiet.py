"""Which cores a measurement runs on."""

from __future__ import annotations

import os

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
