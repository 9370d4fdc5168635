"""The database of schedules beside a table: what MetaSchedule found for its rows, one JSON object per line.

A template's schedule is told by a row's variant alone, such as 6x1. A tuned kernel needs its trace, the list of
schedule instructions that made it (lut/kernels/traces.py). It is kept here under the row's key, the device and the
hash of the kernels' sources; the row's variant is the trace's digest. Lines are only ever appended, each on disk before
the next row is tuned; a cut last line is dropped. A row that keeps its template has a line that says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .columns import describe, named_cells, parse_cells, spec_from
from .errors import LutError
from .kernels import kernel_source_hash
from .kernels.traces import is_tuned, variant_of
from .spec import OpSpec
from .table import LatencyTable

TEXTS = ("device", "kernels", "variant", "reason")


def schedules_path(table: str | Path) -> Path:
    """tables/x.csv -> tables/x.schedules.jsonl"""
    return Path(table).with_suffix(".schedules.jsonl")


@dataclass(frozen=True)
class Entry:
    """What tuning made of a row. trace: JSON, "" where the template of `variant` stays, with the reason.

    trials: schedules that were drawn; failed: of those, how many did not build or run; ratio: the best tuned kernel's
    time over the template's, 0 where none was timed.
    """

    variant: str
    trace: str = ""
    trials: int = 0
    failed: int = 0
    ratio: float = 0.0
    reason: str = ""


class ScheduleDatabase:
    """The file at `path`, which need not exist. device: its name; kernels: hash of their sources, default today's."""

    def __init__(self, path: str | Path, device: str, kernels: str = "") -> None:
        self.path, self.device, self.kernels = Path(path), device, kernels or kernel_source_hash()

    def add(self, spec: OpSpec, entry: Entry) -> None:
        """Append what was found for a row key."""
        record = {
            "spec": named_cells(spec),
            "device": self.device,
            "kernels": self.kernels,
            "variant": entry.variant,
            "trials": entry.trials,
            "failed": entry.failed,
            "ratio": round(entry.ratio, 4),
            "reason": entry.reason,
            "trace": json.loads(entry.trace) if entry.trace else None,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> dict[OpSpec, Entry]:
        """The last entry of every row, of this device and these kernels. LutError `path:line: ...` for damage."""
        return {
            spec: entry
            for spec, device, kernels, entry in self._records()
            if (device, kernels) == (self.device, self.kernels)
        }

    def trace(self, spec: OpSpec, variant: str) -> str:
        """The trace of a row's variant. Raises LutError that says what is there instead."""
        if not self.path.exists():
            raise LutError(f"{self.path}: no such file, but {describe(spec)} has the schedule {variant} of it")
        found = [(device, kernels, entry) for other, device, kernels, entry in self._records() if other == spec]
        for device, kernels, entry in found:
            if (device, kernels, entry.variant) == (self.device, self.kernels, variant):
                return entry.trace
        others = {entry.variant for _, _, entry in found if is_tuned(entry.variant)} - {variant}
        for device, kernels, entry in found:
            if entry.variant == variant and device != self.device:
                raise LutError(f"{self.path}: {describe(spec)}: {variant} was tuned on {device}, not on {self.device}")
            if entry.variant == variant:
                raise LutError(
                    f"{self.path}: {describe(spec)}: {variant} is of kernels {kernels}; these: {self.kernels}"
                )
        has = f"it has {', '.join(sorted(others))}" if others else "it has none for this operator"
        raise LutError(f"{self.path}: {describe(spec)}: no schedule {variant}; {has}")

    def account(self, specs: Iterable[OpSpec]) -> str:
        """One line: what tuning made of these rows."""
        entries = self.entries()
        found = [entries[spec] for spec in specs if spec in entries]
        faster = sum(is_tuned(entry.variant) for entry in found)
        tried = sum(entry.trials > 0 for entry in found)
        others = f"{tried - faster} keep their template, {len(found) - tried} have nothing to tune"
        return f"{self.path}: {faster} rows faster by MetaSchedule, {others}"

    def _records(self) -> Iterator[tuple[OpSpec, str, str, Entry]]:
        """(row key, device, kernels, entry) of every line, in order."""
        raw = self.path.read_bytes() if self.path.exists() else b""
        for number, line in enumerate(raw.split(b"\n")[:-1], 1):
            where = f"{self.path}:{number}"
            try:
                yield _parsed(json.loads(line), where)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                if isinstance(error, LutError):
                    raise
                raise LutError(
                    f"{where}: no entry of a database of schedules: {error!s:.80}; remove this line"
                ) from None


def _parsed(record: dict[str, Any], where: str) -> tuple[OpSpec, str, str, Entry]:
    spec = spec_from(parse_cells(record["spec"], where))
    device, kernels, variant, reason = (str(record[name]) for name in TEXTS)
    trace = "" if record["trace"] is None else json.dumps(record["trace"], separators=(",", ":"))
    if is_tuned(variant) and variant_of(trace) != variant:
        raise LutError(f"{where}: the trace is not that of {variant}; remove this line")
    numbers = int(record["trials"]), int(record["failed"]), float(record["ratio"])
    return spec, device, kernels, Entry(variant, trace, *numbers, reason)


def trace_of(table: LatencyTable | None, spec: OpSpec, variant: str) -> str:
    """The trace of a table's row, "" for a template's schedule.

    Raises LutError with the command that rebuilds the table, when the database beside it lacks the trace.
    """
    if table is None or not is_tuned(variant):
        return ""
    device = table.provenance.get("device", "host-cpu")
    try:
        return ScheduleDatabase(schedules_path(table.path), device).trace(spec, variant)
    except LutError as error:
        raise LutError(f"{error}\nrebuild the rows with: {rebuild_command(table)}") from None


def rebuild_command(table: LatencyTable) -> str:
    """What tunes a table's rows anew."""
    name = table.provenance.get("device", "host-cpu")
    specs = f"--specs {table.path} --every-row --out {table.path} --force"
    return f"python scripts/build_lut.py --device {name} {specs} --tune 32"
