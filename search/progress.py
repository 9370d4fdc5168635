"""What a running phase shows: a bar on a terminal, else a line every 10 seconds, both on stderr; and the journal
metrics.jsonl, one row per epoch, that the report is drawn from.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from lut.files import atomic_write

LINE_SECONDS = 10.0


class Progress:
    """Counts `total` steps of a phase (None: unknown). A context manager."""

    def __init__(
        self,
        title: str,
        total: int | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.done = title, total, 0
        self.stream, self.clock = stream or sys.stderr, clock
        self.start = self.printed = clock()
        terminal = self.stream.isatty()
        self.bar = (
            tqdm(total=total, desc=title, file=self.stream, leave=False, dynamic_ncols=True) if terminal else None
        )

    def step(self, **values: float) -> None:
        """One step is done; `values` are shown beside the count."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in values.items()}, refresh=False)
            self.bar.update()
        elif self.clock() - self.printed >= LINE_SECONDS:
            self.printed = self.clock()
            self.stream.write(self.line(values) + "\n")
            self.stream.flush()

    def line(self, values: dict[str, float]) -> str:
        seconds = self.clock() - self.start
        shown = "".join(f" {k}={v:.4g}" for k, v in values.items())
        if not self.total:
            return f"{self.title}: {self.done} steps, {seconds:.0f} s{shown}"
        left = seconds / self.done * max(self.total - self.done, 0)
        return f"{self.title}: {self.done}/{self.total} ({self.done / self.total:.0%}), {left:.0f} s left{shown}"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stopwatch:
    """CPU seconds (all threads of this process) and wall-clock seconds since the last lap."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def lap(self) -> dict[str, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        seconds = {"cpu_seconds": cpu - self.cpu, "wall_seconds": wall - self.wall}
        self.cpu, self.wall = cpu, wall
        return seconds


class Metrics:
    """The journal metrics.jsonl: rows are appended; `rewind` drops those that a resumed phase will write again.

    With path None, rows are kept in memory alone.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.rows: list[dict[str, Any]] = []

    def append(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def rewind(self, phases: Collection[str], epoch: int) -> None:
        """Drop rows of `phases` from `epoch` on, which a kill left behind the checkpoint, and a line cut short."""
        rows = self.rows if self.path is None else read_metrics(self.path)
        self.rows = [row for row in rows if row.get("phase") not in phases or row.get("epoch", 0) < epoch]
        if self.path is not None and self.path.exists():
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            if text.encode() != self.path.read_bytes():
                atomic_write(self.path, text)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a journal; a line that a kill cut short, or that is no row, is left out; no file, no rows."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def phase_of(row: Mapping[str, Any]) -> str:
    """Of a row of the journal, the phase that a person reads: all trials are one."""
    phase = str(row.get("phase", "?"))
    return "trial" if phase.startswith("trial ") else phase
