"""Any CSV with one operator per row: a map from our columns to its columns, and constants for what it leaves out.

Nothing is assumed: a field of OpSpec that has neither a column nor a constant is an error, because a silent default
(stride 1, 8 bits) would price the wrong operator.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..columns import COLUMNS, SPEC_COLUMNS, describe, latency_from, nearest, parse_cells, spec_from
from ..errors import LutError
from ..spec import Latency, OpSpec
from ..table import LatencyTable
from .sniff import expect

UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
_TIMES = ("latency_us", "latency_us_p10", "latency_us_p90")
_MAY_BE_ABSENT = frozenset({"attrs", "site"})


def read_csv_map(
    path: str | Path, *, device: str, columns: Mapping[str, str], constants: Mapping[str, str], unit: str
) -> LatencyTable:
    """columns: our column -> theirs (equal names need no entry). constants: our column -> text. unit of their times.

    Cells are written as in our own tables (kernel 3x3, or 3 for square). Raises LutError `path:line: column: ...`.
    """
    path = Path(path)
    if unit not in UNITS:
        raise LutError(f"unit: {unit!r} is unknown; {nearest(unit, UNITS)}")
    for name in (*columns, *constants):
        if name not in COLUMNS:
            raise LutError(f"column map: {name}: no column of a table; {nearest(name, COLUMNS)}")
    if both := sorted(set(columns) & set(constants)):
        raise LutError(f"column map: {both[0]}: has both a column and a constant")
    expect(path, "csv")
    try:
        with path.open() as file:
            lines = file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LutError(f"{path}: not readable as text: {error}") from None
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.DictReader(lines[start:], strict=True)
    try:
        mapped = _map(list(reader.fieldnames or ()), columns, constants, f"{path}:{start + 1}")
        fixed = parse_cells(constants, "constants")
        rows: dict[OpSpec, Latency] = {}
        for cells in reader:
            where = f"{path}:{start + reader.line_num}"
            spec, latency = _row(cells, mapped, fixed, UNITS[unit], where)
            if spec in rows:
                raise LutError(
                    f"{where}: {describe(spec)}: duplicate of an earlier row; map the column that tells them apart"
                )
            rows[spec] = latency
    except csv.Error as error:
        raise LutError(f"{path}:{start + reader.line_num}: not CSV: {error}") from None
    provenance = {
        "device": device,
        "profiler": "imported",
        "origin": path.name,
        "unit": unit,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    return LatencyTable(rows, provenance, path)


def _map(theirs: list[str], columns: Mapping[str, str], constants: Mapping[str, str], where: str) -> dict[str, str]:
    """Our column -> theirs, complete, or LutError."""
    for ours, name in columns.items():
        if name not in theirs:
            raise LutError(f"{where}: {name}: no such column for {ours}; {nearest(name, theirs)}")
    mapped = {name: name for name in COLUMNS if name in theirs and name not in constants} | dict(columns)
    for ours, name in mapped.items():
        if theirs.count(name) > 1:
            raise LutError(f"{where}: {name}: the column for {ours} occurs twice")
    absent = [
        n for n in (*SPEC_COLUMNS, "latency_us") if n not in mapped and n not in constants and n not in _MAY_BE_ABSENT
    ]
    if absent:
        name = absent[0]
        raise LutError(
            f"{where}: {', '.join(absent)}: neither a column nor a constant; map one ({name}=<their column>)"
            f" or set it ({name}=<value>)"
        )
    return mapped


def _row(
    cells: Mapping[str | None, Any], mapped: Mapping[str, str], fixed: Mapping[str, Any], scale: float, where: str
) -> tuple[OpSpec, Latency]:
    if None in cells or None in cells.values():
        raise LutError(f"{where}: the number of cells differs from the header's")
    values = {**fixed, **parse_cells({ours: cells[name].strip() for ours, name in mapped.items()}, where)}
    for name in _TIMES:
        if name in values and name in mapped:
            values[name] *= scale
            if not math.isfinite(values[name]) or (values[name] == 0 and name == "latency_us"):
                raise LutError(f"{where}: {name}: {values[name]} us is out of all proportion")
    values.setdefault("source", "imported")
    return spec_from(values), latency_from(values, where)
