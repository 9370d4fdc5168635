"""Kernels that only move or pool: the input's table, residual add, average and maximum pooling, channel resampling."""

from __future__ import annotations

from typing import Any

from lut.spec import OpSpec

from .emit import Nest, pieces
from .isa import LANES, Isa
from .requantize import Epilogue
from .signature import in_dtype, out_dtype, pointers


def _vectors(count: int) -> tuple[int, list[tuple[int, int]]]:
    """(whole vectors of LANES, the tail as (start, lanes) pieces)."""
    whole = count // LANES
    return whole, [(whole * LANES + start, lanes) for start, lanes in pieces(count % LANES, LANES // 2)]


def table(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """input: y = table[channel, byte]."""
    bound = pointers(nest, spec, out_dtype(spec))
    with nest.loop(spec.height * spec.width) as pixel, nest.loop(spec.c_in) as channel:
        at = pixel * spec.c_in + channel
        code = nest.load(bound["in"], at).astype("int32")
        nest.store(bound["out"], at, nest.load(bound["weights"], channel * 256 + code))
    return 0


def add(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """add: y = clamp(z_out + (((a - z_a) << l) m + ((b - z_b) << l_r) m_r + 2^31 >> 32)), element by element."""
    bound = pointers(nest, spec, "uint8")
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name)

    def step(start: Any, lanes: int) -> None:
        first, second = (nest.load(bound[name], start, lanes) for name in ("in", "in2"))
        if spec.is_float:
            total = first + second
        else:
            codes = first.astype(f"int32x{lanes}" if lanes > 1 else "int32")
            total = epilogue.high_word([epilogue.first(codes, 1, lanes), epilogue.second(second, lanes)], lanes)
        nest.store(bound["out"], start, epilogue.finish(total, lanes), lanes)

    whole, tail = _vectors(spec.height * spec.width * spec.c_in)
    if whole:
        with nest.loop(whole) as i:
            step(i * LANES, LANES)
    for start, lanes in tail:
        step(start, lanes)
    return 0


def avg_pool(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """avg_pool: y = clamp(z_out + (((sum - n z_in) << l) m + 2^31 >> 32)); float32: sum / n."""
    bound = pointers(nest, spec, "uint8")
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name)
    number, area = ("float32" if spec.is_float else "int32"), spec.kernel[0] * spec.kernel[1]

    def block(y: Any, x: Any, channel: Any, lanes: int, place: Any) -> None:
        wide = f"{number}x{lanes}" if lanes > 1 else number
        total = nest.local(number, lanes)
        nest.store(total, 0, nest.const(0, number, lanes), lanes)
        with nest.loop(spec.kernel[0]) as ky, nest.loop(spec.kernel[1]) as kx:
            at = _element(spec, y * spec.stride[0] + ky, x * spec.stride[1] + kx, channel)
            nest.store(total, 0, nest.load(total, 0, lanes) + nest.load(bound["in"], at, lanes).astype(wide), lanes)
        value = nest.load(total, 0, lanes)
        if spec.is_float:
            value = value * nest.const(1 / area, number, lanes)
        else:
            value = epilogue.high_word([epilogue.first(value, area, lanes)], lanes)
        nest.store(bound["out"], place, epilogue.finish(value, lanes), lanes)

    _per_pixel(nest, spec, block)
    return 0


def max_pool(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """max_pool: the largest code of the window; padding never wins."""
    bound = pointers(nest, spec, "uint8")
    dtype = in_dtype(spec)
    lowest = -3.4028234663852886e38 if spec.is_float else 0

    def block(y: Any, x: Any, channel: Any, lanes: int, place: Any) -> None:
        best = nest.local(dtype, lanes)
        nest.store(best, 0, nest.const(lowest, dtype, lanes), lanes)
        with nest.loop(spec.kernel[0]) as ky, nest.loop(spec.kernel[1]) as kx:
            row = y * spec.stride[0] + ky * spec.dilation[0] - spec.pad[0]
            col = x * spec.stride[1] + kx * spec.dilation[1] - spec.pad[1]
            inside = nest.x.all(row >= 0, row < spec.height, col >= 0, col < spec.width)
            with nest.when(inside):
                value = nest.load(bound["in"], _element(spec, row, col, channel), lanes)
                nest.store(best, 0, nest.x.max(nest.load(best, 0, lanes), value), lanes)
        nest.store(bound["out"], place, nest.load(best, 0, lanes), lanes)

    _per_pixel(nest, spec, block)
    return 0


def resample(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """resample: y[c] = x[gather[c]] at every stride-th pixel, the zero point where gather[c] < 0.

    `weights` holds the gather, `params` the zero point.
    """
    bound = pointers(nest, spec, "int32")
    zero: Any = nest.const(0, "float32")
    if not spec.is_float:
        zero = Epilogue(nest, spec, bound["params"], bound["out"], isa.name).scalar["z_in"].astype("uint8")
    zero = nest.bind(zero)
    rows, cols = spec.out_size()
    with nest.loop(rows) as y, nest.loop(cols) as x, nest.loop(spec.c_out) as channel:
        source = nest.bind(nest.load(bound["weights"], channel))
        at = _element(spec, y * spec.stride[0], x * spec.stride[1], nest.x.max(source, 0))
        value = nest.x.Select(source < 0, zero, nest.load(bound["in"], at))
        nest.store(bound["out"], (y * cols + x) * spec.c_out + channel, value)
    return 0


def _element(spec: OpSpec, row: Any, col: Any, channel: Any) -> Any:
    return (row * spec.width + col) * spec.c_in + channel


def _per_pixel(nest: Nest, spec: OpSpec, block: Any) -> None:
    """block(y, x, channel, lanes, place) over the output's pixels and vectors of channels, the tail in pieces."""
    rows, cols = spec.out_size()
    whole, tail = _vectors(spec.c_in)
    with nest.loop(rows) as y, nest.loop(cols) as x:
        place = (y * cols + x) * spec.c_in
        if whole:
            with nest.loop(whole) as i:
                block(y, x, i * LANES, LANES, place + i * LANES)
        for start, lanes in tail:
            block(y, x, start, lanes, place + start)
