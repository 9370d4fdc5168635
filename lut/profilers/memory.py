"""Memory for kernels as a deployed network lays it out: arrays one behind the other, in huge pages once they are many.

Weights of a few megabytes in 4 KiB pages outgrow the translation caches, and under a hypervisor each miss is dear: one
kernel's time then fell into two modes, as its pages lay. From HUGE_FROM bytes on, rows and deployed networks
(deploy/network_template.c) both ask for huge pages.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from lut.kernels.signature import SLACK

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
HUGE_FROM = 256 << 10


def slab(sizes: Sequence[int]) -> list[np.ndarray]:
    """Zeroed uint8 arrays of these sizes at multiples of 64 bytes, each readable SLACK bytes past its end."""
    offsets, total = [], 0
    for size in sizes:
        offsets.append(total)
        total += -(-(size + SLACK) // ALIGNMENT) * ALIGNMENT
    if total < HUGE_FROM:
        raw = np.zeros(total + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
    else:
        room = mmap.mmap(-1, total + HUGE_PAGE)
        with suppress(OSError, AttributeError):  # a system without them
            room.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(room, np.uint8)
        start = -raw.ctypes.data % HUGE_PAGE
    return [raw[start + offset : start + offset + size] for offset, size in zip(offsets, sizes)]
