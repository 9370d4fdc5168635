"""The share of convolutions that can be searched, of every network of the project and of the tests."""

import re

import pytest
import torch
from models import Mixture, PlainAdd, randomise
from test_supernet_zoo import X as PICTURES
from test_supernet_zoo import convert
from torch import nn
from zoo import ZOO

from supernet import SearchSpace, Supernet
from supernet.networks import IMAGENET, NETWORKS, build

SPACE = SearchSpace((2, 4, 8), (4, 8), (0.25, 0.5, 1.0))
LINE = re.compile(r"searchable: (\d+) of (\d+) (convolutions|linear layers) in bits, (\d+) of (\d+) in width(; .*)?")
ENDS = {"the first layer", "the last layer", "a last layer"}
STRUCTURE = {
    "the network's output", "the image's channels", "a channel shuffle needs all of its channels",
    "a grouped convolution with one channel per group",
}  # fmt: skip
SIZES = {"autoencoder": (1, (5, 128)), "ds_cnn": (1, (49, 10)), "lenet5": (1, (28, 28)), "mobilenet_v1": (3, (96, 96)),
         "mobilenet_v2": (3, (96, 96))}  # fmt: skip
"""Channels and size of an image, where they are not 3 and 32x32 (64x64 for networks of ImageNet's size)."""


def read(net):
    """(searchable in bits, in width, of how many; the reasons for bits, for width: how many by reason)."""
    found = LINE.fullmatch(net.summary().splitlines()[-1])
    bits, count, _, width, again, rest = found.groups()
    assert count == again
    reasons = {"bits": {}, "width": {}}
    for part in (rest or "").split("; ")[1:]:
        what, _, listed = part.partition(" pinned: ")
        reasons[what] = {reason: int(n) for n, reason in re.findall(r"(\d+) \((.*?)\)", listed)}
    return int(bits), int(width), int(count), reasons["bits"], reasons["width"]


def check(net):
    bits, width, count, why_bits, why_width = read(net)
    assert count > 0
    assert bits + sum(why_bits.values()) == width + sum(why_width.values()) == count
    assert set(why_bits) <= ENDS
    assert width >= 0.8 * count or set(why_width) <= STRUCTURE


@pytest.mark.parametrize("name", [*NETWORKS, *IMAGENET])
def test_most_convolutions_of_the_projects_networks_are_searchable(name):
    channels, size = SIZES.get(name, (3, (64, 64) if name in IMAGENET else (32, 32)))
    torch.manual_seed(0)
    x = torch.rand(1, channels, *size)
    check(Supernet.from_model(build(name, 10, channels, size), x, SPACE))


@pytest.mark.parametrize("name", ZOO)
def test_most_convolutions_of_other_networks_are_searchable(name):
    check(convert(name))


@pytest.mark.parametrize(("model", "channels", "size"), [(Mixture, 3, 16), (PlainAdd, 1, 8)])
def test_most_convolutions_of_the_toys_are_searchable(model, channels, size):
    check(Supernet.from_model(randomise(model()), torch.rand(2, channels, size, size), SPACE))


def test_the_line_counts_what_is_pinned_and_says_why():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(),
                          nn.Conv2d(4, 32, 3), nn.ChannelShuffle(2), nn.Conv2d(32, 8, 1), nn.Sigmoid(), nn.Flatten(),
                          nn.Linear(8 * 12 * 12, 4))  # fmt: skip
    net = Supernet.from_model(model, PICTURES, SPACE)
    assert net.summary().splitlines()[-1] == (
        "searchable: 3 of 4 convolutions in bits, 2 of 4 in width; bits pinned: 1 (the first layer); width pinned: "
        "1 (one option in the space for 4 channels), 1 (a channel shuffle needs all of its channels)"
    )
    pinned = SearchSpace((2, 4, 8), (4, 8), (0.25, 1.0), first_last_bits=None, pin={"3": {"weight_bits": 4}})
    bits, _, count, why, _ = read(Supernet.from_model(model, PICTURES, pinned))
    assert (bits, count, why) == (3, 4, {"the space has one option for it": 1})


def test_a_network_without_convolutions_counts_its_linear_layers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    net = Supernet.from_model(model, PICTURES, SPACE)
    assert net.summary().splitlines()[-1] == (
        "searchable: 1 of 3 linear layers in bits, 2 of 3 in width; bits pinned: 1 (the first layer), "
        "1 (the last layer); width pinned: 1 (the network's output)"
    )


def test_every_layer_counts_once_and_copies_do_not():
    assert read(convert("retina"))[2] == 5, "two of the tower, the last one, two in front of them"
    assert read(convert("reductions"))[2] == 5, "without windows"
