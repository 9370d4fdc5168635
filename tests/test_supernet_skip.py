"""Modules that may be skipped: which could be, what becomes of them, and what is refused."""

import pytest
import torch
from models import randomise
from torch import nn

from lut.errors import InputError
from supernet import SearchSpace, Supernet, extract
from supernet.mixed import MixedOp
from supernet.networks import build
from supernet.skip import could_be_skipped, skippable

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_what_could_be_skipped_keeps_the_shape_and_convolves():
    net = build("resnet20", 10, 3, 16).train()
    able = could_be_skipped(net, X)
    assert {"layer1", "layer1.0", "layer1.2", "layer2.1", "layer3.2", "layer1.0.conv1"} <= set(able)
    assert not {"layer2", "layer2.0", "layer2.0.conv1", "conv1", "linear", "bn1"} & set(able)
    assert net.training and not any(m._forward_hooks for m in net.modules())


class Twice(nn.Module):
    """One convolution that is called twice, one inside a block that gets two tensors."""

    def __init__(self):
        super().__init__()
        self.stem, self.again, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), Two()

    def forward(self, x):
        x = self.again(self.again(self.stem(x)))
        return self.two(x, x)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x, y):
        return self.conv(x) + y


def test_a_module_of_several_calls_or_inputs_could_not():
    assert could_be_skipped(Twice(), X) == ["two.conv"]


def test_the_default_is_the_model_and_every_skip_is_a_choice():
    torch.manual_seed(0)
    plain = randomise(build("resnet20", 10, 3, 16)).eval()
    expected = plain(X)
    net = skippable(plain, ["layer[12].[12]", "layer3.1"], X)
    assert [name for name, m in net.named_modules() if isinstance(m, MixedOp)] == [
        "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1"]  # fmt: skip
    torch.testing.assert_close(net(X), expected)
    supernet = Supernet.from_model(net, X, SearchSpace((8,), (8,), (1.0,))).eval()
    values = dict(supernet.uniform(8, 8).choices)
    whole = extract(supernet, values)
    for choice in supernet.op.values():
        values[choice.name] = 1
    shallow = extract(supernet, values)
    assert len(whole.schedule().ops) - len(shallow.schedule().ops) == 5 * 2
    assert torch.isfinite(shallow(X)).all()


def test_inner_and_outer_ones():
    net = skippable(build("resnet20", 10, 3, 16).eval(), ["layer1", "layer1.1"], X)
    names = [name for name, m in net.named_modules() if isinstance(m, MixedOp)]
    assert names == ["layer1", "layer1.candidates.0.1"]
    assert len(Supernet.from_model(net, X, SearchSpace((8,), (8,), (1.0,))).op) == 2


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            "layer2.0",
            r"space.skip: 'layer2.0': its output has another shape than its input; what could be skipped: ",
        ),
        ("layr1.*", r"space.skip: 'layr1.\*': no such module; what could be skipped: .*layer1.0, "),
    ],
)
def test_what_cannot_be_skipped_is_refused_with_what_could(pattern, said):
    with pytest.raises(InputError, match=said):
        skippable(build("resnet20", 10, 3, 16), [pattern], X)
