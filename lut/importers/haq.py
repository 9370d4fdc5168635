"""HAQ's latency table of MobileNetV2 on a BitFusion-like simulator (Wang 2019, arXiv:1811.08886): a .npy array.

int64 [53 layers, weight bits 1-8, activation bits 1-8], simulator cycles for 16 images of 224 pixels, 100 classes. The
layers are MobileNetV2's convolutions and its classifier in the order of execution: depthwise layers take the same
cycles whatever their weights' bits, the classifier's cycles grow with them, and layers of equal geometry have equal
rows, all in the places where MobileNetV2 has them. Summed: 39,624,933 cycles at 8 bits, 15,716,150 at 4.

Rows hold at one layer: `site` is the layer's name in supernet.networks.mobilenet_v2. `cycles` is the array's value;
`latency_us` is cycles at a clock that the source does not state, 1 MHz unless told, so that a cycle reads as 1 us.
Only ratios mean something then, and HAQ's budgets are ratios (60 % of the 8-bit cost).

Header: `free: input add avg_pool max_pool` (only convolutions and the classifier were simulated), `alias:
conv2d_add=conv2d` (so was no addition), `ignores: out_bits batch` (the array does not know the next layer's bits; it
knows one batch, 16, and its cycles are for all 16 images).
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LutError
from ..spec import Latency, OpSpec
from ..table import LatencyTable
from .common import LEAST_US, MOST_US, Rows, header, read_bytes
from .sniff import expect

BITS = 8
BATCH = 16
CLASSES = 100
IMAGE = 224
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""MobileNetV2: expansion, output channels, blocks, stride of the first (Sandler 2018, table 2)."""


def layers() -> list[OpSpec]:
    """The 53 layers at 8 bits in the array's order."""
    found = [_layer("features.0.0", 3, 32, IMAGE, 3, 2)]
    channels, size, index = 32, IMAGE // 2, 1
    for expansion, c_out, blocks, first_stride in STAGES:
        for block in range(blocks):
            stride, mid, site = first_stride if block == 0 else 1, channels * expansion, f"features.{index}.conv"
            if expansion > 1:
                found.append(_layer(f"{site}.0.0", channels, mid, size, 1, 1))
            depthwise = int(expansion > 1)
            found.append(_layer(f"{site}.{depthwise}.0", mid, mid, size, 3, stride, groups=mid))
            size //= stride
            found.append(_layer(f"{site}.{depthwise + 1}", mid, c_out, size, 1, 1))
            channels, index = c_out, index + 1
    found.append(_layer(f"features.{index}.0", channels, 1280, size, 1, 1))
    return [*found, OpSpec("linear", BATCH, 1280, CLASSES, 1, 1, site="classifier")]


def read_haq(path: str | Path, *, device: str, clock_hz: float = 1e6) -> LatencyTable:
    """One row per layer and pair of bit-widths, 3,392 in all; clock_hz turns cycles into time.

    Raises LutError for another shape or type and for cycles that are not positive. Nothing is ever unpickled.
    """
    expect(path, "haq")
    if not (isinstance(clock_hz, int | float) and math.isfinite(clock_hz) and 1 <= clock_hz <= 1e12):
        raise LutError(f"clock: {clock_hz} Hz is not from 1 Hz to 1 THz")
    array = read_npy(path)
    expected = layers()
    if array.shape != (len(expected), BITS, BITS) or array.dtype.kind not in "iu":
        raise LutError(
            f"{path}: {array.dtype} {list(array.shape)}; expected whole numbers [{len(expected)}, {BITS}, {BITS}]:"
            " layers, weight bits, activation bits"
        )
    rows = Rows(path)
    for layer, table in zip(expected, array.tolist()):
        for w_bits, line in enumerate(table, 1):
            for in_bits, cycles in enumerate(line, 1):
                where = f"{path}: {layer.site} w{w_bits} a{in_bits}"
                us = cycles / clock_hz * 1e6
                if cycles < 1 or not LEAST_US <= us <= MOST_US:
                    raise LutError(f"{where}: {cycles} cycles are not positive or out of all proportion")
                rows.add(_with_bits(layer, w_bits, in_bits), _row(us, cycles), where)
    return rows.table(
        header(
            path,
            device,
            "cycles",
            clock=f"{clock_hz / 1e6!r} MHz",
            clock_remark="nominal, the source states cycles alone; rows are for a batch of 16 images",
            free="input add avg_pool max_pool",
            alias="conv2d_add=conv2d",
            ignores="out_bits batch",
        )
    )


def read_npy(path: str | Path) -> np.ndarray[Any, Any]:
    """The array of a .npy file of plain numbers. Raises LutError before anything but the header is interpreted."""
    data = read_bytes(path)
    if data.startswith(b"PK"):
        raise LutError(f"{path}: an archive (.npz); expected the .npy array")
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream)
    except Exception as error:  # whatever numpy's parser stumbles over lies in the file
        raise LutError(f"{path}: not a .npy array: {type(error).__name__}: {str(error)[:120]}") from None
    if dtype.hasobject or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise LutError(f"{path}: holds {dtype}; expected plain numbers (objects and pickles are not read)")
    body = data[stream.tell() :]
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise LutError(f"{path}: {len(body)} bytes for {dtype} {list(shape)}; the file is cut off or too long")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _layer(site: str, c_in: int, c_out: int, size: int, kernel: int, stride: int, groups: int = 1) -> OpSpec:
    pad = (kernel // 2,) * 4
    square = (size, size, (kernel, kernel), (stride, stride), (1, 1), pad)
    return OpSpec("conv2d", BATCH, c_in, c_out, *square, groups, site=site)


def _with_bits(spec: OpSpec, w_bits: int, in_bits: int) -> OpSpec:
    return replace(spec, w_bits=w_bits, in_bits=(in_bits,))


def _row(us: float, cycles: int) -> Latency:
    return Latency(us, us, us, source="imported", cycles=float(cycles))
