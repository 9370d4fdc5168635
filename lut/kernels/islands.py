"""Float islands among integers: into codes, softmax and layer norm over the channels of every pixel.

    quantize     y = clamp(rint(x w) + z_out), halves to even; w = 1 / scale, the one entry of `weights`
    softmax      y_c = exp(x_c - max x) / sum_c exp(x_c - max x)
    layer_norm   y_c = weights_c (x_c - mean) / sqrt(var + eps) + bias_c, var the mean square distance from the mean
                 (Ba et al. 2016, arXiv:1607.06450)

What turns codes into float32 is a table (`lookup.dequantize`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lut.spec import OpSpec

from .emit import Nest, in_vectors, share_vectors
from .functions import Vector
from .isa import LANES, Isa
from .requantize import FLOAT_PARAMS, PARAMS
from .signature import pointers


def quantize(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """quantize: float32 to codes."""
    bound = pointers(nest, spec, "float32")
    low, high, zero = (nest.bind(nest.load(bound["params"], PARAMS.index(n)).astype("float32")) for n in PARAMS[:3])
    inverse = nest.bind(nest.load(bound["weights"], 0))

    def step(start: Any, lanes: int) -> None:
        scaled = nest.load(bound["in"], start, lanes) * nest.splat(inverse, lanes)
        value = Vector(nest, lanes).rint(scaled) + nest.splat(zero, lanes)
        value = nest.x.max(nest.x.min(value, nest.splat(high, lanes)), nest.splat(low, lanes))
        whole = nest.bind(value.astype(f"int32x{lanes}" if lanes > 1 else "int32"))
        nest.store(bound["out"], start, whole.astype(f"uint8x{lanes}" if lanes > 1 else "uint8"), lanes)

    share_vectors(nest, spec.height * spec.width * spec.c_in, step)
    return 0


def softmax(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """softmax over channels; the output holds the exponentials in between."""
    bound, c = pointers(nest, spec, "float32"), spec.c_in
    with nest.share(spec.height * spec.width) as pixel:
        origin = pixel * c
        top = nest.bind(_reduce(nest, c, nest.x.max, lambda at, lanes: nest.load(bound["in"], origin + at, lanes)))

        def exponential(at: Any, lanes: int, origin: Any = origin, top: Any = top) -> Any:
            value = Vector(nest, lanes).exp(nest.load(bound["in"], origin + at, lanes) - nest.splat(top, lanes))
            nest.store(bound["out"], origin + at, value, lanes)
            return value

        share = nest.bind(nest.const(1, "float32") / _reduce(nest, c, lambda a, b: a + b, exponential))

        def scale(at: Any, lanes: int, origin: Any = origin, share: Any = share) -> None:
            value = nest.load(bound["out"], origin + at, lanes) * nest.splat(share, lanes)
            nest.store(bound["out"], origin + at, value, lanes)

        in_vectors(nest, c, scale)
    return 0


def layer_norm(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """layer_norm over channels, in two passes over a pixel."""
    bound, c = pointers(nest, spec, "float32"), spec.c_in
    eps, count = nest.bind(nest.load(bound["params"], FLOAT_PARAMS.index("eps"))), nest.const(1 / c, "float32")
    with nest.share(spec.height * spec.width) as pixel:
        origin = pixel * c

        def value(at: Any, lanes: int, origin: Any = origin) -> Any:
            return nest.load(bound["in"], origin + at, lanes)

        mean = nest.bind(_reduce(nest, c, lambda a, b: a + b, value) * count)

        def square(at: Any, lanes: int, mean: Any = mean) -> Any:
            apart = nest.bind(value(at, lanes) - nest.splat(mean, lanes))
            return apart * apart

        variance = nest.bind(_reduce(nest, c, lambda a, b: a + b, square) * count)
        gain = nest.bind(nest.const(1, "float32") / nest.x.sqrt(variance + eps))

        def store(at: Any, lanes: int, origin: Any = origin, mean: Any = mean, gain: Any = gain) -> None:
            apart = (value(at, lanes) - nest.splat(mean, lanes)) * nest.splat(gain, lanes)
            scaled = apart * nest.load(bound["weights"], at, lanes) + nest.load(bound["bias"], at, lanes)
            nest.store(bound["out"], origin + at, scaled, lanes)

        in_vectors(nest, c, store)
    return 0


def _reduce(nest: Nest, count: int, combine: Callable[[Any, Any], Any], value: Callable[[Any, int], Any]) -> Any:
    """One scalar of value(start, lanes) over `count` elements: vectors lane by lane, then the lanes, then the tail."""
    found: list[Any] = []
    whole = count // LANES
    if whole:
        total = nest.local("float32", LANES)
        nest.store(total, 0, value(0, LANES), LANES)
        if whole > 1:
            with nest.loop(whole - 1) as i:
                nest.store(total, 0, combine(nest.load(total, 0, LANES), value((i + 1) * LANES, LANES)), LANES)
        lanes = LANES
        vector = nest.bind(nest.load(total, 0, LANES))
        while lanes > 1:
            lanes //= 2
            halves = [nest.shuffle([vector], list(range(start, start + lanes))) for start in (0, lanes)]
            vector = nest.bind(combine(*halves))
        found.append(vector)
    for at in range(whole * LANES, count):
        found.append(nest.bind(value(at, 1)))
    total = found[0]
    for other in found[1:]:
        total = nest.bind(combine(total, other))
    return total
