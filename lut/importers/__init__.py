"""Tables that others measured: one importer per source, chosen by name."""

from __future__ import annotations

from collections.abc import Callable

from ..table import LatencyTable
from .csv_map import read_csv_map

Importer = Callable[..., LatencyTable]
"""(path, *, device, and options of its own by keyword) -> LatencyTable with `profiler: imported` in its header."""

IMPORTERS: dict[str, Importer] = {
    "csv": read_csv_map,
}
