"""Slices, frames and zero channels, against what torch makes of them."""

import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import randomise
from test_supernet_refused import Call
from test_supernet_register import FLOAT, Net
from test_supernet_zoo import IMAGES, MEAN, SPACE, STD, convert
from test_supernet_zoo import X as PICTURES
from torch import nn

from deploy.integer import run_tensors
from deploy.lower import lower
from lut.errors import InputError
from supernet import Supernet, extract
from supernet.nodes import last_layers

X = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """One call between two convolutions; the last one keeps the pixels apart."""

    def __init__(self, call, channels=8):
        super().__init__()
        self.call, self.a, self.b = call, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(channels, 4, 1)

    def forward(self, x):
        return self.b(self.call(self.a(x)))


def kinds(model):
    """Those of the nodes between the two convolutions, where the network computes what the model does."""
    net = Supernet.from_model(randomise(model), X, FLOAT).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(X), model.eval()(X), rtol=1e-5, atol=1e-6)
    return [node.kind for node in net.nodes if node.name not in ("x", "a", "b")]


def slices(size):
    ends = range(-size, size + 1)
    found = itertools.product([None, *ends], [None, *ends], [None, 1, 2, 3])
    return [part for part in itertools.starmap(slice, found) if len(range(size)[part])]


def test_every_slice_of_rows_and_columns_is_torchs():
    draw = random.Random(0)
    for rows in draw.sample(slices(7), 60):
        cols = draw.choice(slices(6))
        found = kinds(Model(lambda x, rows=rows, cols=cols: x[:, :, rows, cols]))
        begins = range(7)[rows].start or range(6)[cols].start
        assert len(found) <= 1 and (found == ["conv2d"] or not begins)


@pytest.mark.parametrize(
    ("call", "expected", "channels"),
    [
        (lambda x: x[:, :, ::2, ::3], ["resample"], 8),
        (lambda x: x[..., :5:2, :], ["conv2d"], 8),
        (lambda x: x[:, :, :-2:3], ["conv2d"], 8),
        (lambda x: x[:, :, :-1:2, :-1:3], ["conv2d"], 8),
        (lambda x: x[:, 2:6, 1:, ::2], ["split", "conv2d"], 4),
        (lambda x: x[:, :3].narrow(2, -5, 4).narrow(1, 1, 2), ["split", "conv2d", "split"], 2),
        (lambda x: x.permute(0, 2, 3, 1)[:, 1:, :-1, 4:].permute(0, 3, 1, 2), ["split", "conv2d"], 4),
        (lambda x: x[:, ::2], ["shuffle", "split"], 4),
        (lambda x: x[:, 3::4], ["shuffle", "split"], 2),
        (lambda x: x[:, 1:7:4, 1:], ["shuffle", "split", "conv2d"], 2),
        (lambda x: x[:, 5:6:3], ["split"], 1),
        (lambda x: x[:, :, 0].unsqueeze(2), ["conv2d"], 8),
        (lambda x: x[:, :, -1, 2][:, :, None, None], ["conv2d"], 8),
        (lambda x: x[..., 0].unsqueeze(-1), ["conv2d"], 8),
        (lambda x: x[:, -1][:, None], ["split"], 1),
        (lambda x: x[:, :1].squeeze(1).unsqueeze(1), ["split"], 1),
        (lambda x: x.select(2, -2).unsqueeze(2), ["conv2d"], 8),
        (lambda x: torch.select(x, dim=1, index=0).unsqueeze(1), ["split"], 1),
        (lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0][..., None, None], ["avg_pool"], 8),
        (lambda x: F.pad(x, (-1, -2)), ["conv2d"], 8),
        (lambda x: F.pad(x, (-1, 1, 2, -2)), ["conv2d"], 8),
        (lambda x: F.pad(x, (1, 0, 0, 0, 0, 0)), [], 8),
        (lambda x: F.pad(x, (0, 1, 0, 0, 1, 2)), ["resample"], 11),
        (lambda x: F.pad(x, (0, 0, 1, -1, -1, 2)), ["resample", "pad", "split", "conv2d"], 9),
        (nn.ZeroPad2d(-1), ["conv2d"], 8),
        (nn.ConstantPad2d((0, 1, -1, 0), 0.0), ["conv2d"], 8),
        (lambda x: torch.cat([x, torch.zeros_like(x[:, :3])], 1), ["resample"], 11),
        (lambda x: torch.cat([torch.zeros_like(x)[:, :3, ...], x], dim=-3), ["resample"], 11),
        (lambda x: torch.cat((x, x * 0), 1), ["resample"], 16),
        (lambda x: torch.cat((x, x * 0 + 1), 1), ["conv2d", "concat"], 16),
        (lambda x: torch.cat([x.new_zeros(x.shape[0], 2, *x.shape[2:]), x, x.new_zeros(2, 1, 7, 6)], 1),
         ["resample"], 11),
        (lambda x: torch.cat([x, torch.zeros(x.shape[0], 2, *x.shape[2:], device=x.device)], 1), ["resample"], 10),
        (lambda x: torch.cat([x, torch.zeros((x.size(0), 2, 7, 6), dtype=x.dtype)], 1), ["resample"], 10),
        (lambda x: torch.cat([x, torch.zeros_like(x[:, :1]), torch.zeros_like(x[:, :2]), x[:, 1:3],
                              x.new_zeros(2, 3, 7, 6)], 1), ["split", "resample", "resample", "concat"], 16),
        (lambda x: torch.cat([x[:, :, 1::2, ::2], torch.zeros_like(x[:, 4:, 1::2, ::2])], 1),
         ["conv2d", "resample"], 12),
        (lambda x: torch.cat([x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)[..., :2] * 0], 3).permute(0, 3, 1, 2),
         ["resample"], 10),
    ],
)  # fmt: skip
def test_what_people_write_becomes(call, expected, channels):
    assert kinds(Model(call, channels)) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[:, 0],
        lambda x: x[:, -1:].squeeze(1),
        lambda x: torch.sigmoid(x[:, 1]),
        lambda x: x[:, :, 0, 0],
        lambda x: x[:, :, 0].flatten(1),
        lambda x: (x[:, 0], x[:, 1:]),
    ],
)
def test_what_is_indexed_may_be_returned(call):
    model = randomise(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), Call(call))).eval()
    net = Supernet.from_model(model, X, FLOAT).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(X), model(X), rtol=1e-5, atol=1e-6)


def test_a_channel_stride_is_of_integers_too():
    model = randomise(Net(Call(lambda x: torch.cat([x[:, 1::2], x[:, ::2]], 1))))
    net = Supernet.from_model(model, PICTURES, SPACE, MEAN, STD).eval()
    tensors = run_tensors(lower(extract(net, net.uniform(8, 8))), IMAGES)
    joined = next(node for node in net.nodes if node.kind == "concat")
    source = next(node for node in net.nodes if node.kind == "shuffle").inputs[0]
    codes = tensors[source]
    assert (tensors[joined.name] == np.concatenate([codes[..., 1::2], codes[..., ::2]], -1)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x[:, ::3], "a step of 3 does not divide 8 channels; that is not deployable"),
        (lambda x: x[:, [0, 3]], "only channels, rows and columns can be sliced or indexed, x[:, a:b:s, c:d:s, i]"),
        (lambda x: x[:1], "only channels, rows and columns can be sliced or indexed"),
        (lambda x: x[0], "only channels, rows and columns can be sliced or indexed"),
        (lambda x: x.select(0, 1), "only channels, rows and columns can be sliced or indexed"),
        (lambda x: x[:, :, 5:2], "an empty slice is not deployable"),
        (lambda x: F.pad(x, (1, 1), value=1.0), "only padding with zeros is deployable"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "only padding with zeros is deployable"),
        (nn.ConstantPad2d(1, 0.5), "only padding with zeros is deployable"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 0, 2)), "only channels, rows and columns can be padded"),
        (lambda x: torch.cat([x * 0, torch.zeros_like(x)], 1), "nothing but zeros is joined"),
        (lambda x: torch.cat([x, torch.zeros_like(x)], 2), "only a concat of channels is deployable, not of axis 2"),
        (lambda x: torch.cat([x, torch.ones(2, 8, 7, 6)], 1), "constants can't be joined with what is computed"),
        (lambda x: x + torch.zeros_like(x), "arithmetic with Node is not deployable"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InputError) as refused:
        Supernet.from_model(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Call(call)), X)
    assert message in str(refused.value)


def test_a_window_is_no_layer_to_search_and_has_its_inputs_channels():
    net = convert("reductions")
    window = next(node for node in net.nodes if node.single)
    assert (window.kind, window.kernel, window.depthwise) == ("conv2d", (2, 2), True)
    assert net.layout[window.name] == net.layout[window.inputs[0]]
    assert net.weight[window.name].options == (2,)
    weight = net.layer(window.name).weight
    assert weight.sum() == len(weight) and bool((weight[:, 0, 1, 1] == 1).all())
    assert torch.equal(net.layer(window.name).quantized(None, [0]), weight), "exact at any number of bits"
    model = Model(lambda x: x[:, :, 1:, 1:])
    net = Supernet.from_model(nn.Sequential(model.a, Call(lambda x: x[:, :, 1:, 1:])), X)
    assert last_layers(net.nodes) == ["0"], "what it reads"


def test_a_shift_takes_its_pad_in():
    net = convert("reductions")
    pads = {node.name: node.pad for node in net.nodes if node.single}
    assert list(pads.values()) == [(0, 0, 0, 0), (0, 0, 1, 1)]
    assert not [node for node in net.nodes if node.kind == "pad"]


@torch.no_grad()
def test_a_window_of_integers_is_the_window_of_the_codes_up_to_a_rounding():
    model = randomise(Net(Call(lambda x: x[:, :, 1:, 2:])))
    net = Supernet.from_model(model, PICTURES, SPACE, MEAN, STD).eval()
    program = lower(extract(net, net.uniform(8, 8)))
    tensors = run_tensors(program, IMAGES)
    node = next(node for node in net.nodes if node.single)
    codes, made = (tensors[name].astype(float) for name in (node.inputs[0], node.name))
    source, target = (program.tensors[name] for name in (node.inputs[0], node.name))
    real = ((codes - source.zero) * source.scale)[:, 1:, 2:]
    rounded = (real / target.scale).round() + target.zero
    assert abs(made - rounded.clip(0, 2**target.bits - 1)).max() <= 1
    assert (made == rounded.clip(0, 2**target.bits - 1)).mean() > 0.99


def test_a_shortcut_of_zeros_has_the_width_of_the_sum():
    net = convert("zero_shortcuts")
    padded = [node for node in net.nodes if node.kind == "resample"]
    assert [node.shape[0] for node in padded] == [16, 24, 36]
    assert [node.gather.count(-1) for node in padded] == [8, 8, 12]
    assert not [node for node in net.nodes if node.kind in ("concat", "split")]
    for node in padded:
        assert not all(net.width[group.name].pinned for group in net.layout[node.name])
