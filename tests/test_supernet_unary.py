"""Products and functions of one value: conversion, exactness, tables of codes, and what is refused."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import bytes_and_input, randomise
from torch import nn

from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from lut.errors import InputError
from supernet import SearchSpace, Supernet, extract, load_subnet, save_subnet
from supernet.unary import POSITIVE, UNARY

SPACE = SearchSpace(weight_bits=(4, 8), act_bits=(4, 8), widths=(0.5, 1.0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Excite(nn.Module):
    """Squeeze-and-excite (Hu et al. 2018), as MobileNetV3 writes it."""

    def __init__(self, channels):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class Curved(nn.Module):
    """Every function, as a module or a call; a product of two images; squeeze-and-excite; a residual."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.b = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.GELU())
        self.excite = Excite(16)
        self.c = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.gate, self.value = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = self.a(x)
        x = F.silu(x + self.c(self.excite(self.b(x))))
        x = torch.sigmoid(self.gate(x)) * torch.tanh(self.value(x))
        return self.fc(x.mean((2, 3)))


def build(space=SPACE):
    images, x, mean, std = bytes_and_input((3, 8, 8), 16)
    torch.manual_seed(0)
    model = randomise(Curved()).eval()
    return model, Supernet.from_model(model, x, space, mean, std).eval(), images, x


def test_the_float_network_is_the_model_and_so_is_its_reference():
    model, net, images, x = build(FLOAT)
    torch.testing.assert_close(net(x), model(x), atol=1e-5, rtol=1e-4)
    scores = run_program(lower(extract(net, net.arch())), images)
    np.testing.assert_allclose(scores, model(x).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_extraction_is_exact(tmp_path):
    _, net, _, x = build()
    net.double()
    draw = random.Random(0)
    for _ in range(6):
        values = {choice.name: draw.choice(choice.options) for choice in net.choices()}
        net.fix(values)
        expected = net(x.double())
        subnet = extract(net, values)
        assert (subnet(x.double()) - expected).abs().max() <= 1e-9 * expected.abs().max()
        save_subnet(subnet, tmp_path / "s.safetensors")
        assert torch.equal(load_subnet(tmp_path / "s.safetensors").double()(x.double()), subnet(x.double()))


def test_products_and_functions_tie_their_widths():
    _, net, _, _ = build()
    groups = {node.name: net.groups[node.name].name for node in net.nodes}
    first = groups["a.0"]
    excite = [node for node in net.nodes if node.kind == "mul"]
    assert [node.shape for node in excite] == [(16, 8, 8), (12, 8, 8)]
    assert {groups[name] for name in ("b.0", "excite.expand", "c.0", excite[0].name)} == {first}
    assert groups["gate"] == groups["value"] == groups[excite[1].name] != first


def test_integers_follow_the_contract():
    """A function's output is its rounded value for every code; a product is rounded once."""
    _, net, images, x = build()
    subnet = extract(net, net.uniform(8, 8))
    program = lower(subnet)
    values = run_tensors(program, images)
    tensors = program.tensors
    seen = set()
    for op in program.ops:
        node = next(node for node in subnet.nodes if node.name == op.name)
        real = [(values[n].astype(float) - tensors[n].zero) * tensors[n].scale for n in op.inputs]
        if op.spec.kind == "unary":
            exact = UNARY[node.fn](torch.from_numpy(real[0])).numpy()
            assert op.table.shape == (256,)
            seen.add(node.fn)
        elif op.spec.kind == "mul":
            exact = real[0] * real[1]
        else:
            continue
        out = tensors[op.output]
        code = np.clip(np.rint(exact / out.scale) + out.zero, op.low, op.high)
        error = np.abs(values[op.output].astype(float) - code)
        assert error.max() <= (0 if op.spec.kind == "unary" else 1)
        assert (error > 0).mean() < 0.01
    assert seen == {"hardswish", "gelu", "hardsigmoid", "silu", "sigmoid", "tanh"}
    scores = run_program(program, images) * tensors[program.output].scale
    expected = subnet(x).detach().numpy()
    assert np.median(np.abs(scores - expected)) < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("name", UNARY)
def test_signs(name):
    values = UNARY[name](torch.linspace(-8, 8, 1001, dtype=torch.float64))
    assert bool((values < 0).any()) == (name not in POSITIVE)


class Wrong(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.conv, self.call, self.fc = nn.Conv2d(3, 4, 1), call, nn.Linear(4 * 64, 2)

    def forward(self, x):
        return self.fc(self.call(self.conv(x)).flatten(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x - F.relu(x), "the difference of two tensors is not deployable"),
        (lambda x: x * x, "a tensor times itself is not deployable"),
        (
            lambda x: x * F.avg_pool2d(x, (1, 8)),
            "a product of 4x8x8 and 4x8x1 is not deployable; expected equal",
        ),
        (lambda x: F.log_softmax(x, 1), "log_softmax.*return the scores.*no deployable operator"),
    ],
)
def test_what_has_no_table_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(Wrong(call), torch.randn(2, 3, 8, 8), SPACE)
