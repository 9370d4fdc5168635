"""What a user's model does not train, the supernet and what is extracted of it do not train either."""

import copy

import pytest
import torch
import torch.nn.functional as F
from models import Mixture, randomise
from test_supernet_zoo import MEAN, SPACE, STD, X, convert
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from search.relax import softmax
from supernet import SearchSpace, Supernet, extract, load_subnet, save_subnet


def frozen(network):
    """Beside the step of the image, whose bits are pinned."""
    found = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return found - {"quantizers.x.step"}


def net_of(model, *names, space=SPACE):
    """Of a model with what is under `names` frozen."""
    torch.manual_seed(0)
    for name, parameter in randomise(model).named_parameters():
        parameter.requires_grad_(not name.startswith(names))
    return Supernet.from_model(model, X, space, MEAN, STD).train()


def test_a_frozen_trunk_stays_as_it_is_and_all_else_is_trained(tmp_path):
    net = net_of(Mixture(), "stem", "blocks.0", "fc.bias")
    expected = {f"layers.stem__1.{word}" for word in ("weight", "bias", "norm.weight", "norm.bias")}
    expected |= {f"layers.blocks__0__conv{i}.{word}" for i in (1, 2) for word in ("weight", "norm.weight", "norm.bias")}
    expected |= {"layers.fc.bias"}
    subnet = extract(net, net.arch())
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    for network in (net, copy.deepcopy(net), subnet, load_subnet(tmp_path / "subnet.safetensors")):
        assert frozen(network) == expected
        network.train()
        before = copy.deepcopy(network.state_dict())
        optimizer = torch.optim.SGD(network.parameters(), 0.1, weight_decay=0.1)
        (network(X) if network is not net else net(X, net.sample(softmax()))).square().mean().backward()
        optimizer.step()
        changed = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
        assert not changed & expected
        assert {"layers.stem__1.step", "layers.fc.weight", "layers.blocks__1__conv1.weight"} <= changed


class Functions(nn.Module):
    """Layers that are no Conv2d: each of them copied in another way."""

    def __init__(self):
        super().__init__()
        self.stem, self.normed = nn.Conv2d(3, 8, 3, padding=1), weight_norm(nn.Conv2d(8, 8, 1))
        self.weight, self.bias = nn.Parameter(torch.randn(8, 8, 1, 1)), nn.Parameter(torch.randn(8))
        self.first, self.last = nn.BatchNorm2d(8), nn.BatchNorm1d(8)
        self.pixels, self.layer_norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.gain = nn.Parameter(torch.randn(8, 1, 1))
        self.scale, self.shift = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.bare, self.fc = nn.Conv2d(8, 8, 1, bias=False), nn.Linear(8, 4)

    def forward(self, x):
        x = self.normed(self.stem(x).relu()).relu()
        x = F.conv2d(self.first(x).relu(), self.weight * 0.5, self.bias)
        x = F.batch_norm(x, self.mean, self.var, self.scale, self.shift, self.training).relu()
        x = self.bare(x) + 1
        x = self.pixels(x.permute(0, 2, 3, 1))
        x = self.layer_norm(x).permute(0, 3, 1, 2) * self.gain
        return self.fc(self.last(x.mean((2, 3))))


PARTS = {
    "normed": {"normed.weight", "normed.bias"},
    "weight": {"conv2d.weight"},
    "bias": {"conv2d.bias"},
    "first": {"first.weight", "first.norm.weight", "first.norm.bias"},
    "last": {"last.weight", "last.norm.weight", "last.norm.bias"},
    "pixels": {"pixels.weight", "pixels.bias"},
    "layer_norm": {"layer_norm.weight", "layer_norm.bias"},
    "gain": {"mul_1.weight"},
    "scale": {"conv2d.norm.weight"},
    "bare": {"bare.weight", "bare.bias"},
}
"""By the name in the model, the parameters in the network."""


@pytest.mark.parametrize("name", PARTS)
def test_every_way_that_a_layer_is_copied(name):
    space = SearchSpace((8,), (8,), (0.5, 1.0))
    net = net_of(Functions(), name, space=space)
    for network in (net, extract(net, net.arch())):
        found = {full.removeprefix("layers.").removeprefix("norms.") for full in frozen(network)}
        assert found == PARTS[name]
    assert frozen(net_of(Functions(), "nothing", space=space)) == set()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.conv(self.conv(self.stem(x)).relu()).mean((2, 3)))


def test_a_shared_layer_is_frozen_in_every_use():
    net = net_of(Shared(), "conv")
    assert frozen(net) == {"layers.conv.weight", "layers.conv.bias"}
    assert not net.layer("conv.use2").weight.requires_grad


def test_a_window_of_an_image_stays_one():
    net = convert("reductions").train()
    windows = [node.name for node in net.nodes if node.single]
    assert frozen(net) == {f"layers.{name}.weight" for name in windows}
