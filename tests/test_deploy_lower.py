import numpy as np
import pytest
import torch
from models import Mixture, PlainAdd, bytes_and_input, randomise
from test_supernet_extract import SPACE, architectures
from torch import nn

from deploy.integer import rescale, run_program, run_tensors
from deploy.lower import fixed_point, lower
from deploy.tvm_build import build
from lut.errors import InputError, LutError
from supernet import SearchSpace, Supernet, extract


@pytest.mark.parametrize("real", [[0.3, -0.2], [0.49999999999], [0.5], [-1.7, 1e-4], [37.0], [1e-9], [0.0]])
def test_fixed_point_is_even_int32_and_close(real):
    real = np.array(real)
    mult, shift = fixed_point(real)
    assert mult.dtype == np.int32
    assert not (mult % 2).any()
    np.testing.assert_allclose(mult * 2.0 ** (shift - 32), real, atol=2.0 ** (shift - 32))
    assert shift == 0 or np.abs(real).max() >= 0.25 * 2**shift * (1 - 1e-6)


def test_rescale_is_floor_of_the_rounded_product():
    generator = np.random.default_rng(0)
    acc = generator.integers(-(2**26), 2**26, 500)
    mult = 2 * generator.integers(-(2**30), 2**30, 500)
    got = rescale(torch.from_numpy(acc), torch.from_numpy(mult), 7).numpy()
    exact = [(int(a) * int(m) + 7 + 2**31) // 2**32 for a, m in zip(acc, mult)]
    assert got.tolist() == exact


@pytest.mark.parametrize("model", ["mixture", "plain_add"])
def test_integer_network_follows_the_fake_quantized_one(model):
    network, shape = (Mixture(), (3, 16, 16)) if model == "mixture" else (PlainAdd(), (1, 8, 8))
    images, x, mean, std = bytes_and_input(shape, 64)
    net = Supernet.from_model(randomise(network), x, SPACE, mean, std).eval()
    for values in [net.uniform(8, 8).choices, net.uniform(8, 8, 0.5).choices]:
        subnet = extract(net, values).double()
        program = lower(subnet)
        scores = run_program(program, images) * program.tensors[program.output].scale
        expected = subnet(x.double()).detach().numpy()
        assert np.abs(scores - expected).max() < 0.03 * np.abs(expected).max()
    for values in architectures(net, 4):
        subnet = extract(net, values).double()
        program = lower(subnet)
        scores = run_program(program, images) * program.tensors[program.output].scale
        assert np.median(np.abs(scores - subnet(x.double()).detach().numpy())) < 0.05 * np.abs(scores).max()


def test_first_layer_codes_equal_fake_quantization():
    images, x, mean, std = bytes_and_input((3, 16, 16), 16)
    net = Supernet.from_model(randomise(Mixture()), x, SPACE, mean, std).eval()
    subnet = extract(net, net.uniform(8, 8)).double()
    program = lower(subnet)
    tensors = run_tensors(program, images)
    quantizer = subnet.quantizer("x")
    fake = quantizer(x.double(), None, [0], None) / quantizer.step.abs() + program.tensors["x"].zero
    assert np.array_equal(tensors["x"], fake.detach().round().numpy().transpose(0, 2, 3, 1))


def test_a_zero_gamma_becomes_a_constant_channel():
    images, x, mean, std = bytes_and_input((3, 16, 16), 8)
    net = Supernet.from_model(randomise(Mixture()), x, SPACE, mean, std).eval()
    program = lower(extract(net, net.uniform(8, 8)))
    codes = run_tensors(program, images)["stem.1"][..., 0]
    beta = net.layer("stem.1").norm.bias[0].item()
    expected = round(max(beta, 0) / program.tensors["stem.1"].scale)
    assert (codes == expected).all()


def test_float_baseline_equals_the_model():
    images, x, mean, std = bytes_and_input((3, 16, 16), 8)
    model = randomise(Mixture())
    net = Supernet.from_model(model, x, SearchSpace((32,), (32,), (1.0,)), mean, std).eval()
    scores = run_program(lower(extract(net, net.arch())), images)
    np.testing.assert_allclose(scores, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_bits_that_only_imported_tables_price_are_lowered_but_not_built(tmp_path):
    images, x, mean, std = bytes_and_input((3, 16, 16), 8)
    space = SearchSpace(weight_bits=(3, 8), act_bits=(5, 8))
    net = Supernet.from_model(randomise(Mixture()), x, space, mean, std).eval()
    subnet = extract(net, net.uniform(3, 5))
    program = lower(subnet)
    scale = program.tensors[program.output].scale
    scores = subnet(x).detach().numpy()
    assert np.median(np.abs(run_program(program, images) * scale - scores)) < 0.05 * np.abs(scores).max()
    with pytest.raises(LutError, match=r"net: blocks.0.conv1: 3-bit weights; kernels have 2, 4 and 8"):
        build(program, "llvm", tmp_path)


def test_wrong_images_are_refused():
    images, x, mean, std = bytes_and_input((3, 16, 16), 4)
    net = Supernet.from_model(randomise(Mixture()), x, SPACE, mean, std).eval()
    program = lower(extract(net, net.uniform(8, 8)))
    with pytest.raises(InputError, match="the network takes uint8"):
        run_program(program, images.astype(np.float32))
    with pytest.raises(InputError, match="the network takes uint8"):
        run_program(program, images[:, :8])


class Named(nn.Module):
    """Two layers of any name, from an argument that is called as the program's input usually is."""

    def __init__(self, first, second):
        super().__init__()
        self.names = first, second
        self.add_module(first, nn.Conv2d(3, 8, 3, padding=1))
        self.add_module(second, nn.Linear(8, 4))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image):
        first, second = (getattr(self, name) for name in self.names)
        return second(self.pool(torch.relu(first(image))).flatten(1))


@pytest.mark.parametrize("names", [("conv", "fc"), ("image_", "scores"), ("scores", "image_"), ("pixel", "channels")])
@pytest.mark.parametrize("bits", [8, 32])
def test_a_network_s_own_names_are_no_others(names, bits):
    images, x, mean, std = bytes_and_input((3, 8, 8), 8)
    space = SearchSpace((bits,), (bits,), (1.0,))
    net = Supernet.from_model(randomise(Named(*names)), x, space, mean, std).eval()
    subnet = extract(net, net.arch())
    program = lower(subnet)
    assert program.input not in {node.name for node in subnet.nodes}
    scores = run_program(program, images) * program.tensors[program.output].scale
    assert np.abs(scores - subnet(x).detach().numpy()).max() < 0.02 * np.abs(scores).max()
    pytest.importorskip("onnxruntime")
    from deploy.onnx_check import compare
    from deploy.onnx_export import to_onnx

    assert compare(program, to_onnx(program), images).largest <= 1


def test_a_head_of_zeros_is_lowered():
    images, x, mean, std = bytes_and_input((3, 8, 8), 4)
    model = randomise(Named("conv", "fc"))
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    net = Supernet.from_model(model, x, SPACE, mean, std).eval()
    assert not run_program(lower(extract(net, net.uniform(8, 8))), images).any()
