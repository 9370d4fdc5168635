"""One thing, many spellings: each converts to the same operators and computes what the model does."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lut.device import Device, Supports
from lut.errors import InputError
from supernet import SearchSpace, Supernet, extract

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Between(nn.Module):
    """Something between a convolution and a classifier; `more`: layers that it uses."""

    def __init__(self, call, *more, out=8):
        super().__init__()
        self.conv, self.more, self.call = nn.Conv2d(3, 8, 3, padding=1), nn.ModuleList(more), call
        self.fc = nn.Linear(out, 4)

    def forward(self, x):
        x = self.call(self.conv(x), *self.more)
        return self.fc(x.mean((2, 3)) if x.dim() == 4 else x)


def kinds(model):
    """Kinds of the nodes between the first convolution and the mean or classifier, as the model computes it."""
    randomise(model)
    net = Supernet.from_model(model, X, FLOAT).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(X), model(X), rtol=1e-4, atol=1e-5)
        searched = Supernet.from_model(model, X).double().eval()
        values = searched.uniform(4, 4, 0.5).choices
        searched.fix(values)
        torch.testing.assert_close(extract(searched, values)(X.double()), searched(X.double()), rtol=1e-9, atol=1e-12)
    return [node.fn or node.kind for node in net.nodes[1:-1]], net


class Conv(nn.Conv2d):
    """A subclass that keeps its forward."""

    def extra_repr(self):
        return "mine"


class SameConv(nn.Conv2d):
    """As in repositories that copy TensorFlow's padding."""

    def forward(self, x):
        rows = x.size()[-2]
        more = max((math.ceil(rows / 2) - 1) * 2 + 3 - rows, 0)
        if more > 0:
            x = F.pad(x, [more // 2, more - more // 2, more // 2, more - more // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x):
        w = self.weight
        w = (w - w.mean(dim=(1, 2, 3), keepdim=True)) / (w.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, padding=1)


class Halved(nn.Conv2d):
    """A step of the layer is the subclass's own."""

    def _conv_forward(self, x, weight, bias):
        return F.conv2d(x, weight * 0.5, bias, self.stride, self.padding)


class FirstNorm(nn.LayerNorm):
    """torchvision's LayerNorm2d."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)


def hand_swish(x):
    return x * (F.relu6(x + 3) / 6)


def checked(x, conv):
    assert x.shape[1] == 8, "channels"
    if x.size(2) % 3:
        x = conv(x)
    for _ in range(x.size(0) - 1):
        x = F.relu(x)
    return x


@pytest.mark.parametrize(
    ("call", "more", "expected"),
    [
        *[(call, (), ["conv2d"]) for call in (
            F.relu, torch.relu, lambda x: x.relu(), lambda x: x.relu_(), lambda x: F.relu(x, inplace=True),
            lambda x: x.clamp(min=0), lambda x: torch.clamp(x, 0, 6), lambda x: x.clamp_(0, 6), F.relu6,
            lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: torch.clamp_min(x, 0), lambda x: F.dropout(x, 0.5, False),
            lambda x: x * 0.5, lambda x: x / 6, lambda x: 3 - x, lambda x: -x, lambda x: x.mul(2.0).add(1.0),
            lambda x: x + x, lambda x: x * torch.arange(8.0).view(1, 8, 1, 1), lambda x: x.contiguous().clone(),
            lambda x: x[:, None].squeeze(1), lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
            lambda x: x.transpose(1, 2).swapaxes(1, 2), lambda x: torch.cat([x], 1), lambda x: x.narrow(1, 0, 8),
            lambda x: F.relu(input=x), lambda x: nn.ReLU()(x), lambda x: nn.Sequential(nn.ReLU())(x),
            lambda x: torch.mul(input=x, other=2.0), lambda x: F.dropout(x, 0.0), lambda x: torch.cat(x.chunk(1, 1), 1),
        )],
        *[(lambda x, m: m(x), (module,), ["conv2d"]) for module in (
            nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, 6), nn.Dropout2d(), nn.AlphaDropout(), nn.Identity(), nn.Sequential(),
            nn.BatchNorm2d(8), OwnNorm(8), nn.AdaptiveAvgPool2d((8, None)),
        )],
        *[(call, (), ["conv2d", fn]) for fn, call in (
            ("hardswish", F.hardswish), ("hardsigmoid", F.hardsigmoid), ("silu", F.silu), ("sigmoid", torch.sigmoid),
            ("sigmoid", lambda x: x.sigmoid()), ("tanh", torch.tanh), ("gelu", F.gelu), ("hardswish", hand_swish),
            ("hardswish", lambda x: x * F.relu6(x + 3.0) / 6.0), ("silu", lambda x: x.mul(x.sigmoid())),
            ("hardsigmoid", lambda x: F.relu6(x + 3, True) / 6), ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        )],
        *[(call, (), ["conv2d", "avg_pool"]) for call in (
            lambda x: x.mean([-2, -1]), lambda x: x.mean(dim=(2, 3), keepdim=True), lambda x: x.flatten(2).mean(2),
            lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1), lambda x: x.view(x.size(0), 8, -1).mean(-1),
            lambda x: F.avg_pool2d(x, 8).squeeze(3).squeeze(2), lambda x: F.avg_pool2d(x, x.shape[2:]).reshape(-1, 8),
            lambda x: x.permute(0, 2, 3, 1).mean((1, 2)), lambda x: x.mean((2, 3), True)[:, :, 0:1, 0:1],
        )],
        (lambda x: F.adaptive_max_pool2d(x, 2), (), ["conv2d", "max_pool"]),
        (lambda x: F.max_pool2d(x, 3, 1, 1, 2), (), ["conv2d", "max_pool"]),
        (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), (), ["conv2d", "max_pool"]),
        (lambda x: F.relu(F.max_pool2d(x, 2)), (), ["conv2d", "max_pool"]),
        (lambda x: F.avg_pool2d(x, 3, 1, 1).relu(), (), ["conv2d", "pad", "avg_pool", "conv2d"]),
        (lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2), (), ["conv2d", "pad", "max_pool"]),
        (lambda x: x[..., ::2, ::2], (), ["conv2d", "resample"]),
        (lambda x: torch.sigmoid(x).relu(), (), ["conv2d", "sigmoid", "conv2d"]),
        (lambda x, m: m(x), (Conv(8, 8, 3),), ["conv2d", "conv2d"]),
        (lambda x, m: m(x), (Halved(8, 8, 3),), ["conv2d", "conv2d"]),
        (lambda x, m: m[:2](x), (nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Tanh()),), ["conv2d", "conv2d"]),
        (lambda x, m: m(input=x), (nn.Conv2d(8, 8, 1),), ["conv2d", "conv2d"]),
        (lambda x, m: F.conv2d(input=x, weight=m.weight, bias=m.bias), (nn.Conv2d(8, 8, 1),), ["conv2d", "conv2d"]),
        (lambda x, m: torch.add(input=m(x), other=x), (nn.Conv2d(8, 8, 1),), ["conv2d", "conv2d_add"]),
        (lambda x: torch.flatten(input=x.mean((2, 3), True), start_dim=1), (), ["conv2d", "avg_pool"]),
        (lambda x, m: m(x), (FirstNorm(8, 1e-3),), ["conv2d", "layer_norm"]),
        (lambda x, m: m(x), (FirstNorm(8, elementwise_affine=False),), ["conv2d", "layer_norm"]),
        (lambda x, m: m(x), (SameConv(8, 8, 3, stride=2),), ["conv2d", "conv2d"]),
        (lambda x, m: m(x), (Standardised(8, 8, 3),), ["conv2d", "conv2d"]),
        (lambda x, m: F.linear(x.mean((2, 3)), m.weight, m.bias), (nn.Linear(8, 8),), ["conv2d", "avg_pool", "linear"]),
        (lambda x, m: m(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), (nn.Linear(8, 8),), ["conv2d", "conv2d"]),
        (lambda x, m: x * m(x.mean((2, 3)))[:, :, None, None], (nn.Linear(8, 8),),
         ["conv2d", "avg_pool", "linear", "mul"]),
        (lambda x, m: m(x.mean((2, 3))).relu(), (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),),
         ["conv2d", "avg_pool", "linear"]),
        (checked, (nn.Conv2d(8, 8, 1),), ["conv2d", "conv2d"]),
        (lambda x, m: m(x)[:, ::1, :, :].mul(0.5), (weight_norm(nn.Conv2d(8, 8, 1)),), ["conv2d", "conv2d"]),
        (lambda x, m: m(x)[:, :8], (nn.Conv2d(8, 16, 3, padding=1, groups=8),), ["conv2d", "conv2d", "split"]),
    ],
)  # fmt: skip
def test_spellings(call, more, expected):
    model = Between(call, *more)
    found, _ = kinds(model)
    with torch.no_grad():
        pooled = call(model.conv(X), *more).dim() == 4
    assert found == expected + ["avg_pool"] * (pooled and expected[-1] != "avg_pool")


@pytest.mark.parametrize(
    ("call", "starts"),
    [
        (lambda x: torch.cat([p for p in x.chunk(2, 1)][::-1], 1), [0, 4]),
        (lambda x: torch.cat([*torch.split(x, [2, 6], dim=1)], 1), [0, 2]),
        (lambda x: torch.cat(list(x.split(4, 1)), 1), [0, 4]),
        (lambda x: torch.cat(x.chunk(2, 1), 1), [0, 4]),
        (lambda x: torch.cat(tensors=torch.split(tensor=x, split_size_or_sections=[2, 6], dim=1), dim=1), [0, 2]),
        (lambda x: torch.cat(x.chunk(4, 1)[::-2], 1), [2, 6]),
        (lambda x: torch.cat((x[:, :3], x[:, 3:]), 1), [0, 3]),
        (lambda x: torch.cat((x[:, -3:], x.narrow(1, 0, 5)), 1), [0, 5]),
    ],
)
def test_parts(call, starts):
    with torch.no_grad():
        out = call(torch.zeros(1, 8, 8, 8)).shape[1]
    found, net = kinds(Between(call, out=out))
    assert found == ["conv2d", "split", "split", "concat", "avg_pool"]
    assert sorted(node.start for node in net.nodes if node.kind == "split") == starts


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.channel_shuffle(x, 4),
        lambda x: x.view(x.shape[0], 4, 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2),
        lambda x: x.reshape(-1, 4, x.size(1) // 4, 8, 8).permute(0, 2, 1, 3, 4).reshape(-1, 8, 8, 8),
        nn.ChannelShuffle(4),
        lambda x: F.silu(x.view(-1, 4, 2, 8, 8)).transpose(1, 2).reshape(x.shape) * torch.arange(8.0).view(8, 1, 1),
        lambda x: (
            (x.view(-1, 4, 2, 8, 8) * 2).mul(3).transpose(1, 2).reshape(x.shape) * torch.arange(8.0).view(8, 1, 1)
        ),
    ],
)
def test_shuffles(call):
    _, net = kinds(Between(call))
    assert [node.groups for node in net.nodes if node.kind == "shuffle"] == [4]


def test_summary_says_what_is_searched_tied_costed_and_deployable():
    model = Between(lambda x, a, b: torch.cat([F.relu(a(x)), b(x)], 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 12, 7), out=20)
    model.call = lambda x, a, b: torch.cat([F.relu(a(x)), F.pad(b(x), (3, 3, 3, 3))], 1)
    net = Supernet.from_model(model, X)
    device = Device("board", supports=Supports(("conv2d", "linear"), (8,), (4, 8), max_kernel=5))
    table = SimpleNamespace(kinds={"conv2d"}, missing=lambda specs: [spec for spec in specs if spec.kind != "conv2d"])
    lines = {line.split()[0]: line for line in net.summary(device, table).splitlines()}
    assert "4/8 + 4/8/12" in " ".join(lines["cat"].split()) or "4/8" in lines["cat"]
    assert "the device has no concat" in lines["cat"] and " no " in lines["cat"]
    assert "the device has no 2/4-bit weights" in lines["more.0"] and "yes" in lines["more.0"]
    assert "its kernel exceeds the device's 5" in lines["more.1"]
    assert "weight bits pinned: the first layer" in lines["conv"]
    assert "width pinned: the network's output; weight bits pinned: the last layer" in lines["fc"]
    plain = net.summary(Device.load("host-cpu"))
    assert " no " not in plain


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "example input: torch.uint8; expected floats"),
        (torch.zeros(2, 3, 8, 8, device="meta"), r"conv\.weight: on cpu, and the example input on meta"),
        (torch.zeros(2, 4, 8, 8), "does not fit"),
    ],
)
def test_wrong_examples(example, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(Between(F.relu), example)
