"""HW-NAS-Bench's FBNet tables (Li 2021, arXiv:2103.10584), reduced to a base and per-layer differences: JSON, ms.

    {"ops": ["k3_e1", "k3_e1_g2", .., "skip"],
     "devices": {"raspi4": {"base_ms": 7.8, "per_layer_op_minus_skip_ms": [22 x len(ops)]}, ..}}

base_ms is the network in which every layer is a skip, stem and head included; a row is what an operator adds to that in
its layer. k3_e1_g2 has 1x1 convolutions in 2 groups. So the base goes into the header as `calibration_call_us` (see
lut.calibrate), rows hold at their layer (`site` 0 to 21), and a skip has no row: it is free, and so are the kinds that
the base pays for (`free: skip input add avg_pool conv2d linear`). `ignores: pad`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import LutError
from ..table import LatencyTable
from .blocks import SKIP, Slot, fbnet_slots
from .common import Rows, header, known, latency, microseconds, name_of, number, read_json, section, show
from .sniff import expect

_OP = re.compile(r"k([3579])_e([1-9])(?:_g([2-9]))?")
_BASE, _COSTS = "base_ms", "per_layer_op_minus_skip_ms"


def read_fbnet_hwnasbench(path: str | Path, *, device: str, source_device: str | None = None) -> LatencyTable:
    """One row per layer and operator but the skip, of `source_device` where the file holds several. Raises LutError."""
    expect(path, "fbnet_hwnasbench")
    tree = read_json(path)
    known(tree, ("ops", "devices"), str(path))
    names, devices = _ops(tree["ops"], f"{path}: ops"), section(tree["devices"], f"{path}: devices")
    if source_device is None:
        if len(devices) != 1:
            raise LutError(f"{path}: devices: several; choose a source device of {show(list(devices))}")
        source_device = next(iter(devices))
    if source_device not in devices:
        raise LutError(f"{path}: devices: {show(source_device)} is not one of {show(list(devices))}")
    where = f"{path}: {show(source_device)}"
    part = section(devices[source_device], where)
    known(part, (_BASE, _COSTS), where)
    base = microseconds(part[_BASE], "ms", f"{where}: {_BASE}")
    rows, slots = Rows(path), fbnet_slots()
    for slot, costs in zip(slots, _list(part[_COSTS], len(slots), "layers", f"{where}: {_COSTS}")):
        layer = f"{where}: {_COSTS}: layer {slot.site}"
        for name, cost in zip(names, _list(costs, len(names), "operators", layer)):
            _add(rows, slot, name, cost, f"{layer}: {name}")
    more = {
        "source_device": name_of(source_device, where), "calibration_call_us": repr(base),
        "free": f"{SKIP} input add avg_pool conv2d linear", "ignores": "pad",
    }  # fmt: skip
    return rows.table(header(path, device, "ms", **more))


def _add(rows: Rows, slot: Slot, name: str, cost: Any, where: str) -> None:
    if name == SKIP:
        if number(cost, where) != 0:
            raise LutError(f"{where}: {show(cost)}; costs are differences from the skip, so its own is 0")
        return
    match = _OP.fullmatch(name)
    assert match is not None
    spec = slot.block(int(match[1]), int(match[2]), int(match[3] or 1))
    rows.add(spec, latency(microseconds(cost, "ms", where)), where)


def _ops(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise LutError(f"{where}: {show(value)} is not a list of operators")
    for index, name in enumerate(value):
        if not isinstance(name, str) or (name != SKIP and _OP.fullmatch(name) is None):
            raise LutError(f"{where}: {show(name)}: unknown operator; expected k3_e6, k5_e1_g2 or the like, or skip")
        if name in value[:index]:
            raise LutError(f"{where}: {name}: named twice")
    return value


def _list(value: Any, count: int, what: str, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        size = f"{len(value)} values" if isinstance(value, list) else show(value)
        raise LutError(f"{where}: {size}; expected a list of {count} {what}")
    return value
