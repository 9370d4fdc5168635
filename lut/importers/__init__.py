"""Tables that others measured: one importer per source, chosen by name or by what the file looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..table import LatencyTable
from .apq import read_apq
from .csv_map import read_csv_map
from .fbnet import read_fbnet
from .fbnet_hwnasbench import read_fbnet_hwnasbench
from .fbnet_lines import read_fbnet_lines
from .haq import read_haq
from .hawq import read_hawq
from .ofa import read_ofa
from .proxylessnas import read_proxylessnas
from .sniff import sniff

__all__ = ["FORMATS", "IMPORTERS", "Format", "Importer", "sniff"]
Importer = Callable[..., LatencyTable]
"""(path, *, device, and options of its own by keyword) -> LatencyTable with `profiler: imported` in its header."""


@dataclass(frozen=True)
class Format:
    """An importer, the unit that its files are known to hold (None: it must be given), and its other options."""

    read: Importer
    unit: str | None
    options: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "apq": Format(read_apq, "ms"),
    "csv": Format(read_csv_map, None, ("columns", "constants")),
    "fbnet": Format(read_fbnet, "us"),
    "fbnet_hwnasbench": Format(read_fbnet_hwnasbench, "ms", ("source_device",)),
    "fbnet_lines": Format(read_fbnet_lines, None),
    "haq": Format(read_haq, "cycles", ("clock_hz",)),
    "hawq": Format(read_hawq, "ms", ("network",)),
    "ofa": Format(read_ofa, "ms"),
    "proxylessnas": Format(read_proxylessnas, "ms"),
}

IMPORTERS: dict[str, Importer] = {name: format.read for name, format in FORMATS.items()}
