"""APQ's BitFusion table (Wang 2020, arXiv:2006.08509): JSON, one image, latency in ms and energy in mJ.

    "(24, 144, 56, 1, 1, 0, 1)-W4A6": {"energy": .., "latency": ..}     c_in, c_out, size, kernel, stride, pad, groups

size is the input's; W and A are the bits of weights and activations, 4, 6 or 8 (not every pair was simulated). Two
more entries hold what every network has: `head`, the layers before the searched blocks, and `tail`, those after them.
Their bits are not stated; they become rows of kind `head` and `tail` at 8 bits, with the network's image (3x224x224)
and the last feature map (320x7x7) as their geometry. A network costs head + tail + the layers of its blocks.

Header: `free: input add avg_pool max_pool`, `alias: conv2d_add=conv2d` (only convolutions were simulated), `ignores:
out_bits` (the key does not hold the next layer's bits).
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import LutError
from ..spec import Latency, OpSpec
from ..table import LatencyTable
from .common import Rows, header, known, microseconds, number, read_json, section, show
from .sniff import expect

_KEY = re.compile(rf"\({', '.join(['([0-9]{1,6})'] * 7)}\)-W([1-8])A([1-8])")
_ENDS = {
    "head": OpSpec("head", 1, 3, 16, 224, 224, stride=(2, 2)),
    "tail": OpSpec("tail", 1, 320, 1000, 7, 7),
}


def read_apq(path: str | Path, *, device: str) -> LatencyTable:
    """Rows of convolutions on one image, with energy. Raises LutError `path: key: ...`."""
    expect(path, "apq")
    rows = Rows(path)
    for key, value in read_json(path).items():
        where = f"{path}: {show(key)}"
        entry = section(value, where)
        known(entry, ("energy", "latency"), where)
        us = microseconds(entry["latency"], "ms", f"{where}: latency")
        energy = number(entry["energy"], f"{where}: energy")
        if not 0 < energy < 1e9:
            raise LutError(f"{where}: energy: {show(entry['energy'])} mJ is not positive or out of all proportion")
        rows.add(_spec(key, where), Latency(us, us, us, source="imported", energy_uj=energy * 1000), where)
    rules = {"free": "input add avg_pool max_pool", "alias": "conv2d_add=conv2d", "ignores": "out_bits"}
    return rows.table(header(path, device, "ms", **rules))


def _spec(key: str, where: str) -> OpSpec:
    if key in _ENDS:
        return _ENDS[key]
    match = _KEY.fullmatch(key)
    if match is None:
        raise LutError(f"{where}: unknown key; expected (c_in, c_out, size, kernel, stride, pad, groups)-WxAy")
    c_in, c_out, size, kernel, stride, pad, groups, w_bits, in_bits = map(int, match.groups())
    if min(c_in, c_out, size, kernel, stride, groups) < 1:
        raise LutError(f"{where}: channels, size, kernel, stride and groups are at least 1")
    if c_in % groups or c_out % groups or size + 2 * pad < kernel or pad > kernel:
        raise LutError(f"{where}: groups do not divide the channels, or kernel and padding do not fit the image")
    square = (size, size, (kernel, kernel), (stride, stride), (1, 1), (pad,) * 4)
    return OpSpec("conv2d", 1, c_in, c_out, *square, groups, w_bits, (in_bits,), 8)
