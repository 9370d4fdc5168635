"""What is changed in place: later readers get the changed tensor, as in eager PyTorch, or the model is refused."""

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from torch import nn

from lut.errors import InputError
from supernet import SearchSpace, Supernet
from supernet.mixed import MixedOp

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Net(nn.Module):
    """A convolution, a call of two more convolutions and an activation, a classifier."""

    def __init__(self, call, act=None, out=8):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.call, self.act, self.fc = call, act, nn.Linear(out, 4)

    def forward(self, x):
        return self.fc(self.call(self, self.conv(x)).mean((2, 3)))


def dropped(s, x):
    F.relu(x, inplace=True)
    return x


def aliased(s, x):
    before = x
    x += s.a(x)
    return s.b(x) + before


def added(s, x):
    x.add_(s.a(x))
    return s.b(x)


def clamped(s, x):
    y = s.a(x)
    x.clamp_(0, 6)
    return y + s.b(x)


def scaled(s, x):
    before = x
    x *= 2.0
    x -= 1.0
    x /= 4.0
    return s.a(before) + before


def through_views(s, x):
    y = nn.Identity()(x)
    flat = x.flatten(2)
    y.relu_()
    return s.a(x) + flat.size(1) * y


def parts(s, x):
    first, second = x.chunk(2, 1)
    first = F.relu(first, inplace=True)
    return torch.cat([second, first], 1)


CALLS = [
    (dropped, None, 8),
    (aliased, None, 8),
    (added, None, 8),
    (clamped, None, 8),
    (scaled, None, 8),
    (through_views, None, 8),
    (parts, None, 8),
    (lambda s, x: s.a(s.act(x)) + x, nn.ReLU(inplace=True), 8),
    (lambda s, x: torch.cat([x, s.act(x)], 1), nn.Hardswish(inplace=True), 16),
    (lambda s, x: torch.cat([x, torch.relu_(x)], 1), None, 16),
    (lambda s, x: s.act(x) + s.a(x), nn.Dropout(0.5, inplace=True), 8),
    (lambda s, x: s.act(s.a(x)).relu() + x, nn.SiLU(inplace=True), 8),
]


@pytest.mark.parametrize(("call", "act", "out"), CALLS)
@torch.no_grad()
def test_later_readers_get_the_changed_tensor(call, act, out):
    model = randomise(Net(call, act, out)).eval()
    expected = model(X.clone())
    torch.testing.assert_close(Supernet.from_model(model, X, FLOAT).eval()(X), expected, rtol=1e-4, atol=1e-5)


class Features(nn.Module):
    """Returns a feature that is changed later; `once`: not in place."""

    def __init__(self, once):
        super().__init__()
        self.a, self.b, self.once = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), once

    def forward(self, x):
        x -= 0.5
        feature = self.a(x)
        return feature, self.b(F.relu(feature, inplace=not self.once)) + self.a.bias[:, None, None]


@torch.no_grad()
def test_a_returned_feature_is_the_changed_one_and_the_example_stays():
    image = X.clone()
    model = randomise(Features(False))
    net = Supernet.from_model(model, image, FLOAT).eval()
    assert torch.equal(image, X)
    feature, rest = net(image)
    assert feature.min() == 0
    torch.testing.assert_close((feature, rest), model(X.clone()))
    model.once = True
    feature, _ = Supernet.from_model(model, image, FLOAT).eval()(image)
    assert feature.min() < 0


def of_a_view(s, x):
    x.view(x.size(0), -1).mul_(2.0)
    return s.a(x)


def of_a_part(s, x):
    x.chunk(2, 1)[0].mul_(2.0)
    return s.a(x)


def then_a_part(s, x):
    part = x[:, :4]
    x.relu_()
    return torch.cat([x[:, 4:], part], 1)


class Inside(nn.Module):
    """Known as a whole, and changes what it reads."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8)), 1e-6

    def forward(self, x):
        x -= x.mean(1, keepdim=True)
        scale = (x.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return x * scale * self.weight[:, None, None] + self.bias[:, None, None]


@pytest.mark.parametrize(
    ("call", "act", "message"),
    [
        (of_a_view, None, r"'mul_' .*inplace\.py:\d+: it changes a tensor in place that 'a' reads later, in part"),
        (of_a_part, None, "it changes a tensor in place that 'a' reads later"),
        (then_a_part, None, "it changes a tensor in place that 'cat' reads later"),
        (lambda s, x: s.act(x) + x, Inside(), "it changes a tensor in place that 'add' reads later"),
    ],
)
def test_what_shares_a_part_of_the_memory_is_refused(call, act, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(Net(call, act), X)


def test_a_part_known_as_a_whole_may_change_what_nobody_reads_later():
    edge = MixedOp(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1)), nn.Conv2d(8, 8, 1))
    Supernet.from_model(Net(lambda s, x: s.act(s.a(x)) + x, edge), X)
    with pytest.raises(InputError, match="it changes a tensor in place that 'add' reads later"):
        Supernet.from_model(Net(lambda s, x: s.act(x) + x, edge), X)
