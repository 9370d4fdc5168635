"""What a user says of an own module or function."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from torch import nn

from lut.errors import InputError
from supernet import SearchSpace, Supernet, extract, register_op

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Net(nn.Module):
    """`strange` between two convolutions."""

    def __init__(self, strange):
        super().__init__()
        self.strange = strange
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(self.strange(self.a(x))).mean((2, 3))


class Mish(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * torch.tanh(F.softplus(x)) * self.gain


class CoordinateGate(nn.Module):
    """Loops over the data's size, so it can't be looked into."""

    def __init__(self, c):
        super().__init__()
        self.point = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return F.relu6(torch.stack([self.point(row.unsqueeze(0))[0] for row in x]))


def leaky(x, slope=0.1, shift=0.0):
    return torch.where(x > 0, x, x * slope) + shift


def half(x):
    return x[:, torch.arange(4)]


@pytest.fixture(autouse=True)
def forget():
    yield
    for target in (Mish, CoordinateGate, leaky, half):
        register_op(target, None)


def test_a_module_class_as_an_operator():
    with pytest.raises(InputError, match=r"'softplus'.* at .*test_supernet_register\.py:\d+.*register_op"):
        Supernet.from_model(Net(Mish()), X)
    register_op(Mish, lambda module: ("unary", {"fn": "silu"}), exact=False)
    net = Supernet.from_model(Net(Mish()), X)
    assert [node.fn for node in net.nodes if node.kind == "unary"] == ["silu"]
    register_op(Mish, None)
    with pytest.raises(InputError, match="softplus"):
        Supernet.from_model(Net(Mish()), X)


def test_a_module_class_as_known_modules_with_its_weights():
    register_op(CoordinateGate, lambda module: nn.Sequential(module.point, nn.ReLU6()))
    model = randomise(Net(nn.Sequential(CoordinateGate(8), CoordinateGate(8))))
    net = Supernet.from_model(model, X, FLOAT).eval()
    expected = model.b(F.relu6(model.strange[1].point(F.relu6(model.strange[0].point(model.a(X)))))).mean((2, 3))
    torch.testing.assert_close(net(X), expected)
    assert {"strange.0.0", "strange.1.0"} <= set(net.weight)
    searched = Supernet.from_model(model, X).double().eval()
    values = searched.uniform(4, 4, 0.5).choices
    searched.fix(values)
    torch.testing.assert_close(extract(searched, values)(X.double()), searched(X.double()), rtol=1e-9, atol=0)
    assert pickle.loads(pickle.dumps(searched)).arch() == searched.arch()


def test_functions_are_given_the_other_arguments():
    seen = []

    def handler(slope, shift=0.0):
        seen.append((slope, shift))
        return "act", {"high": 6.0}

    register_op(leaky, handler, exact=False)
    register_op(half, lambda: ("split", {"start": 0, "channels": 4}))

    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.b(half(leaky(self.a(x), 0.2, shift=1.0))).mean((2, 3))

    net = Supernet.from_model(Calls(), X)
    assert seen == [(0.2, 1.0)]
    assert [node.kind for node in net.nodes] == ["input", "conv2d", "split", "conv2d", "avg_pool"]
    assert net.nodes[1].act_high == 6.0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("softmax", {}), "expected a module, or"),
        (None, "expected a module, or"),
        (([], {}), "expected a module, or"),
        (("act", {"hihg": 6}), r"act has the attributes high; its handler gave \['hihg'\]"),
        (("act", {}), r"act has the attributes high; its handler gave \[\]"),
        (("act", {"high": "6"}), "Mish 'strange': act: high: its handler gave '6'; expected a number above 0"),
        (("act", {"high": math.nan}), "high: its handler gave nan; expected a number above 0"),
        (("unary", {"fn": "nope"}), "unary: fn: its handler gave 'nope'; expected hardswish, hardsigmoid, silu"),
        (("avg_pool", {}), r"avg_pool has the attributes kernel, stride; its handler gave \[\]"),
        (("avg_pool", {"kernel": 2, "stride": 2}), "kernel: its handler gave 2; expected two whole numbers from 1"),
        (("max_pool", {"kernel": (2, 2)}), r"the attributes kernel, pad, stride; its handler gave \['kernel'\]"),
        (("pad", {"pad": (1, 1)}), r"pad: its handler gave \(1, 1\); expected four whole numbers from 0"),
        (("shuffle", {"groups": 0}), "groups: its handler gave 0; expected a whole number from 1"),
        (("split", {"start": -1, "channels": 4}), "start: its handler gave -1; expected a whole number from 0"),
    ],
)
def test_a_handler_that_answers_nonsense(answer, message):
    register_op(Mish, lambda module: answer)
    with pytest.raises(InputError, match=message):
        Supernet.from_model(Net(Mish()), X)
    with pytest.raises(InputError, match="neither a module class nor a function"):
        register_op("relu", lambda x: ("act", {"high": 6}))


def test_lists_are_taken_for_pairs_and_a_pool_without_a_frame():
    register_op(Mish, lambda module: ("max_pool", {"kernel": [1, 1], "stride": [1, 1]}), exact=False)
    net = Supernet.from_model(Net(Mish()), X)
    (pool,) = (node for node in net.nodes if node.kind == "max_pool")
    assert (pool.kernel, pool.stride, pool.pad) == ((1, 1), (1, 1), (0, 0, 0, 0))


def test_the_model_is_left_as_it_was():
    model = Net(nn.Sequential(nn.BatchNorm2d(8), nn.Dropout(0.5))).train()
    model.strange[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    net = Supernet.from_model(model, X)
    assert net.training and model.training and not model.strange[0].training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_shared_activation_and_an_optional_argument_are_fine():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.act = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.ReLU()

        def forward(self, x, mask=None, scale: float = 2.0):
            x = self.act(self.a(x))
            if mask is not None:
                x = x * mask
            return (self.act(self.b(x)) * scale).mean((2, 3))

    model = Optional()
    torch.testing.assert_close(Supernet.from_model(model, X, FLOAT)(X), model(X))
