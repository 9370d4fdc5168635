"""Operator choices: mixtures, what runs, exact extraction, costs with absent operators, blocks priced as one row."""

import copy
import itertools
import random

import pytest
import torch
from models import randomise
from torch import nn

from cost_models.base import CostModel, discrete_cost
from cost_models.counts import COUNTS
from cost_models.expected import ExpectedCost
from cost_models.memory import PeakRam
from lut.errors import InputError
from supernet import Gates, SearchSpace, Supernet, extract, load_subnet, save_subnet
from supernet.mixed import MixedOp
from supernet.networks.mbconv import MBConv, conv_bn_act

SPACE = SearchSpace(weight_bits=(2, 4, 8), act_bits=(4, 8), widths=(0.5, 1.0))
FLOAT = SearchSpace((32,), (32,), (1.0,))


class Mixed(nn.Module):
    """An edge that may be skipped, one that changes the shape, one with a choice inside a candidate."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn_act(3, 8, 3)
        inner = nn.Sequential(conv_bn_act(12, 12, 1), MixedOp(MBConv(12, 12, 3, 1, 1), nn.Identity()))
        self.edges = nn.Sequential(
            MixedOp(MBConv(8, 8, 3, 1, 2), MBConv(8, 8, 5, 1, 1), nn.Identity()),
            MixedOp(conv_bn_act(8, 12, 3, 2), MBConv(8, 12, 5, 2, 2)),
            MixedOp(inner, nn.MaxPool2d(3, 1, 1), nn.Identity()),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(self.pool(self.edges(self.stem(x))).flatten(1))


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def build(space=SPACE):
    torch.manual_seed(0)
    return Supernet.from_model(randomise(Mixed()), X, space).double().eval()


@pytest.fixture(scope="module")
def net():
    return build()


def operators(net):
    """Every combination of operator choices; the other choices drawn at random."""
    draw = random.Random(0)
    for combination in itertools.product(*(choice.options for choice in net.op.values())):
        values = {choice.name: draw.choice(choice.options) for choice in net.choices()}
        yield values | dict(zip((choice.name for choice in net.op.values()), combination))


def test_choices_are_one_per_edge_and_the_default_is_the_plain_model(net):
    options = {choice.name: choice.options for choice in net.op.values()}
    assert options == {
        "edges.0.op": (0, 1, 2),
        "edges.1.op": (0, 1),
        "edges.2.candidates.0.1.op": (0, 1),
        "edges.2.op": (0, 1, 2),
    }
    model = randomise(Mixed()).eval()
    plain = Supernet.from_model(model, X, FLOAT).eval()
    plain.fix(plain.uniform(32, 32))
    torch.testing.assert_close(plain(X), model(X), atol=1e-5, rtol=1e-5)


def test_every_combination_extracts_exactly_and_survives_its_file(net, tmp_path):
    for values in operators(net):
        net.fix(values)
        expected = net(X.double())
        subnet = extract(net, values)
        assert (subnet(X.double()) - expected).abs().max() <= 1e-9 * expected.abs().max()
        assert not any(node.kind == "mix" for node in subnet.nodes)
        assert [op.spec({}) for op in subnet.schedule().ops] == [
            spec for op in net.schedule().ops if (spec := op.spec(values)) is not None
        ]
        save_subnet(subnet, tmp_path / "s.safetensors")
        loaded = load_subnet(tmp_path / "s.safetensors").double()
        assert torch.equal(loaded(X.double()), subnet(X.double()))
        assert loaded.schedule().priced() is not None


def test_a_mixture_is_the_weighted_sum_of_its_candidates():
    """A linear tail makes the scores linear in the mixture."""
    torch.manual_seed(0)
    model = nn.Sequential(conv_bn_act(3, 8, 3), MixedOp(MBConv(8, 8, 3, 1, 2), MBConv(8, 8, 5, 1, 2), nn.Identity()),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))  # fmt: skip
    net = Supernet.from_model(randomise(model), X, FLOAT).double().eval()
    weights = torch.zeros(len(net.choices()), 3, dtype=torch.float64)
    weights[:, 0] = 1
    (choice,) = net.op.values()
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    weights[choice.index] = p
    mixed = net(X.double(), Gates(weights))
    each = []
    for option in choice.options:
        net.fix(net.uniform(32, 32).choices | {choice.name: option})
        each.append(net(X.double()))
    torch.testing.assert_close(mixed, sum(w * y for w, y in zip(p, each)), atol=1e-12, rtol=1e-12)


def test_only_what_is_asked_for_runs(net):
    copied, ran = copy.deepcopy(net), []
    for name, layer in copied.layers.items():
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    values = copied.uniform(8, 8).choices | {"edges.0.op": 2, "edges.2.op": 1}
    copied.fix(values)
    copied(X.double())
    assert ran == ["stem__0", "edges__1__candidates__0__0", "fc"]
    ran.clear()
    gates = Gates(torch.softmax(copied.logits(), 1), run=copied.valid)
    copied(X.double(), gates)
    assert sorted(ran) == sorted(copied.layers)


def test_gradients_reach_the_choice_and_every_candidate_that_ran(net):
    copied = copy.deepcopy(net).train()
    weights = torch.softmax(copied.logits(), 1)
    run = copied.valid.clone()
    run[copied.op["edges.0"].index] = torch.tensor([True, False, True])
    copied(X.double(), Gates(weights, run=run)).square().sum().backward()
    row = copied.alpha.grad[copied.op["edges.0"].index]
    assert (row != 0).all(), "softmax moves all three"
    assert copied.layer("edges.0.candidates.0.project.0").weight.grad.abs().sum() > 0
    assert copied.layer("edges.0.candidates.1.project.0").weight.grad is None


def test_a_skip_ties_widths_and_bits(net):
    width = net.width[net.groups["stem.0"].name]
    assert width is net.width[net.groups["edges.0.candidates.1.project.0"].name]
    assert net.act["stem.0"] is net.act["edges.0.candidates.0.project.0"] is net.act["edges.0.candidates.1.project.0"]
    assert net.act["edges.1.candidates.0.0"] is net.act["edges.2.candidates.0.1.candidates.0.project.0"]
    assert net.act["stem.0"] is not net.act["edges.1.candidates.0.0"]
    pinned = build(SearchSpace(weight_bits=(4, 8), act_bits=(4, 8), pin={"stem.0": {"act_bits": 4}}))
    assert pinned.act["edges.0.candidates.1.project.0"].options == (4,)


def test_absent_operators_cost_nothing_alone_and_in_expectation(net):
    for values in operators(net):
        specs = [spec for op in extract(net, values).schedule().ops if (spec := op.spec({})) is not None]
        assert discrete_cost(net.ops(), COUNTS["weights"], values) == sum(map(COUNTS["weights"], specs))
    space = SearchSpace(weight_bits=(2, 8), act_bits=(8,), widths=(1.0,), first_last_bits=8)
    small = build(space)
    free = [choice for choice in small.op.values()]
    torch.manual_seed(1)
    weights = torch.softmax(
        torch.randn(small.alpha.shape, dtype=torch.float64).masked_fill(~small.valid, -torch.inf), 1
    )
    for choice in small.weight.values():
        weights[choice.index] = torch.eye(weights.shape[1], dtype=torch.float64)[0]
    base = {choice.name: choice.options[0] for choice in small.choices()}
    brute = 0.0
    for options in itertools.product(*(choice.options for choice in free)):
        share = torch.stack([weights[c.index, o] for c, o in zip(free, options)]).prod()
        values = base | {c.name: o for c, o in zip(free, options)}
        brute += float(share) * discrete_cost(small.ops(), COUNTS["bitops"], values)
    expected = ExpectedCost(small.ops(), COUNTS["bitops"], small.choices())(Gates(weights))
    assert float(expected) == pytest.approx(brute, rel=1e-12)


def test_blocks_that_a_table_prices_are_one_row(net):
    values = net.uniform(8, 8).choices
    ops = {op.name: op.spec(values) for op in net.schedule().priced(frozenset({"mbconv"}))}
    block = ops["edges.0.candidates.0"]
    assert (block.kind, block.c_in, block.c_out, block.height, block.kernel, block.stride) == (
        "mbconv", 8, 8, 8, (3, 3), (1, 1),
    )  # fmt: skip
    assert block.attrs == "act=relu6;mid=16;residual=1;se=0"
    assert (block.pad, block.w_bits, block.in_bits, block.out_bits) == ((1, 1, 1, 1), 8, (8,), 8)
    assert ops["edges.0.candidates.1"] is None
    assert "edges.0.candidates.0.project.0" not in ops
    assert ops["edges.1.candidates.0.0"].kind == "conv2d", "a candidate that is no block stays its layers"
    assert len(net.schedule().priced()) == len(net.schedule().ops)
    inner = next(b for b in net.schedule().blocks if b.op.name == "edges.2.candidates.0.1.candidates.0")
    assert {choice.name for choice in inner.op.choices} >= {"edges.2.op", "edges.2.candidates.0.1.op"}
    assert inner.op.spec(values | {"edges.2.candidates.0.1.op": 1}) is None


class Scratch(CostModel):
    """Of every operator: 100 bytes for each input channel."""

    name, unit = "workspace", "B"

    def __call__(self, op):
        return 100.0 * op.c_in


@pytest.mark.parametrize("storage", ["byte", "packed"])
@pytest.mark.parametrize("workspace", [None, Scratch()])
def test_memory_is_that_of_the_network_of_the_chosen_operators(net, storage, workspace):
    """The largest row is the live-set bound of the extracted network, the plan its plan."""
    ram = PeakRam(net.schedule(), storage, workspace, slack=64)
    rows = ram.rows()
    for values in operators(net):
        alone = PeakRam(extract(net, values).schedule(), storage, workspace, slack=64)
        assert max(sum(term.at(values) for term in row) for row in rows) + 64 == ram.bound(values) == alone.bound({})
        assert ram.planned(values) == alone.planned({}) >= ram.bound(values)


class Around(nn.Module):
    """Edges that may be skipped, alone and in a row, inside longer ways past them."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn_act(3, 8, 3)
        self.edges = nn.ModuleList(MixedOp(conv_bn_act(8, 8, 3), nn.Identity()) for _ in range(5))
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        a, b, c, d, e = self.edges
        x = self.stem(x)
        x = torch.relu(self.last(a(x)) + x)
        x = torch.relu(c(b(x)) + x)
        y = d(x)
        return self.fc((e(y) + y + x).mean((2, 3)))


@pytest.mark.parametrize("storage", ["byte", "packed"])
def test_memory_is_what_the_network_needs(storage):
    torch.manual_seed(0)
    around = Supernet.from_model(randomise(Around()), X, SPACE).double().eval()
    ram = PeakRam(around.schedule(), storage)
    rows = ram.rows()
    for values in operators(around):
        largest = max(sum(term.at(values) for term in row) for row in rows)
        assert largest == ram.bound(values) == PeakRam(extract(around, values).schedule(), storage).bound({})


def test_candidates_inherit_the_default():
    """A larger kernel of the same width is the same function; a narrower one keeps the heaviest middle channels."""
    torch.manual_seed(0)
    mixed = MixedOp(MBConv(8, 8, 3, 1, 4), MBConv(8, 8, 7, 1, 4), MBConv(8, 8, 5, 1, 2), nn.Identity()).eval()
    randomise(mixed)
    default, large, narrow, _ = mixed.candidates
    with torch.no_grad():
        default.project[0].weight[:, 1::2] = 0
    x = torch.randn(2, 8, 8, 8)
    assert not torch.allclose(large(x), default(x), atol=1e-3)
    mixed.inherit()
    torch.testing.assert_close(large(x), default(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(narrow(x), default(x), atol=1e-5, rtol=1e-5)
    before = copy.deepcopy(default.state_dict())
    default.inherit(large)
    assert all(torch.equal(before[name], tensor) for name, tensor in default.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixedOp(nn.Conv2d(8, 8, 1)), "1 candidates; an operator choice needs two"),
        (lambda: MixedOp(nn.Identity(), nn.Identity()), "two identities"),
        (lambda: MixedOp(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)), r"MixedOp '1': candidates .* 8x8x8, 6x8x8"),
        (lambda: MixedOp(nn.Conv2d(8, 8, 1), nn.Softplus()), r"1\.candidates\.1: Softplus .* no deployable operator"),
        (lambda: MixedOp(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), r"MixedOp '1': candidates .* 8x8x8, 8x6x6"),
    ],
)
def test_edges_that_cannot_be_mixed(make, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(nn.Sequential(nn.Conv2d(3, 8, 1), make(), nn.Flatten(), nn.Linear(512, 2)), X, FLOAT)


def test_a_mixed_op_used_twice_is_refused():
    mixed = MixedOp(nn.Conv2d(3, 3, 1), nn.Identity())
    with pytest.raises(InputError, match="used twice"):
        Supernet.from_model(nn.Sequential(mixed, mixed, nn.Flatten(), nn.Linear(192, 2)), X, FLOAT)
