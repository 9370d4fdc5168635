"""Networks of concats, splits, shuffles, norms and scales on this machine equal the integer reference to the bit."""

import shutil

import numpy as np
import pytest
from test_supernet_zoo import IMAGES, architectures, convert

from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from deploy.tvm_build import HostModule, build
from lut.kernels import isa_of_host
from supernet import extract

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.mark.parametrize("name", ["densenet", "shufflenet_v2", "dilated"])
def test_kernels_equal_the_reference(name, tmp_path):
    net = convert(name)
    program = lower(extract(net, architectures(net, 1)[0]))
    found = HostModule(build(program, isa_of_host(), tmp_path)).run(IMAGES)
    np.testing.assert_array_equal(found, run_program(program, IMAGES))


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
