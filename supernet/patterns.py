"""Activations that were written out become the function that they are: one table in place of several operators.

relu6(x + 3) / 6 = hardsigmoid x,   x hardsigmoid x = x relu6(x + 3) / 6 = hardswish x,   x sigmoid x = silu x
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from .primitives import RawOp, Traced, needed

GATED = {"hardsigmoid": "hardswish", "sigmoid": "silu"}


class _Patterns:
    def __init__(self, raws: list[RawOp], outputs: tuple[str, ...]):
        self.raws = {raw.name: raw for raw in raws}
        self.readers = Counter([*outputs, *(name for raw in raws for name in raw.inputs)])

    def alone(self, name: str) -> RawOp | None:
        """A primitive that one other reads."""
        return self.raws[name] if self.readers[name] == 1 else None

    def scaled(self, raw: RawOp, scale: float, shift: float) -> bool:
        """Whether it is scale x + shift in every channel."""
        if raw.op != "affine":
            return False
        values = zip(raw.attrs["scale"].tolist(), raw.attrs["shift"].tolist())
        return all(math.isclose(a, scale, rel_tol=1e-6) and b == shift for a, b in values)

    def ramp(self, name: str) -> str:
        """x of relu6(x + 3), else ''."""
        clamp = self.alone(name)
        if clamp is None or clamp.op != "act" or clamp.attrs["high"] != 6:
            return ""
        shifted = self.alone(clamp.inputs[0])
        return shifted.inputs[0] if shifted is not None and self.scaled(shifted, 1, 3) else ""

    def found(self, raw: RawOp) -> RawOp:
        if self.scaled(raw, 1 / 6, 0):
            if source := self.ramp(raw.inputs[0]):
                return _unary(raw, "hardsigmoid", source)
            product = self.alone(raw.inputs[0])
            if product is not None and product.op == "mul":
                for x, gate in (product.inputs, product.inputs[::-1]):
                    if self.ramp(gate) == x:
                        return _unary(raw, "hardswish", x)
        if raw.op == "mul":
            for x, gate in (raw.inputs, raw.inputs[::-1]):
                made = self.alone(gate)
                if made is not None and made.op == "unary" and made.inputs == [x] and made.attrs["fn"] in GATED:
                    return _unary(raw, GATED[made.attrs["fn"]], x)
        return raw


def _unary(raw: RawOp, fn: str, source: str) -> RawOp:
    return replace(raw, op="unary", inputs=[source], attrs={"fn": fn})


def recognised(traced: Traced) -> Traced:
    """The primitives with functions in place of what computes them."""
    patterns = _Patterns(traced.ops, traced.outputs)
    for raw in traced.ops:
        patterns.raws[raw.name] = patterns.found(raw)
    return traced._replace(ops=needed(list(patterns.raws.values()), traced.outputs))
