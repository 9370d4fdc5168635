"""Float32 functions of one value, in vectors: what the float baseline and the float islands compute.

exp by Cody and Waite's reduction and a polynomial (Moshier's Cephes, expf): x = n log 2 + r, exp x = 2^n P(r), relative
error below 2e-7 for x in [-87, 88], beyond which x is clamped. The others follow:

    sigmoid x = 1 / (1 + exp -x),  tanh x = 2 sigmoid 2x - 1,  silu x = x sigmoid x
    gelu x = x (1 + erf(x / sqrt 2)) / 2,  erf by Abramowitz and Stegun 7.1.26, absolute error below 2e-7 (at 0: 1e-9)
    gelu_tanh x = x (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))) / 2
    hardsigmoid x = min(max(x + 3, 0), 6) / 6,  hardswish x = x hardsigmoid x
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lut.spec import OpSpec

from .emit import Nest, share_vectors
from .signature import pointers

LOG2_HIGH, LOG2_LOW = 0.693359375, -2.12194440e-4
POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
ERF_P = 0.3275911
ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class Vector:
    """Arithmetic on float32 vectors of `lanes` elements, with scalars where they are meant for every lane."""

    def __init__(self, nest: Nest, lanes: int) -> None:
        self.nest, self.lanes = nest, lanes
        self.kind = f"float32x{lanes}" if lanes > 1 else "float32"

    def const(self, value: float) -> Any:
        return self.nest.const(value, "float32", self.lanes)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        return self.nest.x.max(self.nest.x.min(x, self.const(high)), self.const(low))

    def horner(self, coefficients: tuple[float, ...], x: Any) -> Any:
        total = self.const(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.nest.bind(total * x + self.const(coefficient))
        return total

    def rint(self, x: Any) -> Any:
        """The nearest integer, halves to even."""
        return self.nest.x.nearbyint(x)

    def exp(self, x: Any) -> Any:
        nest = self.nest
        x = nest.bind(self.clamp(x, -87.0, 88.0))
        n = nest.bind(self.rint(x * self.const(1 / math.log(2))))
        r = nest.bind(x - n * self.const(LOG2_HIGH) - n * self.const(LOG2_LOW))
        p = nest.bind(self.horner(POLYNOMIAL, r) * (r * r) + (r + self.const(1)))
        whole = self.kind.replace("float", "int")
        exponent = (n.astype(whole) + nest.const(127, "int32", self.lanes)) << nest.const(23, "int32", self.lanes)
        return nest.bind(p * nest.view(exponent, self.kind))

    def sigmoid(self, x: Any) -> Any:
        one = self.const(1)
        return self.nest.bind(one / (one + self.exp(self.const(0) - x)))

    def tanh(self, x: Any) -> Any:
        return self.nest.bind(self.const(2) * self.sigmoid(self.const(2) * x) - self.const(1))

    def erf(self, x: Any) -> Any:
        nest, one = self.nest, self.const(1)
        size = nest.bind(nest.x.max(x, self.const(0) - x))
        t = nest.bind(one / (one + self.const(ERF_P) * size))
        tail = nest.bind(self.horner(ERF, t) * t * self.exp(self.const(0) - size * size))
        return nest.bind(nest.x.Select(x < self.const(0), tail - one, one - tail))

    def gelu(self, x: Any) -> Any:
        half = self.const(0.5)
        return x * (half + half * self.erf(x * self.const(math.sqrt(0.5))))

    def gelu_tanh(self, x: Any) -> Any:
        cubic = self.nest.bind(x + self.const(0.044715) * (x * x * x))
        half = self.const(0.5)
        return x * (half + half * self.tanh(self.const(math.sqrt(2 / math.pi)) * cubic))

    def hardsigmoid(self, x: Any) -> Any:
        return self.clamp(x + self.const(3), 0.0, 6.0) * self.const(1 / 6)


FUNCTIONS: dict[str, Callable[[Vector, Any], Any]] = {
    "hardswish": lambda v, x: x * v.hardsigmoid(x),
    "hardsigmoid": Vector.hardsigmoid,
    "silu": lambda v, x: x * v.sigmoid(x),
    "gelu": Vector.gelu,
    "gelu_tanh": Vector.gelu_tanh,
    "sigmoid": Vector.sigmoid,
    "tanh": Vector.tanh,
}
"""By the name in a spec's attrs, `fn=NAME`."""


def function_of(spec: OpSpec) -> str:
    """The function's name in a float32 spec's attrs, or what stands there instead."""
    return spec.attrs.removeprefix("fn=")


def unary(nest: Nest, spec: OpSpec) -> int:
    """float32 unary: y = f(x), element by element."""
    bound, function = pointers(nest, spec, "float32"), FUNCTIONS[function_of(spec)]

    def step(start: Any, lanes: int) -> None:
        value = nest.bind(nest.load(bound["in"], start, lanes))
        nest.store(bound["out"], start, function(Vector(nest, lanes), value), lanes)

    share_vectors(nest, spec.height * spec.width * spec.c_in, step)
    return 0
