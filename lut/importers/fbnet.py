"""An FBNet latency table as text (the PyTorch re-implementation of FBNet by A. Araslanova), in microseconds.

    ir_k3_e1 ir_k3_s2 ir_k3_e3 .. skip     names of the operators
    5129.79 3028.79 3866.49 .. 1.61        22 lines of their latencies, one per layer of FBNet's space

ir_k3_e6 is a block with a 3x3 depthwise convolution and expansion 6; in ir_k3_s2 the 1x1 convolutions have 2 groups
and the expansion is 1. Rows hold at their layer: `site` is 0 to 21. A skip is measured too: nothing to speak of where
it is the identity, a strided 1x1 convolution elsewhere.

Header: `free: input add avg_pool conv2d linear`: the source counts the 22 layers alone, stem and head are the same in
every network. `ignores: pad`.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import LutError
from ..table import LatencyTable
from .blocks import SKIP, fbnet_op, fbnet_slots
from .common import Rows, header, latency, microseconds, read_text, show
from .sniff import expect

FREE = "input add avg_pool conv2d linear"


def read_fbnet(path: str | Path, *, device: str) -> LatencyTable:
    """One row per layer and operator. Raises LutError `path:line: ...`."""
    expect(path, "fbnet")
    lines = [(n, line.split()) for n, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise LutError(f"{path}: no operators")
    number, names = lines[0]
    check_names(names, f"{path}:{number}")
    slots = fbnet_slots()
    if len(lines) != 1 + len(slots):
        raise LutError(f"{path}: {len(lines) - 1} lines of latencies; FBNet's space has {len(slots)} layers")
    rows = Rows(path)
    for slot, (number, cells) in zip(slots, lines[1:]):
        if len(cells) != len(names):
            raise LutError(f"{path}:{number}: {len(cells)} numbers for {len(names)} operators; the file is cut off")
        for name, cell in zip(names, cells):
            where = f"{path}:{number}: {name}"
            if not re.fullmatch(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", cell) or not re.search(r"[0-9]", cell[:20]):
                raise LutError(f"{where}: {show(cell)} is not a number")
            op = fbnet_op(name)
            spec = slot.other(SKIP) if op is None else slot.block(*op)
            rows.add(spec, latency(microseconds(_float(cell, where), "us", where)), where)
    return rows.table(header(path, device, "us", free=FREE, ignores="pad"))


def check_names(names: list[str], where: str) -> None:
    """Raises LutError for an operator that FBNet does not have and for one that is named twice."""
    for index, name in enumerate(names):
        if name != SKIP and fbnet_op(name) is None:
            raise LutError(f"{where}: {show(name)}: unknown operator; expected ir_k3_e6, ir_k5_s2 or the like, or skip")
        if name in names[:index]:
            raise LutError(f"{where}: {name}: named twice")


def _float(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise LutError(f"{where}: {show(cell)} is not a number") from None
