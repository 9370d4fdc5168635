"""Deployed networks of copies, tables, products and float islands equal the reference."""

import random
import shutil

import numpy as np
import pytest
from test_supernet_unary import FLOAT
from test_supernet_unary import build as curved

from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from deploy.program import Op, Program, Tensor
from deploy.tvm_build import HostModule, build
from lut.kernels import isa_of_host
from lut.spec import OpSpec
from supernet import extract

pytest.importorskip("tvm")
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.parametrize("isa", sorted({isa_of_host(), "llvm"})),
]


def test_squeeze_and_excite_and_every_function(isa, tmp_path):
    _, net, images, _ = curved()
    draw = random.Random(1)
    program = lower(extract(net, {choice.name: draw.choice(choice.options) for choice in net.choices()}))
    assert {op.spec.attrs for op in program.ops if op.spec.kind == "mul"} == {"", "by=channel"}
    np.testing.assert_array_equal(HostModule(build(program, isa, tmp_path)).run(images), run_program(program, images))


def test_the_same_in_float32(isa, tmp_path):
    _, net, images, _ = curved(FLOAT)
    program = lower(extract(net, net.arch()))
    found = HostModule(build(program, isa, tmp_path)).run(images)
    np.testing.assert_allclose(found, run_program(program, images), rtol=1e-4, atol=1e-4)


def moved() -> Program:
    """An image split in two, one half shuffled, the other through a layer norm, joined, framed; a linear layer."""
    rng = np.random.default_rng(0)
    tensors, ops = {"image": Tensor("image", 6, 6, 3, 8)}, []

    def emit(name, spec, inputs, zero=0, scale=1.0, output=None, **constants):
        output = output or name
        rows, cols = spec.out_size()
        tensors.setdefault(output, Tensor(output, rows, cols, spec.c_out, spec.out_bits, zero, scale))
        ops.append(Op(name, spec, inputs, output, **constants))

    def spec(kind, c_in, c_out, size=6, **more):
        return OpSpec(kind, 1, c_in, c_out, size, size, **more)

    values, float_ = ((np.arange(256) - 9) * 0.05).astype("f4"), dict(in_bits=(32,), out_bits=32, w_bits=32)
    emit("in", spec("input", 3, 3), ("image",), table=rng.integers(0, 256, (3, 256)).astype("u1"))
    emit("stem", spec("conv2d", 3, 20, kernel=(3, 3), pad=(1, 1, 1, 1)), ("in",), 9, 0.05,
         weights=rng.integers(-127, 128, (20, 3, 3, 3)).astype("i1"), bias=np.zeros(20, "i4"),
         mult=np.full(20, 1 << 17, "i4"), shift=2)  # fmt: skip
    emit("left", spec("split", 20, 12), ("stem",), 9)
    emit("right", spec("split", 20, 8), ("stem",), 9, offset=12)
    emit("mixed", spec("shuffle", 12, 12, groups=3), ("left",), 9)
    emit("float", spec("dequantize", 8, 8, out_bits=32), ("right",), table=values)
    emit("norm", spec("layer_norm", 8, 8, **float_), ("float",), weights=rng.standard_normal(8).astype("f4"),
         bias=rng.standard_normal(8).astype("f4"), eps=1e-5)  # fmt: skip
    emit("soft", spec("softmax", 8, 8, **float_), ("norm",))
    emit("codes", spec("quantize", 8, 8, in_bits=(32,)), ("soft",), 9, weights=np.array([200], "f4"))
    emit("join.codes", spec("concat", 8, 24), ("codes",), 9, output="join", offset=12)
    emit("join.mixed", spec("concat", 12, 24), ("mixed",), 9, output="join", offset=0)
    emit("join.half", spec("concat", 4, 24), ("quarter",), 9, output="join", offset=20)
    ops.insert(-3, Op("quarter", spec("split", 8, 4), ("codes",), "quarter", offset=4))
    tensors["quarter"] = Tensor("quarter", 6, 6, 4, 8, 9)
    emit("frame", spec("pad", 24, 24, pad=(1, 0, 0, 2)), ("join",), 9)
    tensors["flat"] = Tensor("flat", 1, 1, 24, 8)
    ops.append(
        Op("flat", OpSpec("avg_pool", 1, 24, 24, 7, 8, (7, 8)), ("frame",), "flat", mult=np.array([1 << 27], "i4"))
    )
    emit("fc", OpSpec("linear", 1, 24, 5, 1, 1, out_bits=16), ("flat",), low=-32767, high=32767, bias=np.zeros(5, "i4"),
         weights=rng.integers(-127, 128, (5, 24, 1, 1)).astype("i1"), mult=np.full(5, 1 << 26, "i4"))  # fmt: skip
    return Program(tuple(ops), tensors, "image", ("fc",), "moved")


def test_copies_and_float_islands(isa, tmp_path):
    program, images = moved(), np.random.default_rng(1).integers(0, 256, (20, 6, 6, 3)).astype("u1")
    expected = run_tensors(program, images)
    joined = np.concatenate([expected[name] for name in ("mixed", "codes", "quarter")], -1)
    np.testing.assert_array_equal(expected["join"], joined)
    assert len(np.unique(expected["codes"])) > 20
    found = HostModule(build(program, isa, tmp_path)).run(images)
    # A softmax that differs in its last bit may round to the next code; none of these 20 images has one.
    np.testing.assert_array_equal(found, expected["fc"].reshape(20, -1))
