"""Which published format a file is in, told from its beginning.

ProxylessNAS's and Once-for-All's YAML look alike: the former has `var` and ratios, the latter `std` and the flags se
and hs. What resembles nothing known is not guessed.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import LutError

KNOWN = ("apq", "csv", "fbnet", "fbnet_hwnasbench", "fbnet_lines", "haq", "hawq", "ofa", "proxylessnas")
OFA_FILES = "*_lookup_table.yaml"
_BEGINNING = 65536
_MARKS = {  # all patterns of a format must be found; the first such format is the file's
    "fbnet_lines": (r"\A\s*\{\s*'",),
    "fbnet_hwnasbench": (r"\A\s*\{", r'"per_layer_op_minus_skip_ms"'),
    "hawq": (r"\A\s*\{", r'"(Hutchinson_trace|latency_int\d)"'),
    "apq": (r"\A\s*\{", r'"\([0-9, ]+\)-W\d+A\d+"'),
    "ofa": (r"(?m)^(expanded_conv|Conv|Conv_\d|Logits|AvgPool2D)-input:", r"(?m)(-se:\d|^\s+std:)"),
    "proxylessnas": (r"(?m)^(expanded_conv|Conv|Conv_1|Logits)-input:", r"(?m)(-idskip:\d:|^\s+var:)"),
    "fbnet": (r"(?m)\A[ \t]*((ir_\w+|skip)[ \t]+)*(ir_\w+|skip)[ \t]*\r?$",),
}


def sniff(path: str | Path) -> str:
    """The format's name. Raises LutError that lists the formats for a file that looks like none of them."""
    found = _look(Path(path))
    if found is None:
        raise LutError(f"{path}: looks like no known format; choose one with --format: {', '.join(KNOWN)}")
    return found


def expect(path: str | Path, name: str) -> None:
    """Raises LutError where a file is plainly in another format than `name`."""
    found = _look(Path(path))
    if found is not None and found not in (name, "csv"):
        raise LutError(f"{path}: this looks like {found}, not {name}; use --format {found}")


def _look(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "ofa" if any(path.glob(OFA_FILES)) else None
        if not path.is_file():
            raise LutError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            data = file.read(_BEGINNING)
    except (OSError, ValueError) as error:
        if isinstance(error, LutError):
            raise
        raise LutError(f"{path}: cannot be read: {error}") from None
    if data.startswith(b"\x93NUMPY"):
        return "haq"
    text = data.decode("utf-8", "ignore")
    for name, marks in _MARKS.items():
        if all(re.search(mark, text) for mark in marks):
            return name
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    looks_like_csv = lines and "," in lines[0] and lines[0].lstrip()[0] not in "{[" and "\0" not in text
    return "csv" if looks_like_csv else None
