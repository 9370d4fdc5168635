"""An FBNet latency table with one Python dict per line, as several re-implementations write it.

    {'op_name': 'ir_k3_e6', 'op_data_shape': (112, 112, 16, 24, 2), 'op_dtype': 'float', 'op_latency': 4.2}

The shape is width, height, channels in, channels out, stride. Names such as ir_k3_e6 and ir_k5_s2 become blocks as in
FBNet's space, any other name becomes the row's kind (its kernel is not known and reads 1x1). No unit is written: it
must be given. Lines are parsed as literals, at most 1,000 characters each; nothing is evaluated.

Header: `free: input add avg_pool` (a block's addition is in its row), `ignores: pad`.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

from ..columns import nearest
from ..errors import LutError
from ..spec import FLOAT_BITS, OpSpec
from ..table import LatencyTable
from .blocks import Slot, fbnet_op
from .common import Rows, header, known, latency, microseconds, name_of, read_text, show, whole
from .csv_map import UNITS
from .sniff import expect

LONGEST = 1000
DTYPES = {"float": FLOAT_BITS, "float32": FLOAT_BITS, "int8": 8, "uint8": 8}
KEYS = ("op_name", "op_data_shape", "op_dtype", "op_latency")


def read_fbnet_lines(path: str | Path, *, device: str, unit: str) -> LatencyTable:
    """One row per line, without a site. `unit` of the latencies: ns, us, ms or s. Raises LutError `path:line: ...`."""
    if unit not in UNITS:
        raise LutError(f"unit: {show(unit)} is unknown; {nearest(str(unit), UNITS)}")
    expect(path, "fbnet_lines")
    rows = Rows(path)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        entry = literal(line.strip(), where)
        known(entry, KEYS, where)
        us = microseconds(entry["op_latency"], unit, f"{where}: op_latency")
        rows.add(_spec(entry, where), latency(us), where)
    return rows.table(header(path, device, unit, free="input add avg_pool", ignores="pad"))


def literal(line: str, where: str) -> dict[str, Any]:
    """The dict that a line spells out. Raises LutError for anything but literals, and for a key given twice."""
    if len(line) > LONGEST:
        raise LutError(f"{where}: {len(line)} characters; a line of this format has at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            body = ast.parse(line, mode="eval").body
            keys = [ast.literal_eval(key) for key in body.keys if key] if isinstance(body, ast.Dict) else []
            value = ast.literal_eval(body)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, Warning) as error:
        raise LutError(f"{where}: not a dict of literals (is the file cut off?): {show(str(error))}") from None
    if not isinstance(value, dict):
        raise LutError(f"{where}: {show(value)} is not a dict with {', '.join(KEYS)}")
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise LutError(f"{where}: {show(key)}: given twice; keep one of the two")
    return value


def _spec(entry: dict[str, Any], where: str) -> OpSpec:
    name, shape, dtype = name_of(entry["op_name"], f"{where}: op_name"), entry["op_data_shape"], entry["op_dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise LutError(f"{where}: op_dtype: {show(dtype)} is unknown; {nearest(str(dtype), DTYPES)}")
    if not isinstance(shape, tuple | list) or len(shape) != 5:
        raise LutError(f"{where}: op_data_shape: {show(shape)} is not (width, height, c_in, c_out, stride)")
    width, height, c_in, c_out, stride = (whole(n, f"{where}: op_data_shape") for n in shape)
    slot, bits = Slot(c_in, c_out, height, width, stride), DTYPES[dtype]
    if (op := fbnet_op(name)) is not None:
        return slot.block(*op, bits=bits)
    return slot.other(name, bits=bits)
