"""The numbers in a table's header, checked where a table is read: those that look-ups and predictions are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from .errors import LutError


def _whole(least: int) -> tuple[Callable[[str], bool], str]:
    return lambda text: text.isdecimal() and least <= int(text) < 2**31, f"a whole number of at least {least}"


def _finite(least: float, above: bool = False) -> tuple[Callable[[str], bool], str]:
    """Whether a number is finite and at least `least`, or above it."""

    def holds(text: str) -> bool:
        value = float(text)
        return (value > least if above else value >= least) and value < math.inf

    return holds, f"a number {'above' if above else 'of at least'} {least:g}"


NUMBERS = {
    "lanes": _whole(1),
    "word": _whole(0),
    "held_out_error": _finite(0),
    "held_out_error_p90": _finite(0),
    "disturbed": _finite(0),
    "calibration_scale": _finite(0, above=True),
    "calibration_op_us": _finite(0),
    "calibration_kib_us": _finite(0),
    "calibration_call_us": _finite(0),
}
"""By key: a test of its text, and what passes."""


def check_header(provenance: Mapping[str, str], path: Path | str) -> None:
    """Raises LutError `path: key: ...` for a number that is none, or out of its range."""
    for key, (holds, what) in NUMBERS.items():
        if (text := provenance.get(key)) is None:
            continue
        try:
            sound = holds(text)
        except ValueError:
            sound = False
        if not sound:
            raise LutError(f"{path}: {key}: {text!r} is not {what}")
