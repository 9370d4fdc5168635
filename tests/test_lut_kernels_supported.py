"""Which operators there are kernels for, and why there are none for others."""

import itertools
from dataclasses import replace

import pytest
from kernel_toys import HOST, POOLS, SHAPES, conv, spec_of, with_bits

from lut import kernels
from lut.errors import LutError


def test_row_keys_keep_what_the_code_depends_on():
    mul = spec_of("mul", 8, 2, 2, attrs="by=channel")
    assert kernels.row_key(mul, "avx2") != kernels.row_key(replace(mul, attrs=""), "avx2")
    narrow = replace(spec_of("unary", 8, 2, 2), in_bits=(4,), out_bits=2)
    assert kernels.row_key(narrow, "avx2") == kernels.row_key(spec_of("unary", 8, 2, 2), "avx2")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (spec_of("unary", 8, 2, 2, True, attrs="fn=swish"), "a float32 unary is fn= one of hardswish"),
        (spec_of("mul", 8, 2, 2, attrs="by=row"), "by=channel"),
        (spec_of("mul", 8, 2, 2, in_bits=(8,)), "1 in_bits for the 2 inputs"),
        (spec_of("concat", 8, 2, 2, c_out=4), "a part of 4 channels"),
        (spec_of("split", 4, 2, 2, c_out=8), "a part of 4 channels"),
        (spec_of("shuffle", 8, 2, 2), "one group"),
        (spec_of("shuffle", 8, 2, 2, groups=3), "do not divide"),
        (spec_of("softmax", 8, 2, 2), "in_bits 8; softmax has float32 there"),
        (spec_of("layer_norm", 8, 2, 2, in_bits=(32,)), "out_bits 8; layer_norm has float32 there"),
        (spec_of("quantize", 8, 2, 2), "in_bits 8; quantize has float32 there"),
        (spec_of("quantize", 8, 2, 2, in_bits=(32,), out_bits=16), "out_bits 16"),
        (spec_of("dequantize", 8, 2, 2), "out_bits 8; dequantize has float32 there"),
        (spec_of("unary", 8, 2, 2, c_out=4), "keeps its channels"),
        (spec_of("unary", 8, 2, 2, stride=(2, 2)), "no kernel, stride or padding"),
        (spec_of("pad", 8, 2, 2, stride=(2, 2)), "pad has no kernel"),
    ],
)
def test_unsupported_specs_say_why(spec, reason):
    assert reason in kernels.supported(spec)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "mbconv"}, "kind 'mbconv'"),
        ({"w_bits": 3}, "3-bit weights"),
        ({"batch": 2}, "batch 2"),
        ({"groups": 3}, "do not divide"),
        ({"w_bits": 32}, "does not mix"),
        ({"in_bits": (8, 8)}, "for the 1 inputs"),
        ({"in_bits": (16,)}, "codes of 1 to 8 bits"),
        ({"out_bits": 12}, "out_bits 12"),
        ({"kernel": (9, 9)}, "larger than the padded input"),
        ({"c_in": 0}, "below 1"),
    ],
)
def test_unsupported_changes_say_why_and_are_not_built(change: dict, reason: str) -> None:
    spec = replace(conv(16, 16, 4, 3), **change)
    assert reason in kernels.supported(spec)
    with pytest.raises(LutError, match="no kernel"):
        kernels.build(spec, HOST)


def test_supported_specs_are_supported() -> None:
    for spec, bits in itertools.product([*SHAPES.values(), *POOLS.values()], (32, 8)):
        assert kernels.supported(with_bits(spec, bits)) is None
