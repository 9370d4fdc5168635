"""Where weights of 4 and 2 bits are unpacked is part of a schedule: the same bits under a name of their own."""

import shutil
from dataclasses import replace

import pytest
from kernel_toys import HOST, ISAS, SHAPES, check, conv, with_bits

from lut import kernels
from lut.errors import LutError
from lut.kernels.schedule import Schedule, parse
from lut.spec import OpSpec

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
LINEAR = OpSpec("linear", 1, 64, 32, 1, 1)


@needs_compiler
@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "llvm"])
@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("shape", ["16", "odd", "residual", "dilated", "groups", "linear", "strided"])
def test_both_places_compute_the_same(shape, bits, isa):
    pytest.importorskip("tvm")
    spec = with_bits(SHAPES[shape], bits)
    tile = kernels.variants(spec, isa, 1)[0]
    for place in "sr":
        check(spec, isa, seed=bits, variant=f"{tile}{place}")


@pytest.mark.parametrize("isa", ["avx512vnni", "avxvnni", "avx2", "neon-dot", "neon"])
@pytest.mark.parametrize(
    ("spec", "other"),
    [
        (conv(8, 16, 8, 3), "r"),
        (conv(16, 16, 8, 3), "r"),
        (replace(conv(16, 16, 8, 3), groups=2), "r"),
        (conv(16, 16, 3, 3), "s"),
        (LINEAR, "s"),
    ],
)
def test_the_other_place_is_tried_behind_the_default(spec, other, isa):
    """Few pixels share a strip's weights in small images and linear layers; AVX-512 has 16 channels in registers."""
    if isa == "avx512vnni" and spec.c_in // spec.groups == 16:
        other = "s"
    for bits in (4, 2):
        first, second, *rest = kernels.variants(replace(spec, w_bits=bits), isa, 4)
        assert parse(first).unpack == "" and second == f"{first}{other}"
        assert not any(parse(variant).unpack for variant in rest)
        assert kernels.variants(replace(spec, w_bits=bits), isa, 1) == (first,)
    assert not any(parse(variant).unpack for variant in kernels.variants(spec, isa, 4))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("spec", [conv(16, 32, 8, 3), conv(16, 16, 5, 3), conv(32, 32, 4, 1), LINEAR])
def test_the_other_place_is_not_the_defaults(spec, threads):
    pytest.importorskip("tvm")
    spec = replace(spec, w_bits=4)
    default, other = kernels.variants(spec, "avx512vnni", 2, threads)
    same = f"{default}{'s' if other.endswith('r') else 'r'}"
    sizes = {name: kernels.build(spec, "avx512vnni", name, threads).workspace_bytes for name in (default, other, same)}
    assert sizes[default] == sizes[same] != sizes[other]
    assert (sizes[other] > sizes[same]) is other.endswith("s"), "unpacked weights are in the workspace"


def test_names_are_read_back():
    assert [parse(text) for text in ("6x1", "6x1s", "12x2r")] == [
        Schedule(6, 1), Schedule(6, 1, "s"), Schedule(12, 2, "r")
    ]  # fmt: skip
    assert [str(parse(text)) for text in ("6x1", "6x1s", "12x2r")] == ["6x1", "6x1s", "12x2r"]


@pytest.mark.parametrize("text", ["6x1q", "6x1sr", "6x1 s", "s", "6xs", "6x1S"])
def test_other_places_are_no_schedule(text):
    with pytest.raises(LutError, match=f"'{text}' is no schedule; expected PIXELSxBLOCKS, such as 6x1, 6x1s or 6x1r"):
        parse(text)


@pytest.mark.parametrize(("bits", "isa"), [(8, HOST), (4, "llvm")])
def test_weights_that_are_not_packed_have_no_place(bits, isa):
    pytest.importorskip("tvm")
    with pytest.raises(LutError, match=rf"variant: 4x1r: {bits}-bit weights are not unpacked on {isa}"):
        kernels.build(replace(conv(16, 16, 8, 3), w_bits=bits), isa, "4x1r")
