"""Exported operators and networks in ONNX Runtime against the integer reference."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import Mixture, PlainAdd, bytes_and_input, randomise
from onnx_toys import lone, spec, steps
from test_supernet_unary import Curved

from deploy.integer import KINDS as REFERENCE
from deploy.integer import run_program
from deploy.lower import lower
from deploy.onnx_check import alone, compare, integer_share, kernels, session
from deploy.onnx_export import KINDS, OUTPUT, to_onnx
from deploy.onnx_input import affine
from deploy.onnx_weights import BIAS_ERROR, real_constants
from deploy.program import Op, Program, Tensor
from lut.errors import InputError, LutError
from lut.spec import OpSpec
from supernet import SearchSpace, Supernet, extract

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BITS = {8: 13, 4: 21, 2: 25}
"""Weight bits and the opset that they need."""


SHAPES = {
    "asymmetric": {"stride": (2, 2), "pad": (0, 1, 1, 0)},
    "dilated": {"dilation": (2, 1), "pad": (2, 1, 2, 1)},
    "grouped": {"groups": 4},
    "depthwise": {"c_in": 12, "groups": 12, "pad": (1, 1, 1, 1)},
    "pointwise": {"k": 1},
}


@pytest.mark.parametrize("act", [8, 4, 2])
@pytest.mark.parametrize("weight", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_are_within_a_code_and_run_in_integers(shape, weight, act):
    program = lone(spec("conv2d", bits=(weight, act, 8), **SHAPES[shape]), (2 ** (act - 1),), 128)
    difference, reference = steps(program)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert len(np.unique(reference)) > 60
    model = to_onnx(program)
    assert model.opset_import[0].version == BITS[weight]
    integer = "QLinearConv" in kernels(model)
    assert integer == ("Add" not in [node.op_type for node in model.graph.node])
    assert integer or act < 8


@pytest.mark.parametrize(
    ("bits", "zero", "low", "high"), [(8, 0, 0, 77), (8, 128, 128, 255), (4, 0, 0, 15), (2, 2, 0, 3)]
)
@pytest.mark.parametrize("kind", ["conv2d", "conv2d_add"])
def test_clamps(kind, bits, zero, low, high):
    """ReLU6, a ReLU whose tensor has a zero point, and activations of few bits."""
    inputs = 2 if kind == "conv2d_add" else 1
    what = spec(kind, bits=(8, 8, bits), inputs=inputs, pad=(1, 1, 1, 1))
    difference, reference = steps(lone(what, (3, 128), zero, low, high))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert reference.min() == low
    assert reference.max() == high


@pytest.mark.parametrize("weight", BITS)
def test_a_sum_is_rounded_once(weight):
    """Were the convolution rounded before the sum, a quarter of the codes would differ."""
    what = spec("conv2d_add", bits=(weight, 8, 8), inputs=2, pad=(1, 1, 1, 1))
    difference, reference = steps(lone(what, (0, 128), 128))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005
    assert len(np.unique(reference)) > 60


@pytest.mark.parametrize("weight", BITS)
@pytest.mark.parametrize("out", [8, 16])
def test_linear_layers(weight, out):
    what = OpSpec("linear", 1, 4 * 3 * 8, 10, 1, 1, w_bits=weight, in_bits=(8,), out_bits=out)
    program = lone(what, (5,), 0 if out == 16 else 128)
    program.tensors["a"] = replace(program.tensors["a"], height=4, width=3, channels=8)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (6, 4, 3, 8)).astype(np.uint8)
    (op,) = program.ops
    flat = torch.from_numpy(codes.astype(np.int64)).permute(0, 3, 1, 2)
    reference = REFERENCE["linear"](op, program, flat).numpy().reshape(6, 10).clip(op.low, op.high)
    model = to_onnx(program)
    got = session(model).run([OUTPUT], {"a": codes})[0]
    assert got.shape == ((6, 10) if out == 16 else (6, 1, 1, 10))
    got = np.rint(got / program.tensors["y"].scale) if out == 16 else got.reshape(6, 10).astype(int)
    assert np.abs(got - reference).max() <= 1
    assert len(np.unique(reference)) > 20
    assert "QGemm" in kernels(model)


@pytest.mark.parametrize(
    ("what", "zeros", "second", "kernel"),
    [
        (spec("add", 8, 8, k=1, inputs=2), (128, 3), None, "QLinearAdd"),
        (spec("mul", 8, 8, k=1, inputs=2), (128, 0), None, "QLinearMul"),
        (spec("mul", 8, 8, k=1, inputs=2), (0, 0), (1, 1), "QLinearMul"),
        (spec("avg_pool", 8, 8, k=3, stride=(2, 2)), (7,), None, "QLinearAveragePool"),
        (spec("avg_pool", 8, 8, k=9, bits=(8, 4, 4)), (8,), None, "QLinearAveragePool"),
        (spec("add", 8, 8, k=1, inputs=2, bits=(8, 4, 4)), (8, 0), None, "QLinearAdd"),
    ],
)
def test_without_weights(what, zeros, second, kernel):
    program = lone(what, zeros, 2 ** (what.out_bits - 1), second=second)
    difference, reference = steps(program)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05  # a half is rounded to even, not up
    assert len(np.unique(reference)) > 2
    assert kernel in kernels(to_onnx(program))


@pytest.mark.parametrize("act", [8, 4, 2])
@pytest.mark.parametrize(
    "what",
    [
        {"kind": "max_pool", "c_out": 8, "stride": (2, 2), "pad": (1, 0, 1, 1)},
        {"kind": "unary", "c_out": 8, "k": 1},
        {"kind": "resample", "c_in": 3, "c_out": 6, "k": 1, "stride": (2, 2)},
        {"kind": "resample", "c_in": 3, "c_out": 6, "k": 1},
    ],
    ids=["max_pool", "unary", "strided", "padded"],
)
def test_moved_codes_are_equal(what, act):
    program = lone(spec(bits=(8, act, act), **what), (2 ** (act - 1),), 0)
    difference, reference = steps(program)
    assert not difference.any()
    assert len(np.unique(reference)) > 2


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_tables_of_the_input(bits):
    """A normalisation is found again, whatever its constants; what is none is looked up. Both give equal codes."""
    rng = np.random.default_rng(bits)
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 2, 2, 3)).copy()
    what = OpSpec("input", 1, 3, 3, 2, 2, in_bits=(8,), out_bits=bits)
    for trial in range(4):
        tensors = {"image": Tensor("image", 2, 2, 3, 8), "x": Tensor("x", 2, 2, 3, bits, 2 ** (bits - 1), 4 / 2**bits)}
        mean, std = rng.uniform(80, 170, (3, 1)), rng.uniform(40, 90, (3, 1))
        real = (np.arange(256) - mean) / std / tensors["x"].scale + tensors["x"].zero
        codes = np.rint(real) if trial < 3 else rng.integers(0, 2**bits, (3, 256))
        table = codes.clip(0, 2**bits - 1).astype(np.uint8)
        program = Program((Op("x", what, ("image",), "x", table=table),), tensors, "image", ("x",))
        model = to_onnx(program)
        assert ("Gather" in [node.op_type for node in model.graph.node]) == (trial == 3)
        got = session(model).run([OUTPUT], {"image": images})[0]
        np.testing.assert_array_equal(got[:, 0, 0, :].T, table)


def test_a_table_that_no_function_has():
    constant = np.full((1, 256), 7, np.uint8)
    assert affine(constant, 0.1, 0, 8) is None
    bumpy = np.arange(256, dtype=np.uint8)[None].copy()
    assert affine(bumpy, 0.1, 0, 8) is not None
    bumpy[0, 100] = 103
    assert affine(bumpy, 0.1, 0, 8) is None


def test_weights_are_packed():
    sizes = {}
    for bits in BITS:
        program = lone(spec("conv2d", 64, 64, bits=(bits, 8, 8)), (0,), 0)
        sizes[bits] = to_onnx(program).ByteSize()
    count, rest = 64 * 64 * 9, 2500
    for bits, size in sizes.items():
        assert 0 < size - count * bits / 8 < rest


def test_a_bias_of_the_accumulators_unit_would_be_coarse():
    """At 2 bits a unit of the accumulator is a large part of a code: only k and the separate sum keep the bias."""
    for weight, act in ((2, 8), (2, 2), (8, 2)):
        program = lone(spec("conv2d", bits=(weight, act, 8), pad=(1, 1, 1, 1)), (0,), 0, seed=5)
        (op,) = program.ops
        _, scale, bias = real_constants(program, op)
        unit = scale * program.tensors["a"].scale
        error = np.abs(np.rint(bias / unit) * unit - bias).max() / program.tensors["y"].scale
        assert error > 4 * BIAS_ERROR
        assert (steps(program)[0] > 0).mean() < 0.01


MODELS = {"mixture": (Mixture, (3, 16, 16)), "plain_add": (PlainAdd, (1, 8, 8)), "curved": (Curved, (3, 8, 8))}


def network(name, weight, act):
    build, shape = MODELS[name]
    images, x, mean, std = bytes_and_input(shape, 24)
    torch.manual_seed(0)
    space = SearchSpace((weight,), (act,), (1.0,))
    net = Supernet.from_model(randomise(build()), x, space, mean, std).eval()
    return lower(extract(net, net.arch())), images


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("weight", "act"), [(8, 8), (4, 8), (2, 2)])
def test_whole_networks(name, weight, act):
    program, images = network(name, weight, act)
    model = to_onnx(program)
    found = compare(program, model, images)
    assert [layer.name for layer in found.layers] == [op.name for op in program.ops]
    assert found.largest <= 1
    assert found.share < 0.02
    assert found.top1 > 0.9  # random weights: a code decides between close scores
    scores = session(model).run([OUTPUT], {"image": images})[0]
    reference = run_program(program, images) * program.tensors[program.output].scale
    assert scores.shape == reference.shape
    assert np.median(np.abs(scores - reference)) < 0.02 * (reference - reference.mean(0)).std()
    assert {op.spec.kind for op in program.ops} <= set(KINDS)
    ran, weighted = integer_share(program, kernels(model))
    assert 0 < ran < weighted


def test_the_rewriting_of_onnx_runtime_changes_little():
    program, images = network("mixture", 8, 8)
    plain = compare(program, to_onnx(program), images, optimise=False)
    assert plain.largest <= 1
    assert plain.top1 == 1


@pytest.mark.parametrize("name", MODELS)
def test_float_networks(name):
    program, images = network(name, 32, 32)
    model = to_onnx(program)
    assert model.opset_import[0].version == 13
    scores = session(model).run([OUTPUT], {"image": images})[0]
    np.testing.assert_allclose(scores, run_program(program, images), rtol=1e-3, atol=1e-4)
    found = compare(program, model, images)
    assert found.largest == 0
    assert found.top1 == 1


@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh"])
def test_float_functions(name):
    what = OpSpec("unary", 1, 2, 2, 3, 3, in_bits=(32,), out_bits=32, attrs=f"fn={name}")
    tensors = {key: Tensor(key, 3, 3, 2, 32) for key in "ay"}
    op = Op("y", what, ("a",), "y", low=-np.inf, high=np.inf)
    values = np.linspace(-6, 6, 5 * 18, dtype=np.float32).reshape(5, 3, 3, 2)
    got = session(to_onnx(Program((op,), tensors, "a", ("y",)))).run([OUTPUT], {"a": values})[0]
    expected = REFERENCE["unary"](op, None, torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(got.reshape(values.shape), expected, atol=2e-6)


def test_a_wrong_export_is_seen():
    """What the check is for."""
    program, images = network("mixture", 8, 8)
    wrong = replace(program, ops=tuple(replace(op, bias=-op.bias) if op.name == "fc" else op for op in program.ops))
    assert compare(program, to_onnx(wrong), images).top1 < 0.9


def test_bad_input(monkeypatch):
    program = lone(spec("conv2d"), (0,), 0)
    (op,) = program.ops
    unknown = replace(program, ops=(replace(op, spec=replace(op.spec, kind="conv3d")),))
    with pytest.raises(LutError, match="y: no ONNX form for kind 'conv3d'; there is one for input, conv2d"):
        to_onnx(unknown)
    narrow = replace(program, ops=(replace(op, spec=replace(op.spec, w_bits=4)),))
    with pytest.raises(LutError, match="y: a weight of 127; 4 bits hold up to 7"):
        to_onnx(narrow)
    total = lone(spec("add", 8, 8, k=1, inputs=2), (0, 0), 0)
    total.tensors["b"] = replace(total.tensors["b"], scale=0.06)
    with pytest.raises(LutError, match=r"y: multiplier 0\.531 of input 1; the tensors' scales make it 0\.6"):
        to_onnx(total)
    function = OpSpec("unary", 1, 2, 2, 3, 3, in_bits=(32,), out_bits=32, attrs="fn=cosh")
    tensors = {key: Tensor(key, 3, 3, 2, 32) for key in "ay"}
    with pytest.raises(LutError, match="y: no ONNX form for function 'cosh'"):
        to_onnx(Program((Op("y", function, ("a",), "y"),), tensors, "a", ("y",)))
    whole, images = network("plain_add", 8, 8)
    model = to_onnx(whole)
    for wrong in (images[:, :4], images.astype(np.float32)):
        with pytest.raises(InputError, match="the network takes uint8"):
            compare(whole, model, wrong)
    for name, call in (("onnxruntime", lambda: session(model)), ("onnx", lambda: to_onnx(alone(whole, whole.ops[1])))):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(LutError, match=rf"{name} is not installed.*pip install 'lutier\[onnx\]'"):
            call()
