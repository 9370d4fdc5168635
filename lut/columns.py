"""Text of a table's cells: how every field of `OpSpec` and `Latency` is written to CSV and read back, losslessly.

Pairs and pads are joined by 'x' (kernel 3x3, pad 1x1x1x1; one number stands for all of them), in_bits by '+' (8+8).
Floats are written by repr. '#' and line breaks are refused in text, so that `pandas.read_csv(path, comment="#")`
reads every table.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, get_args

from .errors import LutError
from .spec import Latency, OpSpec, Source

SPEC_COLUMNS = tuple(f.name for f in fields(OpSpec))
TEXT_FIELDS = ("kind", "attrs", "site", "variant")
SOURCES: tuple[str, ...] = get_args(Source)

VALUE_COLUMNS = {  # column -> field of Latency
    "latency_us": "us",
    "latency_us_p10": "p10",
    "latency_us_p90": "p90",
    "cycles": "cycles",
    "energy_uj": "energy_uj",
    "workspace_bytes": "workspace_bytes",
    "code_bytes": "code_bytes",
    "n": "n",
    "source": "source",
    "variant": "variant",
}
COLUMNS = SPEC_COLUMNS + tuple(VALUE_COLUMNS)
LARGEST = 2**31 - 1
"""Of any whole number in a table."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """', did you mean x?' for the closest valid name, else the list of them."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"expected one of: {', '.join(valid)}"


def _text(cell: str) -> str:
    if any(mark in cell for mark in "#\n\r"):
        raise ValueError(f"{cell!r} holds '#' or a line break, which a table cannot")
    if cell != cell.strip():
        raise ValueError(f"{cell!r} begins or ends with a blank")
    return cell


def _kind(cell: str) -> str:
    if not cell:
        raise ValueError("is empty; expected a kind of operator such as conv2d")
    return _text(cell)


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    bound = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(cell: str) -> int:
        try:
            value = int(cell)
        except ValueError:
            raise ValueError(f"{cell!r} is not {bound}") from None
        if value < least or (most is not None and value > most):
            raise ValueError(f"{cell} is not {bound}")
        if value > LARGEST:
            raise ValueError(f"{cell:.20} is above {LARGEST}")
        return value

    return parse


def _several(mark: str, length: int | None, one: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    def parse(cell: str) -> tuple[int, ...]:
        values = tuple(one(part) for part in cell.split(mark))
        if length is not None and len(values) == 1:
            return values * length
        if length is not None and len(values) != length:
            raise ValueError(f"{cell!r} is not {length} numbers joined by '{mark}'")
        return values

    return parse


def _number(least: float, strict: bool) -> Callable[[str], float]:
    def parse(cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            raise ValueError(f"{cell!r} is not a number") from None
        if not math.isfinite(value):
            raise ValueError(f"{cell} is not a finite number")
        if value < least or (strict and value == least):
            raise ValueError(f"{cell} is not positive" if strict else f"{cell} is negative")
        return value

    return parse


def _source(cell: str) -> str:
    if cell not in SOURCES:
        raise ValueError(f"{cell!r} is no source; {nearest(cell, SOURCES)}")
    return cell


_pair, _size, _bits = _several("x", 2, _whole(1)), _whole(1), _whole(1, 32)
PARSE: dict[str, Callable[[str], Any]] = {
    "kind": _kind,
    **dict.fromkeys(("batch", "c_in", "c_out", "height", "width", "groups"), _size),
    **dict.fromkeys(("kernel", "stride", "dilation"), _pair),
    "pad": _several("x", 4, _whole(0)),
    "w_bits": _bits,
    "in_bits": _several("+", None, _bits),
    "out_bits": _bits,
    **dict.fromkeys(("attrs", "site", "variant"), _text),
    "latency_us": _number(0, strict=True),
    **dict.fromkeys(("latency_us_p10", "latency_us_p90", "cycles", "energy_uj"), _number(0, strict=False)),
    **dict.fromkeys(("workspace_bytes", "code_bytes", "n"), _whole(0)),
    "source": _source,
}
OPTIONAL_CELLS = frozenset({"attrs", "site", *VALUE_COLUMNS}) - {"latency_us"}


@lru_cache(maxsize=65536)
def _parse(column: str, cell: str) -> Any:
    return PARSE[column](cell)


def parse_cells(cells: Mapping[str, str], where: str) -> dict[str, Any]:
    """Values by column. Raises LutError `where: column: ...`; an empty optional cell is left out."""
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        if not cell and column in OPTIONAL_CELLS:
            continue
        if not cell:
            raise LutError(f"{where}: {column}: is empty; every row needs it")
        try:
            values[column] = _parse(column, cell)
        except ValueError as error:
            raise LutError(f"{where}: {column}: {error}") from None
    return values


def spec_from(values: Mapping[str, Any]) -> OpSpec:
    return OpSpec(**{column: values[column] for column in SPEC_COLUMNS if column in values})


def latency_from(values: Mapping[str, Any], where: str) -> Latency:
    """The value of a row; a table that says nothing of quantiles and source has none and was imported."""
    us = values["latency_us"]
    given = {field: values[column] for column, field in VALUE_COLUMNS.items() if column in values}
    latency = Latency(**{"p10": us, "p90": us, "source": "imported", **given})
    if not latency.p10 <= us:
        raise LutError(f"{where}: latency_us_p10: {latency.p10} is above the median, latency_us {us}")
    if not us <= latency.p90:
        raise LutError(f"{where}: latency_us_p90: {latency.p90} is below the median, latency_us {us}")
    return latency


def format_cell(column: str, value: Any) -> str:
    """The cell that `PARSE[column]` reads back as `value`. Raises LutError for text that no table can hold."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ("+" if column == "in_bits" else "x").join(map(str, value))
    if isinstance(value, float):
        return repr(float(value))
    if column in TEXT_FIELDS:
        try:
            return PARSE[column](value)
        except ValueError as error:
            raise LutError(f"{column}: {error}") from None
    return str(value)


def spec_cells(spec: OpSpec) -> list[str]:
    return [format_cell(column, getattr(spec, column)) for column in SPEC_COLUMNS]


def named_cells(spec: OpSpec) -> dict[str, str]:
    """Those of a spec by column, empty ones left out: what `parse_cells` and `spec_from` read back."""
    cells = dict(zip(SPEC_COLUMNS, spec_cells(spec)))
    return {column: cell for column, cell in cells.items() if cell or column not in OPTIONAL_CELLS}


def latency_cells(latency: Latency) -> list[str]:
    return [format_cell(column, getattr(latency, field)) for column, field in VALUE_COLUMNS.items()]


def describe(spec: OpSpec) -> str:
    """One short line for messages: conv2d 16->32 8x8 k3x3 s1x1 g1 w4 a8>8."""
    bits = "+".join(map(str, spec.in_bits))
    line = f"{spec.kind} {spec.c_in}->{spec.c_out} {spec.height}x{spec.width}"
    line += f" k{format_cell('kernel', spec.kernel)} s{format_cell('stride', spec.stride)} g{spec.groups}"
    return f"{line} w{spec.w_bits} a{bits}>{spec.out_bits}" + (f" @{spec.site}" if spec.site else "")
