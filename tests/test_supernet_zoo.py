"""Networks as people write them: they convert, and the searched network is the extracted and the reloaded one."""

import copy
import functools
import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import bytes_and_input, randomise
from zoo import ZOO
from zoo_outputs import leaves, shape

from cost_models.counts import COUNTS
from deploy.integer import run_program
from deploy.lower import lower
from deploy.results import values
from supernet import SearchSpace, Supernet, extract, load_subnet, save_subnet

SPACE = SearchSpace(weight_bits=(2, 4, 8), act_bits=(4, 8), widths=(0.25, 0.5, 1.0))
FLOAT = SearchSpace((32,), (32,), (1.0,))
IMAGES, X, MEAN, STD = bytes_and_input((3, 16, 16), 8)
MOST_AXES = 1000
"""Cells that an operator's cost may have, so that its grid can be tabulated."""


def model_of(name):
    torch.manual_seed(0)
    return randomise(ZOO[name]())


@functools.cache
def _converted(name):
    return Supernet.from_model(model_of(name), X, SPACE, MEAN, STD).eval()


def convert(name):
    return copy.deepcopy(_converted(name))


def architectures(net, count):
    draw = random.Random(0)
    return [{c.name: draw.choice(c.options) for c in net.choices()} for _ in range(count)]


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_the_float_network_is_the_model_and_so_is_its_reference(name):
    model = model_of(name)
    net = Supernet.from_model(model, X, FLOAT, MEAN, STD).eval()
    expected = model(X)
    torch.testing.assert_close(net(X), expected, rtol=1e-4, atol=1e-5)
    program = lower(extract(net, net.arch()))
    found = values(program, run_program(program, IMAGES))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert shape(found) == shape(expected)


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_searched_extracted_and_reloaded_are_one(name, tmp_path):
    net = convert(name)
    net.double()
    x = X.double()
    for choices in architectures(net, 3):
        net.fix(choices)
        expected = net(x)
        subnet = extract(net, choices)
        for found, wanted in zip(leaves(subnet(x)), leaves(expected), strict=True):
            largest = wanted.abs().max()
            assert largest > 0
            assert (found - wanted).abs().max() <= 1e-9 * largest
        save_subnet(subnet, tmp_path / "subnet.safetensors")
        loaded = load_subnet(tmp_path / "subnet.safetensors").double()
        assert all(map(torch.equal, leaves(loaded(x)), leaves(subnet(x))))
        assert shape(loaded(x)) == shape(expected)
        assert [n.name for n in loaded.nodes] == [n.name for n in subnet.nodes]
        full = [spec for op in net.schedule().ops if (spec := op.spec(choices)) is not None]
        assert full == [op.spec({}) for op in subnet.schedule().ops] == [op.spec({}) for op in loaded.schedule().ops]


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_integers_follow_the_fake_quantized_network(name):
    net = convert(name)
    subnet = extract(net, net.uniform(8, 8, 0.5)).double()
    program = lower(subnet)
    found = values(program, run_program(program, IMAGES))
    for scores, expected in zip(leaves(found), leaves(subnet(X.double())), strict=True):
        assert (scores - expected).abs().max() < 0.03 * expected.abs().max()
    assert [op.name for op in program.ops] == [op.name for op in subnet.schedule().ops]


@pytest.mark.parametrize("name", ZOO)
def test_every_operator_has_a_cost_for_all_of_its_options(name):
    for op in convert(name).schedule().ops:
        assert np.prod([len(choice.options) for choice in op.choices]) <= MOST_AXES
        assert all(COUNTS["weights"](spec) >= 0 for spec in op.grid())


@pytest.mark.parametrize("name", ["preactivation", "convnext", "multi_scale"])
@torch.no_grad()
def test_a_model_of_float64_stays_one(name):
    model = model_of(name).double()
    net = Supernet.from_model(model, X.double(), FLOAT, MEAN, STD).eval()
    torch.testing.assert_close(net(X.double()), model(X.double()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["densenet", "convnext", "shufflenet_v2"])
def test_every_parameter_gets_a_gradient(name):
    """With all options mixed, as in a search."""
    net = convert(name).train()
    net(X).square().sum().backward()
    searchable = [c.index for c in net.choices() if not c.pinned]
    assert net.alpha.grad[searchable].abs().sum(1).min() > 0
    assert [n for n, p in net.named_parameters() if p.grad is None] == ["quantizers.x.step"]


class Everything(torch.nn.Module):
    """A concat, a shuffle, a split, a layer norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(3, 8, 1)
        self.norm, self.fc = torch.nn.LayerNorm(8), torch.nn.Linear(16, 4)

    def forward(self, x):
        left, right = F.channel_shuffle(torch.cat([self.a(x), self.b(x)], 1), 2).chunk(2, 1)
        left = self.norm(left.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.fc(torch.cat([left, right], 1).mean((2, 3)))


def test_nothing_breaks_a_compiled_step():
    net = Supernet.from_model(Everything().train(), X, SPACE, MEAN, STD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's about its own tracing
        torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(X), net(X))


def test_layers_of_a_dense_block_have_widths_of_their_own():
    net = convert("densenet")
    grown = [net.width[f"block1.{i}.conv2"] for i in range(3)]
    assert len({*grown, net.width["stem"]}) == 4
    assert all(choice.options == (4, 8) for choice in grown)
    assert len({net.quantizer(n) for n in ("stem", "block1.0.conv2", "block1.2.conv2")}) == 1
    values = {c.name: c.options[0] for c in net.choices()}
    assert extract(net, values).layer("block1.2.conv2").weight.shape[0] == 4


def test_groups_of_a_convolution_keep_the_same_channels():
    net = convert("resnext")
    first, second = net.layout["blocks.0.body.0.0"], net.layout["blocks.0.body.1.0"]
    assert [group.name for group in first] == ["blocks.0.body.0.0"] * 4
    assert [group.name for group in second] == ["blocks.0.body.1.0"] * 4
    subnet = extract(net, {c.name: c.options[0] for c in net.choices()})
    weight = subnet.layer("blocks.0.body.1.0").weight
    assert weight.shape == (4, 1, 3, 3)


def test_parts_of_a_split_are_chosen_by_themselves_or_alike():
    net = convert("multi_scale")
    assert [g.channels for g in net.layout["cat"]] == [16, 24]
    net = convert("cspnet")
    (half,) = {group.name for group in net.layout["cv1.0"]}
    assert len(net.layout["cv1.0"]) == 2
    assert net.groups["getitem"].name == half
