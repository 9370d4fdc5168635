"""What can't be converted is refused, with the node, the line of the user's source, and why."""

import inspect
import re
from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from test_supernet_register import Net, X
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lut.errors import InputError
from supernet import Supernet
from supernet.mixed import MixedOp


class Call(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


class Several(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.conv, self.form = nn.Conv2d(3, 4, 1), form

    def forward(self, x):
        return self.form(self.conv(x), x)


class Twice(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def tied():
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    return Twice(first, second)


def tied_weights(*names, first=None, second=None):
    first, second = first or nn.Conv2d(3, 3, 1), second or nn.Conv2d(3, 3, 1)
    for name in names:
        path, _, word = name.rpartition(".")
        setattr(second.get_submodule(path), word, getattr(first.get_submodule(path), word))
    return first, second


class LastLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = tied_weights("weight", first=nn.Linear(3, 3), second=nn.Linear(3, 3))

    def forward(self, x):
        return self.b(self.a(x.permute(0, 2, 3, 1)).relu()).permute(0, 3, 1, 2)


class Root(nn.Module):
    """One parameter, two convolutions."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3, 1, 1))

    def forward(self, x):
        return F.conv2d(F.conv2d(x, self.weight * 2), self.weight)


class ChannelsFirst(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3)), eps

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), (3,), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Scales(nn.Module):
    """One factor and shift for two scales, statistics of each."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))
        for name, value in (("mean0", 0.0), ("var0", 1.0), ("mean1", 0.0), ("var1", 1.0)):
            self.register_buffer(name, torch.full((3,), value))

    def forward(self, x):
        for i in range(2):
            mean, var = getattr(self, f"mean{i}"), getattr(self, f"var{i}")
            x = F.batch_norm(x, mean, var, self.weight, self.bias, self.training).relu()
        return x


class OnBoth(nn.Module):
    """One linear layer on pixels and on vectors."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(self.fc(x.permute(0, 2, 3, 1)).mean((1, 2)))


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.conv, self.error = nn.Conv2d(3, 4, 1), error

    def forward(self, x):
        raise self.error


class Inputs(nn.Module):
    def forward(self, x, y, *, z):
        return x + y


class Any(nn.Module):
    def forward(self, *xs):
        return xs[0]


def hooked(pre):
    conv = nn.Conv2d(8, 8, 1)
    if pre:
        conv.register_forward_pre_hook(lambda module, given: (given[0].abs(),))
    else:
        conv.register_forward_hook(lambda module, given, out: out * 2)
    return conv


LOOSE = [nn.Conv2d(8, 8, 1)]
CONV = nn.Conv2d(3, 3, 1)
EDGE = MixedOp(nn.Conv2d(3, 3, 1), nn.Identity())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Net(nn.Upsample(scale_factor=2)), "Upsample 'strange'.*register_op"),
        (Net(nn.GroupNorm(2, 8)), "GroupNorm 'strange'.*no deployable operator"),
        (Net(nn.BatchNorm2d(8, affine=False)), "needs affine=True"),
        (Net(nn.LayerNorm([8, 8])), "LayerNorm 'strange'"),
        (Net(nn.AdaptiveAvgPool2d(3)), "not an even window"),
        (Net(nn.Linear(8, 8)), "reads vectors, or images with their channels last"),
        (Net(Call(lambda x: torch.softmax(x, 2))), r"'softmax' .*over axis 2 of a tensor nchw .*gate with a sigmoid"),
        (Net(nn.Softmax(-1)), r"Softmax 'strange' at .*over axis -1 of a tensor nchw"),
        (Net(Call(lambda x: F.softmax(x.flatten(1), 1).view(x.shape))), "over axis 1 of a tensor nf"),
        (Net(Call(lambda x: x.view(2, 2, 4, 8, 8).softmax(1).view(x.shape))), "over axis 1 of a tensor ngkhw"),
        (Net(Call(lambda x: F.log_softmax(x, 1))), "'log_softmax' .*return the scores that it reads"),
        (Net(Call(lambda x: x.clamp(-1, 1))), "its lower bound must be 0"),
        (Net(Call(lambda x: x + torch.ones(8, 8))), "a constant of shape"),
        (Net(Call(lambda x: x - x.relu())), "difference of two tensors"),
        (Net(Call(lambda x: torch.cat([x, x], 2)[:, :, :8])), "only a concat of channels"),
        (Net(Call(lambda x: x.view(2, 8, 4, 16))), "in the shape"),
        (Net(Call(lambda x: x * x)), "a tensor times itself is not deployable"),
        (Net(Call(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8))), "may only be multiplied"),
        (Net(Call(lambda x: x.mean(1, keepdim=True) * x)), "rows and columns"),
        (Several(lambda y, x: {"boxes": [y, x]}), r"returns its input as 'boxes\.1'"),
        (Several(lambda y, x: (y, None)), "returns None as '1'"),
        (Several(lambda y, x: []), "output is empty"),
        (Several(lambda y, x: Pair(y, None)), r"returns None as 'b'"),
        (Several(lambda y, x: OrderedDict({1.5: y})), "output has the key 1.5; only strings and integers can be"),
        (Several(lambda y, x: OrderedDict()), "output is empty"),
        (Several(lambda y, x: {"parts": y.chunk(2, 1)}), "returned as a whole"),
        (Several(lambda y, x: (y, torch.ones(3))), "is returned and does not depend on the image"),
        (Several(lambda y, x: (y, y.view(2, 2, 2, 8, 8))), "its channels in groups"),
        (Several(lambda y, x: x), "returns its input"),
        (tied(), r"'layers\.1' .*it holds the weights of 'layers\.0' and is not the same layer; give each use its own"),
        (Twice(EDGE, EDGE), r"MixedOp 'layers\.0' at .*: a choice of operators is used twice; give each use its own"),
        (OnBoth(), "'fc.use2' .*'fc' is the same layer, one on vectors and one on images; give each its own copy"),
        (LastLinear(), "'b' .*it holds the weights of 'a' and is not the same layer; give each use its own copy"),
        (Root(), "'conv2d_1' .*it holds the weights of 'conv2d'"),
        (Twice(CONV, *tied_weights("weight", first=nn.BatchNorm2d(3), second=nn.BatchNorm2d(3))),
         r"it holds the weights of 'layers\.1'"),
        (Twice(CONV, *tied_weights("weight", "bias", first=nn.BatchNorm2d(3), second=nn.BatchNorm2d(3))),
         r"'layers\.2' .*it holds the weights of 'layers\.1' and is not the same layer"),
        (Twice(CONV, Scales()), r"'layers\.1\.use2' .*it holds the weights of 'layers\.1' and is not the same"),
        (Twice(CONV, *tied_weights("weight", "bias", first=ChannelsFirst(1e-5), second=ChannelsFirst(1e-3))),
         r"'layers\.2' .*it holds the weights of 'layers\.1' and is not the same layer"),
        (Twice(*tied_weights("parametrizations.weight.original1", first=weight_norm(nn.Conv2d(3, 3, 1)),
                             second=weight_norm(nn.Conv2d(3, 3, 1)))), r"it holds the weights of 'layers\.0'"),
        (Net(Call(lambda x: F.batch_norm(x, torch.zeros(8), torch.ones(8), None, None, True))), "training=True"),
        (Net(Call(lambda x: F.dropout(x, 0.5))), "it drops at inference too; pass training=self.training"),
        (Net(Call(lambda x: torch.cat([x[:, 4:], torch.ones(2, 4, 8, 8)], 1))), "constants can't be joined"),
        (Net(Call(lambda x: torch.cat(x.chunk(2, 1) + x.split(4, 1), 1)[:, 8:])), "'split' .*take one of them"),
        (Net(Call(lambda x: LOOSE[0](x))), r"Conv2d at .*refused\.py:\d+: its weights are none of the model's"),
        (Net(Call(lambda x: F.conv2d(x, LOOSE[0].weight))), "a parameter that is none of the model's; .*ModuleList"),
        (Net(hooked(True)), "Conv2d 'strange' at .*it has forward hooks"),
        (Net(hooked(False)), "Conv2d 'strange' at .*it has forward hooks"),
        (Raises(RuntimeError("boom")), r"refused\.py:\d+: Raises: forward raised RuntimeError for .*boom"),
        (Raises(NotImplementedError()), "forward raised NotImplementedError"),
        (Raises(ValueError("bad")), "forward raised ValueError for .*bad"),
        (Inputs(), r"several inputs \(x, y, z\)"),
        (Any(), r"forward\(\*xs\); expected one tensor"),
        (nn.DataParallel(nn.Conv2d(3, 4, 1)), r"give that to from_model: model\.module"),
        (nn.Sequential(nn.LazyConv2d(4, 1)), r"0\.weight: it has no shape yet"),
        (F.relu, "model: a function; expected an instance of nn.Module"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "no convolution or linear layer"),
        (Net(Call(lambda x: x if x.sum() > 0 else -x)), "control flow that depends on the data"),
        (Net(Call(lambda x: torch.stack([row for row in x]))), "control flow that depends on the data"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_why(model, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(model, X)


class Wrong(nn.Module):
    """Something wrong in the third line of forward."""

    def __init__(self, call):
        super().__init__()
        self.conv, self.prelu, self.call = nn.Conv2d(3, 4, 1), nn.PReLU(), call

    def forward(self, x):
        x = self.conv(x)
        call = dict(op=torch.cumsum, leaf=lambda x, _: self.prelu(x), data=lambda x, _: x.relu())[self.call]
        return call(x, 1) if self.call != "data" or x.sum() > 0 else x


@pytest.mark.parametrize(
    ("call", "offset", "message"),
    [
        ("op", 10, ": no deployable operator"),
        ("leaf", 9, ": no deployable operator"),
        ("data", 10, ": Wrong: forward can't be traced (a tensor's value decides)"),
    ],
)
def test_a_refusal_names_the_users_line(call, offset, message):
    line = inspect.getsourcelines(Wrong)[1] + offset
    with pytest.raises(InputError, match=re.escape(f"{__file__}:{line}{message}")):
        Supernet.from_model(Wrong(call), X)


def test_a_refusal_without_a_line_of_the_users_names_the_module_alone():
    with pytest.raises(InputError, match=r"^PReLU '1': "):
        Supernet.from_model(nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU()), X)
