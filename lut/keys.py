"""What a device's kernels make of an operator: the key of its row, why there is none, and how its cost steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import kernels
from .device import Device
from .kernels.isa import LANES
from .mcu import emit
from .spec import OpSpec

MCU_LANES = 4
"""A word holds four 8-bit weights."""


@dataclass(frozen=True)
class Keys:
    """key: what the generated code depends on; supported: None, or why there is no kernel; lanes: channels per step of
    the cost."""

    key: Callable[[OpSpec], OpSpec]
    supported: Callable[[OpSpec], str | None]
    lanes: int


def keys_of(device: Device, isa: str) -> Keys:
    """isa: as this_machine has it."""
    if device.core is not None:
        storage = device.act_storage
        return Keys(partial(emit.row_key, storage=storage), partial(emit.supported, storage=storage), MCU_LANES)
    return Keys(partial(kernels.row_key, isa=isa), kernels.supported, LANES)
