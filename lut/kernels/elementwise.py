"""Sums and products element by element, and pools."""

from __future__ import annotations

from typing import Any

from lut.spec import OpSpec

from .emit import Nest, in_vectors, share_vectors
from .isa import LANES, Isa
from .parts import shared_axis
from .requantize import Epilogue
from .signature import by_channel, in_dtype, pointers


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

    share_vectors(nest, spec.height * spec.width * spec.c_in, step)
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


def mul(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """mul: y = clamp(z_out + ((((a - z_a)(b - z_b)) << l) m + 2^31 >> 32)); `by=channel` in attrs: b is one pixel."""
    bound = pointers(nest, spec, "uint8")
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name)

    def step(start: Any, lanes: int, second: Any) -> None:
        a, b = nest.load(bound["in"], start, lanes), nest.load(bound["in2"], second, lanes)
        if spec.is_float:
            total = a * b
        else:
            wide = f"int32x{lanes}" if lanes > 1 else "int32"
            zeros = [nest.splat(epilogue.scalar[name], lanes) for name in ("z_in", "z_res")]
            product = (a.astype(wide) - zeros[0]) * (b.astype(wide) - zeros[1])
            total = epilogue.high_word([epilogue.first(product, 0, lanes)], lanes)
        nest.store(bound["out"], start, epilogue.finish(total, lanes), lanes)

    pixels = spec.height * spec.width
    if by_channel(spec):
        with nest.share(pixels) as pixel:
            in_vectors(nest, spec.c_in, lambda at, lanes: step(pixel * spec.c_in + at, lanes, at))
    else:
        share_vectors(nest, pixels * spec.c_in, lambda at, lanes: step(at, lanes, at))
    return 0


def _element(spec: OpSpec, row: Any, col: Any, channel: Any) -> Any:
    return (row * spec.width + col) * spec.c_in + channel


def _per_pixel(nest: Nest, spec: OpSpec, block: Any) -> None:
    """block(y, x, channel, lanes, place) over the output's pixels and vectors of channels, the tail in pieces.

    Threads share the rows, or where these are few the channels.
    """
    rows, cols = spec.out_size()
    by_rows = shared_axis(nest.threads, rows=rows, channels=-(-spec.c_in // LANES))[0] == "rows"
    with (nest.share if by_rows else nest.loop)(rows) as y, nest.loop(cols) as x:
        place = (y * cols + x) * spec.c_in
        (in_vectors if by_rows else share_vectors)(
            nest, spec.c_in, lambda at, lanes: block(y, x, at, lanes, place + at)
        )
