"""Progress on stderr: a bar with the time left on a terminal, else a line every 10 seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

LINE_SECONDS = 10.0


class Progress:
    """Counts to `total`; `update()` after each step. A context manager; silent when not `shown`.

    quiet: seconds before a bar appears.
    """

    def __init__(self, total: int, label: str, unit: str = "row", shown: bool = True, quiet: float = 0.0) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done, self._shown = 0, shown
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr, dynamic_ncols=True, delay=quiet)

    def update(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(steps)
        elif self._shown and now - self._last >= LINE_SECONDS:
            self._last = now
            left = (now - self._start) / self.done * (self.total - self.done)
            print(
                f"{self.label}: {self.done}/{self.total} {self.unit}s, {left:.0f} s left", file=sys.stderr, flush=True
            )

    def grow(self, steps: int) -> None:
        """There is more to do than was known at the start."""
        self.expect(self.total - self.done + steps)

    def expect(self, steps: int) -> None:
        """So many are left, as far as is known by now."""
        self.total = self.done + steps
        if self._bar is not None:
            self._bar.total = self.total

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
