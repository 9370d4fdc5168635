"""Softmax on the device: in float32 in the middle of a network, left to the reader of the scores at its end."""

import shutil

import numpy as np
import pytest
import torch
from mcu_toys import M4
from models import randomise
from test_supernet_softmax import Head
from test_supernet_zoo import IMAGES, MEAN, SPACE, STD, X, convert

from cost_models.counts import COUNTS
from deploy.c_project import write
from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from deploy.results import places, values
from deploy.tvm_build import HostModule, build
from deploy.validate import EXACT_IMAGES, check_exact
from lut.errors import LutError
from lut.kernels import isa_of_host
from supernet import Supernet, extract

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def head():
    net = Supernet.from_model(randomise(Head(torch.nn.Softmax(1))), X, SPACE, MEAN, STD).eval()
    return extract(net, net.uniform(8, 8))


def gates():
    net = convert("soft_gates")
    return lower(extract(net, net.uniform(8, 8)), "gates")


@torch.no_grad()
def test_scores_are_integers_and_become_probabilities_where_they_are_read():
    subnet = head()
    program = lower(subnet, "head")
    assert program.tensors[program.output].dtype == "int16" and not program.is_float
    assert "softmax" not in {op.spec.kind for op in program.ops}
    numbers, scale = run_program(program, IMAGES), program.tensors[program.output].scale
    found = values(program, numbers)
    torch.testing.assert_close(found, (scale * torch.from_numpy(numbers).float()).softmax(1))
    torch.testing.assert_close(found, subnet(X), rtol=0.02, atol=1e-3)
    assert places(program)[0].softmax and places(program)[0].scale == scale


@needs_compiler
def test_the_header_says_what_the_scores_are(tmp_path):
    pytest.importorskip("tvm")
    program = lower(head(), "head")
    module = HostModule(build(program, isa_of_host(), tmp_path))
    assert check_exact(program, module, IMAGES) == EXACT_IMAGES
    assert module.about.outputs == places(program, 64)
    scale = program.tensors[program.output].scale
    said = f"10 scores, of which the model returns the softmax: of {scale:.9g} times each"
    assert said in (tmp_path / "head.h").read_text()


def test_a_microcontroller_has_one_at_the_end_alone(tmp_path):
    write(lower(head(), "head"), M4, tmp_path)
    assert "10 scores, of which the model returns the softmax" in (tmp_path / "head.h").read_text()
    with pytest.raises(LutError, match=r"kind '(softmax|dequantize)'"):
        write(gates(), M4, tmp_path)


@needs_compiler
def test_in_the_middle_kernels_follow_the_reference(tmp_path):
    pytest.importorskip("tvm")
    program = gates()
    kinds = [op.spec.kind for op in program.ops]
    at = kinds.index("softmax")
    assert kinds[at - 1 : at + 2] == ["dequantize", "softmax", "quantize"] and kinds.count("softmax") == 3
    tensors = run_tensors(program, IMAGES)
    for op in (op for op in program.ops if op.spec.kind == "softmax"):
        expected = torch.from_numpy(tensors[op.inputs[0]]).double().softmax(-1)
        np.testing.assert_allclose(tensors[op.output], expected, rtol=1e-5, atol=1e-7)
    module = HostModule(build(program, isa_of_host(), tmp_path))
    assert 0.8 * EXACT_IMAGES < check_exact(program, module, IMAGES) <= EXACT_IMAGES


def test_it_costs_no_weights_and_no_products():
    specs = [op.spec for op in gates().ops if op.spec.kind == "softmax"]
    assert {COUNTS[metric](spec) for spec in specs for metric in ("macs", "weights", "params")} == {0}


def test_onnx_runtime_follows_the_reference():
    pytest.importorskip("onnxruntime")
    from deploy.onnx_check import compare, session
    from deploy.onnx_export import OUTPUT, to_onnx

    program = gates()
    found = compare(program, to_onnx(program), IMAGES)
    assert found.largest <= 1
    assert {layer.kind for layer in found.layers} >= {"softmax"}
    program = lower(head(), "head")
    (scores,) = session(to_onnx(program)).run([OUTPUT], {"image": IMAGES})
    expected = program.tensors[program.output].scale * run_program(program, IMAGES)
    np.testing.assert_allclose(scores, expected, atol=0.02 * np.abs(expected).max())
