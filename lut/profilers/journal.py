"""The journal beside a table: raw samples and failures, one JSON object per line, on disk before the next row runs.

The first line is the provenance. A kill or a full disk leaves at most one cut line at the end, which is dropped when
the journal is opened again; profiling then skips what is there. A journal of another machine, compiler or kernel
source is set aside under a new name, never deleted.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ..columns import named_cells, parse_cells, spec_from
from ..errors import LutError
from ..machine import differences
from ..spec import OpSpec
from .base import Built, Failure

log = logging.getLogger(__name__)


def journal_path(table: str | Path) -> Path:
    """tables/x.csv -> tables/x.journal.jsonl"""
    return Path(table).with_suffix(".journal.jsonl")


class Journal:
    """samples: per row, one list of microseconds per process. built: per row, its sizes and schedule; effort: how many
    schedules it was chosen from, and trials of tuning. failures.

    written: whether a table was ever made from it; if not, it is that of a build that was interrupted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.provenance: dict[str, str] = {}
        self.samples: dict[OpSpec, list[list[float]]] = defaultdict(list)
        self.built: dict[OpSpec, Built] = {}
        self.effort: dict[OpSpec, tuple[int, int]] = {}
        self.failures: dict[OpSpec, Failure] = {}
        self.written = False
        self._file: IO[bytes] | None = None

    @staticmethod
    def read(path: str | Path) -> Journal:
        """What a journal holds, a cut last line left out. Raises LutError `path:line: ...` for any other damage."""
        return Journal(Path(path))._load()[0]

    @staticmethod
    def open(path: str | Path, provenance: Mapping[str, str], fresh: bool = False) -> Journal:
        """Open for appending: resume a journal of the same machine, else set the old one aside.

        `fresh` resumes only a build that never came to its end, so that a rebuild, too, can be interrupted.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            journal, end = Journal(path)._load()
            if journal._usable(fresh) and not differences(journal.provenance, provenance):
                os.truncate(path, end)
                journal._file = path.open("ab")
                return journal
            if end:
                aside = next(p for i in range(1, 10**6) if not (p := path.with_suffix(f".{i}.jsonl")).exists())
                path.rename(aside)
                log.warning("%s: of another machine or started over; kept as %s", path, aside)
            else:
                path.unlink()
        journal = Journal(path)
        journal.provenance = dict(provenance)
        journal._file = path.open("ab")
        journal._append({"provenance": journal.provenance})
        return journal

    def add_build(self, spec: OpSpec, built: Built, schedules: int = 1, tune: int = 0) -> None:
        self.built[spec], self.effort[spec] = replace(built, kernel=b""), (schedules, tune)
        made = [built.workspace_bytes, built.code_bytes, built.variant, schedules, tune]
        self._append({"spec": named_cells(spec), "built": made})

    def again(self, spec: OpSpec) -> None:
        """Forget a row: it is built and measured anew."""
        self._forget(spec)
        self._append({"spec": named_cells(spec), "again": True})

    def _forget(self, spec: OpSpec) -> None:
        self.samples.pop(spec, None)
        self.built.pop(spec, None)
        self.effort.pop(spec, None)

    def add_samples(self, spec: OpSpec, us: Sequence[float]) -> None:
        """One process's samples in microseconds, kept to a tenth of a nanosecond."""
        samples = [round(float(value), 4) for value in us]
        self.samples[spec].append(samples)
        self._append({"spec": named_cells(spec), "us": samples})

    def add_failure(self, spec: OpSpec, failure: Failure) -> None:
        self.failures[spec] = failure
        self._append({"spec": named_cells(spec), "failure": [failure.reason, failure.detail]})

    def add_written(self, table: Path) -> None:
        self.written = True
        self._append({"written": table.name})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _usable(self, fresh: bool) -> bool:
        return bool(self.provenance) and not (fresh and self.written)

    def _append(self, record: dict[str, Any]) -> None:
        if self._file is None:
            raise LutError(f"{self.path}: the journal is not open for appending")
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _load(self) -> tuple[Journal, int]:
        """Itself, filled, and the offset at which the good lines end."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raise LutError(f"{self.path}: no such journal") from None
        lines = raw.split(b"\n")
        end = len(raw) - len(lines.pop())  # what follows the last line break is empty or was cut off
        for number, line in enumerate(lines, 1):
            where = f"{self.path}:{number}"
            try:
                self._take(json.loads(line), number, where)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                if isinstance(error, LutError):
                    raise
                raise LutError(
                    f"{where}: no record of a journal: {error!s:.80}; remove this line, or move the file away"
                ) from None
        return self, end

    def _take(self, record: dict[str, Any], number: int, where: str) -> None:
        if number == 1:
            self.provenance = {str(name): str(value) for name, value in record["provenance"].items()}
            return
        if "written" in record:
            self.written = True
            return
        spec = spec_from(parse_cells(record["spec"], where))
        if "us" in record:
            given = record["us"]
            if not isinstance(given, list) or not given or not all(0 < float(value) < math.inf for value in given):
                raise ValueError("samples are no list of positive numbers")
            samples = [float(value) for value in given]
            self.samples[spec].append(samples)
        elif "built" in record:
            workspace, code, variant, *effort = record["built"]
            self.built[spec] = Built(b"", int(workspace), int(code), str(variant))
            schedules, trials = effort or (1, 0)
            self.effort[spec] = int(schedules), int(trials)
        elif "again" in record:
            self._forget(spec)
        else:
            reason, detail = record["failure"]
            self.failures[spec] = Failure(str(reason), str(detail))
