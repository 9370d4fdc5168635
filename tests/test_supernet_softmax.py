"""Softmax over channels: by those that live, as an island of floats, and split off where it ends a model."""

import json

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from test_supernet_zoo import FLOAT, MEAN, SPACE, STD, X, convert
from torch import nn

from lut.device import Device
from lut.errors import InputError
from search.coverage import require_kinds
from supernet import Supernet, extract, load_subnet, save_subnet
from supernet.layers import channel_softmax
from supernet.outputs import Form


class Head(nn.Module):
    """`end` is what is made of the scores (n, 10)."""

    def __init__(self, end):
        super().__init__()
        self.conv, self.fc, self.end = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10), end

    def forward(self, x):
        return self.end(self.fc(self.conv(x).relu().mean((2, 3))))


def test_dead_channels_have_no_share():
    x = torch.tensor([[-200.0, 0.0, -201.0, 0.0], [3.0, 0.0, 2.0, 0.0]]).view(2, 4, 1, 1)
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0], requires_grad=True)
    found = channel_softmax(x, mask)
    assert torch.equal(found[:, ::2], x[:, ::2].softmax(1))
    (found * mask.view(1, -1, 1, 1)).square().sum().backward()
    assert mask.grad.isfinite().all() and mask.grad.abs().min() > 0
    assert torch.equal(channel_softmax(x, None), x.softmax(1))
    half = channel_softmax(torch.zeros(1, 4, 1, 1), torch.tensor([1.0, 0.5, 0.5, 0.0])).flatten()
    assert torch.equal(half, torch.full((4,), 0.5)), "of two channels' worth"


@pytest.mark.parametrize(
    "end",
    [
        nn.Softmax(1),
        nn.Softmax(-1),
        lambda y: y.softmax(1),
        lambda y: F.softmax(y, dim=-1),
        lambda y: F.softmax(input=y, dim=1, dtype=torch.float32),
        lambda y: torch.softmax(y, 1),
        lambda y: y[:, :, None, None].softmax(1).flatten(1),
        lambda y: nn.Softmax2d()(y[:, :, None, None]).squeeze(),
    ],
)
@torch.no_grad()
def test_a_softmax_at_the_end_is_no_operator(end, tmp_path):
    model = randomise(Head(end))
    net = Supernet.from_model(model, X, FLOAT, MEAN, STD).eval()
    torch.testing.assert_close(net(X), model(X), rtol=1e-4, atol=1e-6)
    net = Supernet.from_model(model, X, SPACE, MEAN, STD).eval()
    assert [node.kind for node in net.nodes] == ["input", "conv2d", "avg_pool", "linear"]
    assert net.outputs == ("fc",) and net.form.softmax == (0,)
    torch.testing.assert_close(net(X).sum(1), torch.ones(len(X)))
    (line,) = (line for line in net.summary().splitlines() if line.startswith("fc"))
    assert "the model returns its softmax, a device the scores" in line
    subnet = extract(net, net.arch())
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    loaded = load_subnet(tmp_path / "subnet.safetensors")
    assert loaded.form == net.form and torch.equal(loaded(X), subnet(X))


@torch.no_grad()
def test_scores_beside_their_softmax_are_one_output():
    model = randomise(Head(lambda y: {"scores": y, "p": [y.softmax(1), (2 * y).softmax(1)], "gate": y.softmax(1) * y}))
    net = Supernet.from_model(model, X, FLOAT, MEAN, STD).eval()
    torch.testing.assert_close(net(X), model(X), rtol=1e-4, atol=1e-6)
    assert net.form.leaves == ((0, "nc"), (0, "nc"), (1, "nc"), (2, "nc")) and net.form.softmax == (1, 2)
    assert [net.form.is_softmax(position) for position in range(3)] == [True, True, False]
    assert [node.kind for node in net.nodes].count("softmax") == 1, "the gate's"


def test_a_form_holds_its_softmax():
    form = Form(("tuple", (0, 1)), ((0, "nhwc"), (0, "nchw")), (0,))
    assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form
    y = torch.arange(12.0).reshape(1, 3, 2, 2)
    probabilities, scores = form.build([y])
    assert torch.equal(probabilities, y.softmax(1).permute(0, 2, 3, 1)) and torch.equal(scores, y)
    assert Form.from_json({"tree": 0, "leaves": [[0, "nf"]]}) == Form(), "of a file without"


def test_one_in_the_middle_is_an_island_that_makes_unsigned_codes():
    net = convert("soft_gates")
    nodes = {node.name: node for node in net.nodes}
    found = [node for node in net.nodes if node.kind == "softmax"]
    assert len(found) == 3
    for node in found:
        assert nodes[node.inputs[0]].kind == "dequantize"
        assert not net.quantizer(f"{node.name}.out").signed
    assert net.form.softmax == (0,)
    lines = {line.split()[0]: line for line in net.summary(Device.load("cortex-m4")).splitlines()}
    assert "the device has no softmax" in lines["softmax"]
    with pytest.raises(InputError, match="cortex-m4 has no dequantize"):
        require_kinds(net, Device.load("cortex-m4"))
    ops = {op.name: op.spec({c.name: c.options[-1] for c in net.choices()}) for op in net.schedule().ops}
    assert (ops["softmax"].in_bits, ops["softmax"].out_bits) == ((32,), 32)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_an_axis_must_be_named():
    with pytest.raises(InputError, match="a softmax without an axis; give it dim=1"):
        Supernet.from_model(Head(nn.Softmax()), X)
