"""What every importer needs to take a stranger's file: bounded reading, strict JSON, checked numbers, one header.

Whatever is wrong with a file becomes a LutError `path: key or line: what is wrong`. Nothing is guessed, nothing is
dropped in silence: a key given twice is an error (Python's parsers would keep the last), and so are NaN and infinity.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from ..columns import PARSE, describe, nearest
from ..errors import LutError
from ..spec import Latency, OpSpec
from ..table import LatencyTable
from .csv_map import UNITS

MAX_BYTES = 64 * 2**20
LEAST_US, MOST_US = 1e-6, 1e12
"""An operator that takes less than a picosecond or more than eleven days is a mistake in the unit or in the file."""
DECILE = 1.2816
"""Standard deviations between a normal distribution's mean and its 10 % and 90 % quantiles."""
LARGEST = 10**7


def show(value: Any) -> str:
    """A value in a message: short, and printable whatever it holds."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list of lists of lists
        return f"a {type(value).__name__}"
    return text if len(text) <= 160 else text[:157] + "..."


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The file's content. Raises LutError for a folder, a missing, empty or unreadable file, one above `limit`."""
    path, limit = Path(path), limit or MAX_BYTES
    try:
        if path.exists() and not path.is_file():
            raise LutError(f"{path}: not a file; name the table's file itself")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise LutError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, LutError):
            raise
        raise LutError(f"{path}: cannot be read: {error}") from None
    if len(data) > limit:
        raise LutError(f"{path}: larger than {limit >> 20} MiB, which no table of this format is")
    if not data.strip():
        raise LutError(f"{path}: the file is empty")
    return data


def read_text(path: str | Path, limit: int | None = None) -> str:
    """As `read_bytes`, as text. Raises LutError for what is not UTF-8."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise LutError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object of a file. Raises LutError for broken JSON, a key given twice, NaN, Infinity, deep nesting."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise LutError(f"{path}: {show(key)}: given twice; keep one of the two")
            found[key] = value
        return found

    def constant(name: str) -> NoReturn:
        raise LutError(f"{path}: {name} is not a number that a table can hold")

    try:
        tree = json.loads(read_text(path), object_pairs_hook=once, parse_constant=constant)
    except LutError:
        raise
    except json.JSONDecodeError as error:
        raise LutError(f"{path}:{error.lineno}: not JSON (is the file cut off?): {error.msg}") from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, a thousand brackets
        raise LutError(f"{path}: not a table: {error}") from None
    return section(tree, str(path))


def section(value: Any, where: str) -> dict[str, Any]:
    """A JSON object. Raises LutError for anything else."""
    if not isinstance(value, dict):
        raise LutError(f"{where}: {show(value)} is not an object; expected {{name: value, ..}}")
    return value


def known(names: Any, expected: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
    """Raises LutError unless all of `expected` and nothing but them and `optional` are among the names."""
    for name in names:
        if name not in expected and name not in optional:
            raise LutError(f"{where}: {show(name)}: unknown key; {nearest(str(name), (*expected, *optional))}")
    for name in expected:
        if name not in names:
            raise LutError(f"{where}: {name}: missing")


def number(value: Any, where: str) -> float:
    """A finite number that is not negative. Raises LutError; text and true/false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LutError(f"{where}: {show(value)} is not a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or result < 0:
        raise LutError(f"{where}: {show(value)} is not a finite number of at least 0")
    return result


def name_of(value: Any, where: str) -> str:
    """Text that a cell or a header of our tables can hold. Raises LutError."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise LutError(f"{where}: {show(value)} is not a name")
    try:
        return str(PARSE["kind"](value))
    except ValueError as error:
        raise LutError(f"{where}: {show(str(error))}") from None


def whole(value: Any, where: str, most: int = LARGEST) -> int:
    """An integer from 1 to `most`. Raises LutError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise LutError(f"{where}: {show(value)} is not a whole number from 1 to {most}")
    return value


def microseconds(value: Any, unit: str, where: str) -> float:
    """A latency in `unit` as microseconds. Raises LutError for zero and for what no operator takes."""
    us = number(value, where) * UNITS[unit]
    if not LEAST_US <= us <= MOST_US:
        raise LutError(f"{where}: {show(value)} {unit} is no latency; expected {LEAST_US:g} to {MOST_US:g} us")
    return us


def latency(us: float, sigma_us: float = 0.0, count: int = 1) -> Latency:
    """mean, standard deviation and count -> a row whose quantiles are those of a normal distribution.

    Where that would make the 10 % quantile nothing or negative, it is a hundredth of the mean.
    """
    p10 = max(us - DECILE * sigma_us, us / 100)
    return Latency(us, p10, us + DECILE * sigma_us, n=count, source="imported")


def header(path: str | Path, device: str, unit: str, **more: str) -> dict[str, str]:
    """The provenance of an imported table; `more` are keys of the source's own (free, alias, ignores, ..)."""
    name = Path(path).resolve().name.encode("utf-8", "replace").decode()
    return {
        "device": device,
        "profiler": "imported",
        "origin": name,
        "unit": unit,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **more,
    }


class Rows:
    """Rows as they are read. Two that describe one operator are an error: a table could only keep one of them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: dict[OpSpec, Latency] = {}
        self._origin: dict[OpSpec, str] = {}

    def add(self, spec: OpSpec, row: Latency, where: str) -> None:
        """`where` names the row in messages, such as `path:12` or `path: key`."""
        if spec in self.rows:
            raise LutError(f"{where}: {describe(spec)}: the same operator as {self._origin[spec]}; keep one of the two")
        self.rows[spec] = row
        self._origin[spec] = where

    def table(self, provenance: dict[str, str]) -> LatencyTable:
        """Raises LutError when there are no rows."""
        if not self.rows:
            raise LutError(f"{self.path}: no rows")
        return LatencyTable(self.rows, provenance, self.path)
