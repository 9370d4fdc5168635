"""Flash that the core waits for: what a read costs, and what the simulator is told of it.

    cycles = model's, of memories without wait states + wait_states (reads for instructions + reads for data)

The plugin (plugin/cache.h) sees every instruction and every load of an inference in order, and counts exactly which of
them miss two caches of the device's sizes, empty at the start. The rest is an estimate, and rows that have it stay
`cycle-model`: the core is taken to stand still for every read (a prefetch, off here as after a reset of an STM32L4,
would hide a part of it), replacement to be least recently used, and a miss to read `read` bytes of a line. A row's
constants lie in memory that counts as flash, as a network's do. Which entries of a table are read depends on the data,
so inferences differ by a few reads; a network's figure is their mean.
"""

from __future__ import annotations

from lut.device import Device

from .image import board_of
from .trace import Region


def constants_pool(device: Device) -> int:
    """Bytes of a board's pool, at its end, that hold the constants of rows: the half."""
    return board_of(device).pool[1] // 2


def plugin_options(device: Device) -> str:
    """Arguments of the plugin; empty without wait states."""
    if not device.wait_states or device.flash_cache is None:
        return ""
    board, cache, held = board_of(device), device.flash_cache, constants_pool(device)
    behind = sum(board.pool)
    ranges = [(board.flash, board.flash + board.flash_bytes), (behind - held, behind)]
    words = [f"flash={start:#x}-{end:#x}" for start, end in ranges]
    words += [f"line={cache.line}", f"read={cache.read}", f"instructions={cache.instruction_lines}"]
    return "".join(f",{word}" for word in [*words, f"data={cache.data_lines}"])


def waits(device: Device, region: Region) -> int:
    """Cycles that the core stands still for flash."""
    return device.wait_states * (region.fetched + region.loaded)
