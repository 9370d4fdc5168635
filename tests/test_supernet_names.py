"""Names of nodes: a layer's path is its own, whatever calls, attributes and registered parts are called."""

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from torch import nn

from supernet import SearchSpace, Supernet, extract, load_subnet, register_op, save_subnet

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Net(nn.Module):
    """`call` between a convolution and a classifier, with a layer named at will."""

    def __init__(self, name, call, layer=None):
        super().__init__()
        self.conv, self.call, self.name, self.fc = nn.Conv2d(3, 8, 1), call, name, nn.Linear(8, 4)
        setattr(self, name, layer or nn.Conv2d(8, 8, 1))

    def forward(self, x):
        return self.fc(self.call(self.conv(x), self.get_submodule(self.name)).mean((2, 3)))


def added(p, layer):
    p = F.avg_pool2d(p, 2)
    y = p + p.sigmoid()
    return y.relu() * layer(p)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("add", added),
        ("add", lambda x, layer: layer(x + x.sigmoid())),
        ("cat", lambda x, layer: layer(torch.cat([x[:, 4:], x[:, :4]], 1))),
        ("mul", lambda x, layer: F.max_pool2d(x * torch.sigmoid(x), 2) + F.max_pool2d(layer(x), 2)),
        ("relu", lambda x, layer: layer(F.relu(F.avg_pool2d(x, 2)))),
        ("add_", lambda x, layer: layer(x.add_(x.sigmoid()) + x.tanh())),
        ("x", lambda x, layer: layer(x)),
        ("scores", lambda x, layer: layer(x)),
        *[(name, lambda x, layer: layer(x).relu()) for name in (
            "values", "keys", "items", "update", "pop", "clear", "nodes", "form", "alpha", "mean", "step")],
    ],
)  # fmt: skip
@torch.no_grad()
def test_a_layer_has_its_own_name(name, call, tmp_path):
    model = randomise(Net(name, call)).eval()
    net = Supernet.from_model(model, X, FLOAT).eval()
    torch.testing.assert_close(net(X), model(X.clone()), rtol=1e-4, atol=1e-5)
    assert name in net.weight and len({node.name for node in net.nodes}) == len(net.nodes)
    searched = Supernet.from_model(model, X).eval()
    subnet = extract(searched, searched.uniform(4, 4, 0.5))
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    assert torch.equal(load_subnet(tmp_path / "subnet.safetensors")(X), subnet(X))


class Body(nn.Module):
    """`add` is a layer and a call."""

    def __init__(self):
        super().__init__()
        self.add, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = x + self.b(x).sigmoid()
        return y.relu() * self.add(y)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()

    def forward(self, x):
        return self.body(x)


@torch.no_grad()
def test_names_inside_of_a_registered_part():
    register_op(Part, lambda module: module.body)
    try:
        model = randomise(Net("part", lambda x, layer: layer(x), Part())).eval()
        net = Supernet.from_model(model, X, FLOAT).eval()
    finally:
        register_op(Part, None)
    torch.testing.assert_close(net(X), model(X), rtol=1e-4, atol=1e-5)
    assert {"part.add", "part.b"} <= set(net.weight)
    assert len({node.name for node in net.nodes}) == len(net.nodes)
