"""Specs of operators without weights."""

from lut.kernels.kinds import KINDS
from lut.spec import OpSpec


def spec_of(kind: str, c: int, h: int, w: int, is_float: bool = False, **more) -> OpSpec:
    inputs = KINDS[kind].inputs
    bits = dict(w_bits=32, in_bits=(32,) * inputs, out_bits=32) if is_float else dict(in_bits=(8,) * inputs)
    return OpSpec(kind, 1, c, more.pop("c_out", c), h, w, **{**bits, **more})
