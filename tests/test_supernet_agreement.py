"""A network that computes something else than its model is refused; one that rounds otherwise is not."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from torch import nn

from lut.errors import InputError
from supernet import SearchSpace, Supernet, register_op
from supernet.agreement import check_agreement, difference
from supernet.mixed import MixedOp

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions with `call` between them; `head`: what is made of the last."""

    def __init__(self, call, head=lambda x: x.mean((2, 3)), **more):
        super().__init__()
        self.a, self.b, self.call, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), call, head
        for name, module in more.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.head(self.b(self.call(self, self.a(x))))


class Act(nn.Module):
    def forward(self, x):
        return F.relu(x)


def by_type(s, x):
    return x.relu() if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Net(by_type), r"Net: the traced network computes something else than the model: its output differs by \d.* of "
         r"the largest value.*isinstance\(x, torch\.Tensor\).*register_op"),
        (Net(lambda s, x: x.relu() if torch.is_tensor(x) else x), "its output differs"),
        (Net(by_type, lambda x: {"map": x, "same": {"mean": x.mean((2, 3))}}),
         r"output 'map', output 'same\.mean' differs"),
        (Net(lambda s, x: x, lambda x: (x, x) if isinstance(x, torch.Tensor) else x),
         r"it returns a tensor \(2, 4, 8, 8\), and the model a tuple of 2"),
    ],
)  # fmt: skip
def test_what_tracing_does_not_see(model, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(randomise(model), X)


def test_outputs_that_agree_are_not_named():
    model = randomise(Net(lambda s, x: x, lambda x: (x, x.relu() if isinstance(x, torch.Tensor) else x)))
    with pytest.raises(InputError, match="the model: output '1' differs"):
        Supernet.from_model(model, X)


def test_a_wrong_stand_in_is_named_and_a_meant_one_is_not_compared():
    model = randomise(Net(lambda s, x: s.act(x), act=Act()))
    try:
        register_op(Act, lambda module: ("identity", {}))
        with pytest.raises(InputError, match=r"registered for 'act' computes something else .*exact=False"):
            Supernet.from_model(model, X)
        register_op(Act, lambda module: ("act", {"high": float("inf")}))
        Supernet.from_model(model, X)
        register_op(Act, lambda module: ("act", {"high": 1e-3}), exact=False)
        Supernet.from_model(model, X)
        inside = nn.Sequential(MixedOp(nn.Sequential(nn.Conv2d(3, 4, 1), Act()), nn.Conv2d(3, 4, 3, padding=1)))
        Supernet.from_model(inside, X)
    finally:
        register_op(Act, None)


def test_the_default_operator_is_compared_at_full_width_whatever_the_space():
    torch.manual_seed(0)
    edge = MixedOp(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Identity())
    pad = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.GELU())
    model = Net(lambda s, x: F.layer_norm(s.pad(s.edge(x)).permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2), edge=edge,
                pad=pad)  # fmt: skip
    for space in (SearchSpace(), SearchSpace(widths=(0.25, 0.5)), SearchSpace(pin={"a": {"width": 0.5}}),
                  SearchSpace((32,), (32,), (1.0,))):  # fmt: skip
        Supernet.from_model(randomise(model), X, space)
        Supernet.from_model(model.double(), X[:1].double(), space)
        model.float()


def test_the_model_the_generator_and_the_example_are_left_as_they_were():
    class Counting(nn.BatchNorm2d):
        def forward(self, x):
            self.num_batches_tracked.add_(1)
            return super().forward(x)

    model = Net(lambda s, x: s.drop(s.norm(x)), norm=Counting(8), drop=nn.Dropout(0.5)).train()
    model.norm.eval()
    x, state = X.clone(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    net = Supernet.from_model(model, x)
    assert model.training and not model.norm.training and net.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters()) and torch.equal(x, X)
    norm = net.batch_norms()[0]
    assert torch.equal(norm.running_mean, model.norm.running_mean) and norm.num_batches_tracked == 0

    class Random(nn.Module):
        def forward(self, x):
            return x + 0 * float(torch.rand(1))

    model = nn.Sequential(Random(), nn.Conv2d(3, 4, 1))
    net = Supernet.from_model(model, x)
    before = torch.get_rng_state()
    check_agreement(net, model, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_zeros_and_values_that_are_not_finite():
    zeros, x = torch.zeros(2, 3), torch.tensor([1.0, 4.0, -2.0])
    assert difference(zeros, zeros) == 0 and difference(zeros + 1e-10, zeros) < 1e-3
    assert difference(x + 0.4, x) == pytest.approx(0.1)
    odd = torch.tensor([1.0, float("inf"), float("nan")])
    assert difference(x, odd) == 0 and difference(torch.tensor([1.0, 4.0, float("nan")]), x) == float("inf")
    assert difference(odd, odd) == 0 and difference(x, odd * torch.inf) == 0
    last = nn.Conv2d(3, 4, 1)
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    Supernet.from_model(nn.Sequential(nn.Conv2d(3, 3, 1), last), X)
    exploding = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    nn.init.constant_(exploding[0].weight, 1e30), nn.init.constant_(exploding[1].weight, 1e30)
    Supernet.from_model(exploding, X)


def test_a_constant_example_hides_nothing_and_one_image_may_be_squeezed():
    bias_free = Net(by_type)
    bias_free.a, bias_free.b = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
    with pytest.raises(InputError, match="its output differs"):
        Supernet.from_model(bias_free, torch.zeros(1, 3, 8, 8))
    Supernet.from_model(Net(lambda s, x: x, lambda x: x.mean((2, 3), keepdim=True).squeeze()), X[:1])


def test_keys_of_a_dict_stay_what_they_are():
    net = Supernet.from_model(Net(lambda s, x: x, lambda x: {0: x.mean((2, 3)), "map": x}), X)
    assert list(net.eval()(X)) == [0, "map"]
    ordered = Supernet.from_model(Net(lambda s, x: x, lambda x: OrderedDict(out=x)), X)
    assert list(ordered(X)) == ["out"]
    with pytest.raises(InputError, match=r"the key \(0, 1\); only strings and integers"):
        Supernet.from_model(Net(lambda s, x: x, lambda x: {(0, 1): x}), X)
