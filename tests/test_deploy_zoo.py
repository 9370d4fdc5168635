"""Networks of concats, splits, shuffles, norms and scales on this machine equal the integer reference to the bit."""

import shutil

import numpy as np
import pytest
from models import randomise
from test_supernet_zoo import IMAGES, MEAN, SPACE, STD, X, architectures, convert
from torch import nn

from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from deploy.onnx_check import compare, session
from deploy.onnx_export import OUTPUT, to_onnx
from deploy.tvm_build import HostModule, build
from deploy.validate import EXACT_IMAGES, check_exact
from lut.errors import LutError
from lut.kernels import isa_of_host
from supernet import Supernet, extract

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.mark.parametrize("name", ["densenet", "shufflenet_v2", "dilated"])
def test_kernels_equal_the_reference(name, tmp_path):
    net = convert(name)
    program = lower(extract(net, architectures(net, 1)[0]))
    found = HostModule(build(program, isa_of_host(), tmp_path)).run(IMAGES)
    np.testing.assert_array_equal(found, run_program(program, IMAGES))


def test_a_network_with_float_islands_is_accepted_and_its_equal_images_counted(tmp_path, monkeypatch):
    net = convert("convnext")
    program = lower(extract(net, net.uniform(8, 8)))
    module = HostModule(build(program, isa_of_host(), tmp_path))
    assert 0.9 * EXACT_IMAGES < check_exact(program, module, IMAGES) <= EXACT_IMAGES
    scores = module.run
    monkeypatch.setattr(module, "run", lambda images: scores(images) + 4000 * (np.arange(len(images)) == 5)[:, None])
    with pytest.raises(LutError, match=r"float32 scores may differ by 1% of the largest, \d+; they differ by 4\d\d\d$"):
        check_exact(program, module, IMAGES)


@pytest.mark.parametrize("name", ["densenet", "shufflenet_v2", "convnext", "dilated", "squeezenet"])
def test_onnx_runtime_follows_the_reference(name):
    pytest.importorskip("onnxruntime")
    net = convert(name)
    program = lower(extract(net, net.uniform(8, 8)))
    found = compare(program, to_onnx(program), IMAGES)
    assert [layer.name for layer in found.layers] == [op.name for op in program.ops]
    assert found.largest <= 1
    assert found.top1 >= 0.75  # random weights: a code decides between close scores


class Rectified(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 16)

    def forward(self, x):
        return self.conv(x).clamp(0, 0.5).flatten(1)


def test_an_activation_of_the_scores():
    net = Supernet.from_model(randomise(Rectified()), X, SPACE, MEAN, STD).eval()
    subnet = extract(net, net.uniform(8, 8))
    program = lower(subnet)
    scores = run_program(program, IMAGES) * program.tensors[program.output].scale
    assert scores.min() == 0 and abs(scores.max() - 0.5) < 1e-3
    np.testing.assert_allclose(scores, subnet(X).detach().numpy(), atol=0.02)
    (given,) = session(to_onnx(program)).run([OUTPUT], {"image": IMAGES})
    np.testing.assert_allclose(given, scores, atol=0.02)
    assert given.min() == 0 and given.max() <= 0.5001


def test_a_layer_norm_is_an_island_of_floats(tmp_path):
    """Its kernel sums in another order, so a code may differ by one, and the scores by what that does to them."""
    net = convert("convnext")
    program = lower(extract(net, net.uniform(8, 8)))
    kinds = [op.spec.kind for op in program.ops]
    at = kinds.index("layer_norm")
    assert kinds[at - 1 : at + 2] == ["dequantize", "layer_norm", "quantize"]
    expected = run_tensors(program, IMAGES)
    found = HostModule(build(program, isa_of_host(), tmp_path)).run(IMAGES)
    scores = expected[program.output].reshape(len(IMAGES), -1).astype(int)
    assert np.abs(found - scores).max() <= 0.01 * np.abs(scores).max()
