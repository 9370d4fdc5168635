"""The affine function behind a table of codes: q(i) = clamp(round(a i + b), 0, top) for the bytes i = 0..255.

a and b, if there are any, are in a small convex set; the point with the largest margin t to all its sides is the
solution of a linear program:  max t  with  a i + b >= q(i) - 1/2 + t where q(i) > 0,  a i + b <= q(i) + 1/2 - t where
q(i) < top. With a margin, rounding in float32 changes no code; it is tried on all bytes all the same.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

BYTES = np.arange(256)
MARGIN = 1e-3


def affine(table: np.ndarray, scale: float, zero: int, bits: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(mean, factor), float32 (channels,): values (i - mean) factor, divided by scale and rounded, give the table
    (channels, 256). bits: of the codes, 32 for a table of values. None where a channel has no such function."""
    found = [_values(row) if bits == 32 else _codes(row.astype(int), 2**bits - 1) for row in table]
    if any(pair is None or pair[0] == 0 for pair in found):
        return None
    slope, offset = np.array(found, np.float64).T
    unit = 1.0 if bits == 32 else scale
    mean = ((0 if bits == 32 else zero) - offset) / slope
    pair = mean.astype(np.float32), (slope * unit).astype(np.float32)
    return pair if _same(table, *pair, scale, zero, bits) else None


def _codes(row: np.ndarray, top: int) -> tuple[float, float] | None:
    """(a, b) of one channel's codes."""
    above, below = row > 0, row < top
    at = BYTES / 255.0
    ones = np.ones(256)
    sides = np.concatenate([np.stack([-at, -ones, ones], 1)[above], np.stack([at, ones, ones], 1)[below]])
    bounds = np.concatenate([0.5 - row[above], row[below] + 0.5])
    free = (None, None)
    answer = linprog([0, 0, -1], sides, bounds, bounds=[free, free, (None, 0.5)])
    if answer.status != 0 or answer.x[2] < MARGIN:
        return None
    return float(answer.x[0]) / 255.0, float(answer.x[1])


def _values(row: np.ndarray) -> tuple[float, float]:
    """(a, b) of one channel's values, from its ends."""
    first, last = float(row[0]), float(row[-1])
    return (last - first) / 255.0, first


def _same(table: np.ndarray, mean: np.ndarray, factor: np.ndarray, scale: float, zero: int, bits: int) -> bool:
    """Whether float32 arithmetic gives the table."""
    values = (BYTES.astype(np.float32) - mean[:, None]) * factor[:, None]
    if bits == 32:
        return bool(np.allclose(values, table, rtol=1e-5, atol=1e-6 * float(np.abs(table).max())))
    return np.array_equal(np.clip(np.rint(values / np.float32(scale)) + zero, 0, 2**bits - 1), table)
