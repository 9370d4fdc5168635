"""Random networks: blocks of convolutions, norms, activations, sums, concats, pools, gates, splits and shuffles."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import bytes_and_input, randomise
from torch import nn

from cost_models.counts import COUNTS
from cost_models.expected import expected as differentiable
from deploy.integer import run_program
from deploy.lower import lower
from supernet import SearchSpace, Supernet, extract
from supernet.choice import one_hot_gates

SPACE = SearchSpace(weight_bits=(2, 8), act_bits=(4, 8), widths=(0.25, 0.5, 1.0), channel_multiple=2)
FLOAT = SearchSpace((32,), (32,), (1.0,))
IMAGES, X, MEAN, STD = bytes_and_input((3, 8, 8), 2)
ACTS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Identity)
STEPS = ("conv", "grouped", "depth", "norm", "act", "add", "cat", "pool", "max_pool", "gate", "split", "shuffle",
         "scale", "layer_norm", "shortcut", "pad")  # fmt: skip


class Layers(nn.Module):
    """Each step (kind, number) reads some of the tensors made so far; all that is unread is pooled and joined."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.layers, self.channels = steps, nn.ModuleList(), [3]
        for kind, number in steps:
            self.layers.append(self._make(kind, number))
        self.fc = nn.Linear(sum(self.channels), 5)

    def _make(self, kind, number):
        c, wide = self.channels[-1], 4 + number % 3 * 4
        act, other = ACTS[number % len(ACTS)], self.channels[number % len(self.channels)]
        self.channels.append(c)
        if kind == "conv":
            self.channels[-1] = wide
            layers = [nn.Conv2d(c, wide, 1 + number % 2 * 2, padding="same"), nn.BatchNorm2d(wide), act()]
            return nn.Sequential(*layers[: 1 + number % 3])
        if kind == "grouped" and c % 2 == 0:
            self.channels[-1] = 2 * wide
            return nn.Conv2d(c, 2 * wide, 3, padding=1, groups=2)
        if kind == "depth":
            return nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.BatchNorm2d(c), act())
        if kind == "norm":
            return nn.BatchNorm2d(c)
        if kind == "gate":
            return nn.Sequential(nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), act())
        if kind == "act":
            return act()
        if kind == "cat":
            self.channels[-1] = c + other
        if kind == "split" and c > 1:
            self.channels[-1] = c // 2
        if kind == "scale":
            return nn.ParameterList([nn.Parameter(torch.rand(c, 1, 1))])
        if kind == "layer_norm":
            return nn.LayerNorm(c)
        if kind == "shortcut":
            self.channels[-1] = c + 4
            return nn.Conv2d(c, c + 4, 1)
        return nn.Identity()

    def forward(self, x):
        made = [x]
        for (kind, number), layer in zip(self.steps, self.layers):
            made.append(self._step(made, kind, number, layer))
        pooled = [F.adaptive_avg_pool2d(y, 1) for y in made]
        return self.fc(torch.cat(pooled, 1).flatten(1))

    def _step(self, made, kind, number, layer):
        x, c = made[-1], self.channels[len(made) - 1]
        other = made[number % len(made)]
        match kind:
            case "add":
                same = [y for i, y in enumerate(made[:-1]) if self.channels[i] == c]
                return x + same[number % len(same)] if same else x
            case "cat":
                return torch.cat([x, other], 1)
            case "pool":
                return F.avg_pool2d(x, 3, 1, 1)
            case "max_pool":
                return F.max_pool2d(x, 3, 1, 1)
            case "gate":
                return x * layer(x.mean((2, 3), keepdim=True))
            case "split" if c > 1:
                return x.chunk(2, 1)[1] if c % 2 == 0 else x[:, : c // 2]
            case "shuffle" if c % 2 == 0:
                return F.channel_shuffle(x, 2)
            case "scale":
                return x * layer[0] + 0.25
            case "layer_norm":
                return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            case "shortcut":
                return F.relu(layer(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))
            case "pad":
                return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        return layer(x)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), min_size=1, max_size=7))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@torch.no_grad()
def test_searched_extracted_and_lowered_are_one(steps):
    torch.manual_seed(0)
    model = randomise(Layers(steps))
    plain = Supernet.from_model(model, X, FLOAT, MEAN, STD).eval()
    torch.testing.assert_close(plain(X), model(X), rtol=1e-4, atol=1e-4)
    net = Supernet.from_model(model, X, SPACE, MEAN, STD).double().eval()
    draw, cost = random.Random(len(steps)), differentiable(COUNTS["bitops"], net.schedule(), net.choices())
    for values in [{c.name: draw.choice(c.options) for c in net.choices()} for _ in range(2)]:
        net.fix(values)
        expected = net(X.double())
        subnet = extract(net, values)
        assert (subnet(X.double()) - expected).abs().max() <= 1e-9 * expected.abs().max()
        full = [spec for op in net.schedule().ops if (spec := op.spec(values)) is not None]
        total, gates = sum(map(COUNTS["bitops"], full)), one_hot_gates(net.choices(), values, torch.float64)
        assert abs(cost(gates).item() - total) <= 1e-12 * total
        assert full == [op.spec({}) for op in subnet.schedule().ops]
    subnet = extract(net, net.uniform(8, 8))
    program = lower(subnet)
    scores = run_program(program, IMAGES) * program.tensors[program.output].scale
    expected = subnet(X.double()).numpy()
    assert np.abs(scores - expected).max() < 0.05 * np.abs(expected).max()
