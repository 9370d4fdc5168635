"""Reference networks: published sizes, tracing, checkpoints; the accuracies on CIFAR-10 where the data is at hand."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from lut.errors import InputError
from search import data
from supernet import networks
from supernet.mixed import MixedOp
from supernet.networks import weights
from supernet.networks.ds_cnn import same_padding
from supernet.networks.mobilenet_v2 import mobilenet_v2, scaled
from supernet.networks.resnet8 import EPS, Block, resnet8
from supernet.networks.resnet_cifar import BasicBlock

CASES = {
    # name: (classes, channels, size, trainable parameters, multiply-accumulates)
    "resnet8": (10, 3, (32, 32), 78_186, 12_501_632),
    "resnet20": (10, 3, (32, 32), 269_722, 40_551_040),
    "resnet32": (10, 3, (32, 32), 464_154, 68_862_592),
    "resnet44": (10, 3, (32, 32), 658_586, 97_174_144),
    "resnet56": (10, 3, (32, 32), 853_018, 125_485_696),
    "mobilenet_v1": (2, 3, (96, 96), 216_322, 7_489_664),
    "autoencoder": (640, 1, (5, 128), 267_928, 264_192),
    "mobilenet_v2": (10, 3, (96, 96), 2_236_682, 55_021_952),
    "ds_cnn": (12, 1, (49, 10), 23_756, 2_656_768),
    "lenet5": (10, 1, (28, 28), 61_706, 416_520),
}


def counts(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int, torch.Size]:
    """Parameters, multiply-accumulates of convolutions and linear layers, and the output's shape."""
    macs = 0

    def count(module, inputs, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        output = model.eval()(torch.zeros(1, *shape))
    return sum(p.numel() for p in model.parameters()), macs, output.shape


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_published_sizes(name):
    classes, channels, size, parameters, macs = CASES[name]
    model = networks.build(name, classes, channels, size)
    assert counts(model, (channels, *size)) == (parameters, macs, (1, classes))


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("resnet50_v1", 25_557_032, 3_857_973_248),
        ("proxylessnas_mobile", 4_080_512, 320_427_584),
    ],
)
def test_published_sizes_at_224_pixels(name, parameters, macs):
    assert counts(networks.build(name, 1000, 3, 224), (3, 224, 224)) == (parameters, macs, (1, 1000))


def test_proxylessnas_space_holds_its_default_and_its_choices():
    """6^6 7^15 networks; the default is MobileNetV2's plan, its largest network has kernels of 7 everywhere."""
    space = networks.build("proxylessnas_space", 10, 3, 32)
    mixed = [module for module in space.modules() if isinstance(module, MixedOp)]
    assert [len(module.candidates) for module in mixed].count(6) == 6
    assert [len(module.candidates) for module in mixed].count(7) == 15
    assert {(block.kernel, block.hidden) for block in mixed[1].candidates[:-1]} == {
        (kernel, 24 * expansion) for kernel in (3, 5, 7) for expansion in (3, 6)
    }
    assert space.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_once_for_alls_space_has_its_choices():
    space = networks.build("ofa_mobilenet_v3", 10, 3, 32)
    mixed = [module for module in space.modules() if isinstance(module, MixedOp)]
    assert [len(module.candidates) for module in mixed] == [9, 9, 10, 10] * 5
    assert [module.candidates[0].se for module in mixed] == [False] * 4 + [True] * 4 + [False] * 4 + [True] * 8
    assert space.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_apq_has_the_layers_of_its_table():
    net = networks.build("apq", 1000, 3, 224)
    described = [module.table_block() for module in net.modules() if hasattr(module, "table_block")]
    assert [block.kind for block in described if block] == ["head", "tail"]
    middles = [module.hidden for module in net.blocks]
    assert middles == [96, *[144] * 4, *[240] * 4, *[480] * 4, *[576] * 4, *[1152] * 4]


def test_mobilenet_v2_is_the_papers():
    assert counts(mobilenet_v2(1000, 3, 224), (3, 224, 224))[:2] == (3_504_872, 300_774_272)
    assert counts(mobilenet_v2(10, 3, 32), (3, 32, 32))[:2] == (2_236_682, 87_976_448)
    assert [scaled(c, 0.35) for c in (32, 16, 24, 64, 96, 320)] == [16, 8, 8, 24, 32, 112]  # torchvision's widths
    assert mobilenet_v2(10, 3, 96, 0.5).classifier.in_features == 1280


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet8", 78_666), ("mobilenet_v1", 221_794), ("autoencoder", 269_992)]
)
def test_published_sizes_of_mlperf_tinys_keras_models(name, parameters):
    """Keras counts the running statistics."""
    model = networks.NETWORKS[name]()
    buffers = sum(b.numel() for key, b in model.named_buffers() if "running" in key)
    assert sum(p.numel() for p in model.parameters()) + buffers == parameters


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_traced_graph_computes_the_same(name):
    classes, channels, size, *_ = CASES[name]
    model = networks.build(name, classes, channels, size).eval()
    x = torch.randn(2, channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("resnet8", 1, 32),
        ("resnet8", 1, (40, 64)),
        ("resnet20", 1, 28),
        ("lenet5", 1, 32),
        ("lenet5", 3, 32),
        ("ds_cnn", 1, (40, 64)),
        ("ds_cnn", 1, 32),
        ("mobilenet_v2", 1, 32),
        ("mobilenet_v1", 1, (50, 37)),
        ("autoencoder", 2, (4, 8)),
    ],
)
def test_other_inputs_run(name, channels, size):
    model = networks.build(name, 7, channels, size).eval()
    shape = (size, size) if isinstance(size, int) else size
    assert model(torch.zeros(2, channels, *shape)).shape == (2, 7)


def test_option_a_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    block = BasicBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)  # leaves the shortcut alone
    x = torch.rand(1, 4, 6, 6)
    out = block(x)
    torch.testing.assert_close(out[:, 2:6], x[:, :, ::2, ::2])
    assert out[:, :2].abs().max() == 0
    assert out[:, 6:].abs().max() == 0


def test_stride_2_of_resnet8_pads_bottom_and_right():
    block = Block(1, 1, stride=2).eval()
    for convolution in (block.conv1, block.conv2, block.shortcut):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    with torch.no_grad():
        block.conv1.weight[0, 0, 2, 2] = 1 + EPS  # bottom right tap; batch norm divides by sqrt(1 + eps), twice
        block.conv2.weight[0, 0, 1, 1] = 1
    x = torch.rand(1, 1, 6, 6)
    expected = torch.zeros(1, 1, 3, 3)
    expected[..., :2, :2] = x[..., 2::2, 2::2]
    torch.testing.assert_close(block(x), expected)


def test_same_padding_is_tensorflows():
    assert [same_padding(49, 10, 2), same_padding(10, 4, 2), same_padding(40, 10, 2)] == [(4, 5), (1, 1), (4, 4)]
    assert [same_padding(32, 3, 2), same_padding(32, 3, 1), same_padding(32, 1, 2)] == [(0, 1), (1, 1), (0, 0)]


def test_bad_sizes_and_names_are_explained():
    with pytest.raises(InputError, match=r"resnet8: image_size: 30x32: .*multiples of 4"):
        networks.build("resnet8", 10, 3, (30, 32))
    with pytest.raises(InputError, match="lenet5: image_size: 8x8"):
        networks.build("lenet5", 10, 1, 8)
    with pytest.raises(InputError, match="did you mean resnet20"):
        networks.build("resnet-20", 10, 3, 32)
    with pytest.raises(InputError, match=r"mobilenet_v1: width_mult: 0.01 leaves no channels; expected 0.03125"):
        networks.mobilenet_v1(2, 3, 96, 0.01)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with an empty folder of weights in it."""
    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    for checkpoint in weights.CHECKPOINTS.values():
        (tmp_path / "data" / "weights" / checkpoint.path).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path / "data"


def keras_arrays() -> dict[str, np.ndarray]:
    """Arrays of a random ResNet-8, as Keras names and lays them out."""
    arrays = {}
    for key, value in resnet8().state_dict().items():
        if not key.endswith("num_batches_tracked"):
            array = torch.rand_like(value).numpy()
            arrays[weights._keras_key(key)] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return arrays


def test_keras_checkpoint_fills_every_parameter(folder):
    arrays = keras_arrays()
    assert len(arrays) == 48
    np.savez(folder / "weights" / weights.CHECKPOINTS["resnet8"].path, **arrays)
    model, normalisation = networks.pretrained("resnet8", folder)
    assert normalisation == networks.Normalisation((0, 0, 0), (1, 1, 1))
    assert not model.training
    kernel = arrays["conv2d_3/kernel:0"]  # height, width, in, out
    assert model.block2.conv1.weight[5, 7, 1, 2] == kernel[1, 2, 7, 5]
    assert model.fc.weight[3, 4] == arrays["dense/kernel:0"][4, 3]
    np.testing.assert_array_equal(model.block3.bn2.running_var, arrays["batch_normalization_6/moving_variance:0"])


def test_weights_beside_the_data_folder_and_through_the_environment(folder, monkeypatch, tmp_path):
    (folder / "weights").rename(tmp_path / "weights")
    state = {k: v.numpy() for k, v in networks.build("resnet20", 10, 3, 32).state_dict().items()}
    np.savez(tmp_path / "weights" / weights.CHECKPOINTS["resnet20"].path, **state)
    monkeypatch.setenv(weights.ENVIRONMENT, str(folder))
    model, normalisation = networks.pretrained("resnet20")
    np.testing.assert_array_equal(model.linear.weight.detach(), state["linear.weight"])
    assert normalisation.std == pytest.approx((0.229 * 255, 0.224 * 255, 0.225 * 255))


def test_unusable_checkpoints_name_path_and_keys(folder, monkeypatch):
    path = folder / "weights" / weights.CHECKPOINTS["resnet8"].path
    with pytest.raises(InputError, match=r"resnet8_keras_float.npz: not found.*conv2d/kernel:0"):
        networks.pretrained("resnet8", folder)
    with pytest.raises(InputError, match="pass --data-root or set LUTIER_DATA"):
        networks.pretrained("resnet8")
    with pytest.raises(InputError, match=r"--data-root: .*no such folder"):
        networks.pretrained("resnet8", folder / "none")
    with pytest.raises(InputError, match="no checkpoint for 'lenet5'; there are: resnet8"):
        networks.pretrained("lenet5", folder)

    arrays = keras_arrays()
    np.savez(path, **arrays)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for broken in (b"", b"junk", whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"resnet8_keras_float.npz: .*conv2d/kernel:0"):
            networks.pretrained("resnet8", folder)

    np.savez(path, **{k: v for k, v in arrays.items() if k != "dense/bias:0"})
    with pytest.raises(InputError, match="no array dense/bias:0"):
        networks.pretrained("resnet8", folder)
    np.savez(path, **{**arrays, "dense/bias:0": np.zeros(11, np.float32)})
    with pytest.raises(InputError, match=r"dense/bias:0: shape \(11,\), expected \(10,\)"):
        networks.pretrained("resnet8", folder)
    np.savez(path, **{**arrays, "dense/bias:0": np.full(10, np.nan, np.float32)})
    with pytest.raises(InputError, match="not finite"):
        networks.pretrained("resnet8", folder)
    np.savez(path, **{**arrays, "dense/bias:0": np.array([{}] * 10, dtype=object)})
    with pytest.raises(InputError, match=r"pickle|Object arrays"):
        networks.pretrained("resnet8", folder)


def cifar10_accuracy(name: str) -> float:
    """Top-1 in percent on CIFAR-10's test images; skips where data or weights are not at hand."""
    root = os.environ.get(weights.ENVIRONMENT)
    if not root:
        pytest.skip(f"{weights.ENVIRONMENT} is not set to a folder with cifar10.webp.zip")
    try:
        model, normalisation = networks.pretrained(name)
        cifar10 = data.load("cifar10").normalised(normalisation.mean, normalisation.std)
    except InputError as error:
        pytest.skip(str(error))
    right = 0
    with torch.inference_mode():
        for x, y in cifar10.batches("test", 250):
            right += int((model(x).argmax(1) == y).sum())
    return 100 * right / cifar10.size("test")


def test_resnet8_reaches_its_published_accuracy():
    assert cifar10_accuracy("resnet8") == pytest.approx(87.21, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("resnet20", 91.73), ("resnet32", 92.63)])
def test_resnets_reach_their_published_accuracy(name, published):
    assert cifar10_accuracy(name) == pytest.approx(published, abs=0.05)
