"""A small table of two kinds of operators."""

from dataclasses import replace

from lut.spec import Latency, OpSpec

CONV = OpSpec("conv2d", 1, 4, 16, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 8, (8,), 8)
LINEAR = OpSpec("linear", 1, 32, 10, 1, 1, out_bits=16)


def row(us, source="host"):
    return Latency(us, us, us, 1, source=source)


ROWS = {
    replace(CONV, c_out=32): row(30.0),
    CONV: row(10.0),
    replace(CONV, c_in=8): row(40.0),
    replace(CONV, c_in=8, c_out=32): row(70.0, "interpolated"),
    replace(CONV, w_bits=4): row(5.0),
    LINEAR: row(2.0),
    replace(LINEAR, c_in=64): row(3.0),
}
