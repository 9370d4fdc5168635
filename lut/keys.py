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

MCU_LANES, MCU_WORD = 4, 32
"""A word holds four 8-bit weights; the input's codes are taken from words where a pixel's fill whole ones."""


@dataclass(frozen=True)
class Keys:
    """key: what the generated code depends on; supported: None, or why there is no kernel; lanes: output
    channels per step of the cost, word: bits per step of packed input codes, 0 where each code takes a byte."""

    key: Callable[[OpSpec], OpSpec]
    supported: Callable[[OpSpec], str | None]
    lanes: int
    word: int = 0


def keys_of(device: Device, isa: str) -> Keys:
    """isa: as this_machine has it."""
    if device.core is not None:
        storage = device.act_storage
        key, supported = partial(emit.row_key, storage=storage), partial(emit.supported, storage=storage)
        return Keys(key, supported, MCU_LANES, MCU_WORD if storage == "packed" else 0)
    return Keys(partial(kernels.row_key, isa=isa), kernels.supported, LANES)
