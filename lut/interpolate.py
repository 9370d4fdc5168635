"""Fills the gaps of a measured table along the channel axes: a physical trend times a smooth correction.

Rows that differ in c_in and c_out alone form a group. With B = ceil(c_out / lanes), I = ceil(c_in / 4),

    trend(c_in, c_out) = sum_j a_j f_j,  a_j >= 0,  f = 1, I, B, I B, c_in, c_out, c_in c_out, and tail terms,

fitted to relative errors by non-negative least squares: costs add up, padding to the vector width makes a staircase,
and the tail terms price a last, partly filled vector, or word of the input's codes (of `word` bits where they are
packed, else of four channels). What the trend misses, r = t / trend - 1, is a Gaussian process with a squared
exponential covariance over (log2 I, log2 B, tails), so that a prediction at a measured row is that row up to the noise
and the correction fades with distance (kriging; Rasmussen and Williams 2006, chapter 2). Only inside the measured range
of both axes: nothing is extrapolated.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .spec import Latency, OpSpec

Interpolator = Callable[[OpSpec], Latency | None]

NOISE = 0.01  # relative standard deviation of a measured row
AMPLITUDE = 0.05  # relative standard deviation of what the trend misses
LENGTH = np.array([2.0, 2.0, 1.0, 1.0])  # correlation length: octaves of I and B, tails (0 or 1)
LEAST_ROWS = 2
DEFAULT_LANES = 16


def group_of(spec: OpSpec) -> OpSpec:
    """The spec with its channel counts (and those groups that follow them) blanked: the group's key."""
    return replace(spec, c_in=0, c_out=0, groups=0 if spec.depthwise else spec.groups, site="")


def places(spec: OpSpec, lanes: int, word: int) -> tuple[int, int, float, float]:
    """(blocks, fours, tail_out, tail_in): padded channels in steps, and whether each ends in a partly filled one."""
    inside = spec.c_in * spec.in_bits[0] % word if word else spec.c_in % 4
    return -(-spec.c_out // lanes), -(-spec.c_in // 4), float(spec.c_out % lanes > 0), float(inside > 0)


def features(spec: OpSpec, lanes: int, word: int = 0) -> np.ndarray:
    """(12,): the trend's terms of one row, all non-negative."""
    blocks, fours, tail_out, tail_in = places(spec, lanes, word)
    return np.array(
        [
            1.0,
            fours,
            blocks,
            fours * blocks,
            spec.c_in,
            spec.c_out,
            spec.c_in * spec.c_out,
            tail_out,
            tail_out * fours,
            tail_in,
            tail_in * blocks,
            tail_in * fours,
        ]
    )


def _place(spec: OpSpec, lanes: int, word: int) -> np.ndarray:
    """(4,): where the row lies for the correction's covariance."""
    blocks, fours, tail_out, tail_in = places(spec, lanes, word)
    return np.array([np.log2(fours), np.log2(blocks), tail_out, tail_in])


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared exponential. a: (n, 4), b: (m, 4) -> (n, m)."""
    apart = ((a[:, None] - b[None]) / LENGTH) ** 2
    return AMPLITUDE**2 * np.exp(-0.5 * apart.sum(-1))


@dataclass(frozen=True)
class Fit:
    """One group's model: coefficients a (12,), places (n, 4), weights (n,) = (K + noise)^-1 r, and its range."""

    coefficients: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    low: tuple[int, int]
    high: tuple[int, int]
    lanes: int
    word: int

    def __call__(self, spec: OpSpec) -> float | None:
        """Microseconds, or None outside the measured range."""
        if not all(a <= c <= b for a, c, b in zip(self.low, (spec.c_in, spec.c_out), self.high)):
            return None
        correction = _covariance(_place(spec, self.lanes, self.word)[None], self.places)[0] @ self.weights
        return float(self.coefficients @ features(spec, self.lanes, self.word) * (1 + correction))


def fit(rows: Mapping[OpSpec, float], lanes: int, word: int = 0) -> Fit:
    """Model of one group from its rows (microseconds)."""
    from scipy.optimize import nnls

    times = np.array(list(rows.values()))
    terms = np.stack([features(spec, lanes, word) for spec in rows])
    scale = terms.max(0)  # nnls stops early on badly scaled columns
    scale[scale == 0] = 1
    coefficients = nnls(terms / scale / times[:, None], np.ones(len(times)))[0] / scale
    around = np.stack([_place(spec, lanes, word) for spec in rows])
    residual = times / (terms @ coefficients) - 1
    weights = np.linalg.solve(_covariance(around, around) + NOISE**2 * np.eye(len(times)), residual)
    ins, outs = [s.c_in for s in rows], [s.c_out for s in rows]
    return Fit(coefficients, around, weights, (min(ins), min(outs)), (max(ins), max(outs)), lanes, word)


def grouped(rows: Mapping[OpSpec, Latency]) -> dict[OpSpec, dict[OpSpec, float]]:
    """Measured rows in microseconds by group; rows of one site and interpolated ones are left out."""
    groups: dict[OpSpec, dict[OpSpec, float]] = defaultdict(dict)
    for spec, latency in rows.items():
        if not spec.site and latency.source != "interpolated":
            groups[group_of(spec)][spec] = latency.us
    return groups


def kriging(rows: Mapping[OpSpec, Latency], provenance: Mapping[str, str]) -> Interpolator:
    """The rule above. Quantiles of an interpolated row span the table's held-out error (90th percentile)."""
    lanes, word = int(provenance.get("lanes", DEFAULT_LANES)), int(provenance.get("word", 0))
    error = float(provenance.get("held_out_error_p90", 0.25))
    groups = grouped(rows)
    fits: dict[OpSpec, Fit | None] = {}

    def interpolate(spec: OpSpec) -> Latency | None:
        group = group_of(spec)
        if group not in fits:
            fits[group] = fit(groups[group], lanes, word) if len(groups.get(group, ())) >= LEAST_ROWS else None
        model = fits[group]
        us = model(spec) if model is not None else None
        if us is None:
            return None
        around = [row for row in groups[group] if row.c_out >= spec.c_out and row.c_in >= spec.c_in]
        near = rows[min(around, key=lambda row: (row.c_out, row.c_in))] if around else Latency(us, us, us)
        low, high = us * max(0.0, 1 - error), us * (1 + error)
        return Latency(us, low, high, 0, near.workspace_bytes, near.code_bytes, "interpolated", variant="kriging")

    return interpolate


def _nothing(rows: Mapping[OpSpec, Latency], provenance: Mapping[str, str]) -> Interpolator:
    return lambda spec: None


RULES: dict[str, Callable[[Mapping[OpSpec, Latency], Mapping[str, str]], Interpolator]] = {
    "none": _nothing,
    "kriging": kriging,
}


def held_out_errors(
    rows: Mapping[OpSpec, Latency], lanes: int, word: int = 0, share: float = 0.1, repeats: int = 5, seed: int = 0
) -> list[float]:
    """Relative errors |predicted / measured - 1| at rows that the fit did not see, a tenth of each group at a time.

    Rows whose removal would leave them outside the group's range are not left out: nobody asks for those.
    """
    chance, errors = random.Random(seed), []
    for group in grouped(rows).values():
        for _ in range(repeats):
            out = chance.sample(list(group), max(1, round(share * len(group))))
            kept = {spec: us for spec, us in group.items() if spec not in out}
            if len(kept) < LEAST_ROWS:
                continue
            model = fit(kept, lanes, word)
            predictions = ((model(spec), group[spec]) for spec in out)
            errors += [abs(us / measured - 1) for us, measured in predictions if us is not None]
    return errors


def error_provenance(errors: Iterable[float]) -> dict[str, str]:
    """The header's entries for held-out errors; none where no row could be left out."""
    errors = list(errors)
    if not errors:
        return {}
    median, p90 = np.quantile(errors, [0.5, 0.9])
    return {
        "held_out_error": f"{median:.4f}",
        "held_out_error_p90": f"{p90:.4f}",
        "held_out_rows": str(len(errors)),
    }
