"""Sensitivity against its definition, and its assignment against brute force."""

import itertools

import numpy as np
import pytest
import torch
from models import PlainAdd
from torch import nn

from cost_models.base import discrete_cost
from cost_models.counts import COUNTS
from search.budget import Budget, BudgetError
from search.dataset import Dataset
from search.evaluate import mode, reestimate_batchnorm
from search.progress import Metrics
from search.quick import full_width_first, quick, quick_scores, sensitivity, subset
from search.solve import solve
from search.train import smoothed_cross_entropy
from supernet import SearchSpace, Supernet
from supernet.mixed import MixedOp
from supernet.skip import skippable

LOSS = smoothed_cross_entropy(0.0)


def blobs(count=60, seed=0):
    """Four classes, each a bright quarter of an 8x8 image."""
    splits = {}
    for split in ("train", "validation", "test"):
        seed += 1
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(count) % 4
        x = torch.randint(0, 120, (count, 1, 8, 8), generator=generator)
        for label in range(4):
            row, column = divmod(label, 2)
            x[y == label, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
        splits[split] = (x.to(torch.uint8), y)
    return Dataset("blobs", **splits, mean=(100.0,), std=(70.0,), num_classes=4)


class Small(nn.Module):
    """Two normalised convolutions and a classifier."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool, self.fc = nn.AvgPool2d(4), nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.pool(self.b(self.a(x))).flatten(1))


def trained(model, data, steps=30):
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    (x, y), *_ = data.batches("train", 60)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def data():
    return blobs()


@pytest.fixture
def net(data):
    x = next(iter(data.batches("train", 60)))[0]
    space = SearchSpace((2, 4, 8), (4, 8), (0.5, 1.0), first_last_bits=None)
    return Supernet.from_model(trained(Small(), data), x, space)


def loss_of(net, data, values):
    net.fix(values)
    reestimate_batchnorm(net, data, 1)
    (x, y), *_ = data.batches("validation", 60)
    with mode(net, training=False), torch.no_grad():
        return LOSS(net(x), y).item()


def test_sensitivity_is_the_increase_of_the_loss_when_one_choice_leaves_its_highest_option(net, data):
    omega = sensitivity(net, data, images=60)
    highest = {c.name: c.options[-1] for c in net.choices()}
    base = loss_of(net, data, highest)
    for choice in net.choices():
        for i, option in enumerate(choice.options):
            expected = loss_of(net, data, {**highest, choice.name: option}) - base
            assert omega[choice.index, i] == pytest.approx(expected, abs=1e-5)
        assert omega[choice.index, len(choice.options) - 1] == 0
    assert omega.max() > 0.01  # 2 bits harm


class Skipped(nn.Module):
    """Two blocks that may be skipped, one of which has a choice of kernels inside."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        convs = (nn.Sequential(nn.Conv2d(8, 8, k, padding=k // 2), nn.BatchNorm2d(8), nn.ReLU()) for k in (3, 1))
        self.c = nn.Sequential(MixedOp(*convs))
        self.pool, self.fc = nn.AvgPool2d(4), nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.pool(self.c(self.b(self.a(x)))).flatten(1))


def test_operators_are_measured_against_the_default_ones_and_what_is_inside_another_beside_it(data):
    x = next(iter(data.batches("train", 60)))[0]
    model = skippable(trained(Skipped(), data), ["[bc]"], x)
    net = Supernet.from_model(model, x, SearchSpace((2, 8), (8,), (0.5, 1.0), first_last_bits=None))
    base = {c.name: c.options[0 if c.kind == "op" else -1] for c in net.choices()}
    mix, other = "c.candidates.0.0.op", "c.candidates.0.0.candidates.1.0.weight_bits"
    omega = sensitivity(net, data, images=60)
    for choice in net.choices():
        around = base | ({mix: 1} if choice.name == other else {})
        for i, option in enumerate(choice.options):
            expected = loss_of(net, data, {**around, choice.name: option}) - loss_of(net, data, around)
            assert omega[choice.index, i] == pytest.approx(expected, abs=1e-5)
        assert choice.pinned or omega[choice.index].any(), f"{choice.name} is in no network that was measured"


def test_the_network_is_left_as_it_was(net, data):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    sensitivity(net, data, images=60)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_the_assignment_is_the_best_of_all_that_fit(data):
    x = next(iter(data.batches("train", 60)))[0]
    space = SearchSpace((2, 4, 8), (4, 8), (1.0,), first_last_bits=None)
    net = Supernet.from_model(trained(Small(), data), x, space)
    costs = {"weights": COUNTS["weights"], "bitops": COUNTS["bitops"]}
    omega = sensitivity(net, data, images=60)
    choices = net.choices()
    harm, full = {}, {c.name: c.options[-1] for c in choices}
    for options in itertools.product(*(range(len(c.options)) for c in choices)):
        values = {c.name: c.options[i] for c, i in zip(choices, options)}
        harm[options] = sum(omega[c.index, i] for c, i in zip(choices, options)), values
    for share in (0.4, 0.6, 0.9):
        limits = [Budget(m, share * discrete_cost(net.ops(), cost, full), cost.unit) for m, cost in costs.items()]
        inside = [
            total for total, values in harm.values()
            if all(b.fits(discrete_cost(net.ops(), costs[b.metric], values)) for b in limits)
        ]  # fmt: skip
        (arch,) = solve(choices, net.schedule(), quick_scores(net, data, costs, limits, images=60), costs, limits, n=1)
        found = sum(omega[c.index, c.position(arch.choices[c.name])] for c in choices)
        assert found == pytest.approx(min(inside), abs=1e-6)


def test_widths_stay_full_where_bits_suffice_and_only_there(net):
    costs = {"weights": COUNTS["weights"], "macs": COUNTS["macs"]}
    choices, schedule = net.choices(), net.schedule()
    scores = np.zeros(net.alpha.shape)
    for choice in choices:
        if choice.kind == "weight_bits":
            scores[choice.index, 0] = -1.0  # cutting a width would cost nothing, 2 bits do
    full = {c.name: c.options[-1] for c in choices}
    half = Budget("weights", 0.5 * discrete_cost(net.ops(), costs["weights"], full), "B")
    closed = full_width_first(choices, schedule, scores, costs, [half])
    for arch in solve(choices, schedule, closed, costs, [half], n=3):
        assert all(arch.choices[c.name] == c.options[-1] for c in choices if c.kind == "width")
    narrow = Budget("macs", 0.7 * discrete_cost(net.ops(), costs["macs"], full), "")
    assert full_width_first(choices, schedule, scores, costs, [narrow]) is scores


def test_a_loss_that_is_not_finite_counts_as_the_worst(net, data):
    calls = itertools.count()

    def loss(output, target):
        return torch.tensor(float("nan")) if next(calls) == 3 else LOSS(output, target)

    omega = sensitivity(net, data, loss=loss, images=60)
    assert np.isfinite(omega).all()
    assert (omega == omega.max()).sum() == 2


def test_quick_fits_its_budgets_and_comes_best_first(net, data):
    budgets = [Budget.parse("weights=45%"), Budget.parse("macs=70%")]
    candidates = quick(net, data, budgets=budgets, images=60)
    full = net.uniform(8, 8).choices
    for candidate in candidates:
        for metric, share in (("weights", 0.45), ("macs", 0.7)):
            limit = share * discrete_cost(net.ops(), COUNTS[metric], full)
            assert discrete_cost(net.ops(), COUNTS[metric], candidate.arch.choices) <= limit
    metrics = [candidate.metric for candidate in candidates]
    assert metrics == sorted(metrics, reverse=True)
    assert metrics[0] > 0.9


def test_out_of_reach_is_refused_before_anything_is_measured(net, data):
    def loss(output, target):
        raise AssertionError("measured")

    with pytest.raises(BudgetError, match=r"weights <= 1 B: the smallest reachable is") as caught:
        quick(net, data, budgets=[Budget.parse("weights=1B")], loss=loss)
    assert caught.value.exit_code == 3


def test_the_effort_is_recorded_once(net, data):
    metrics = Metrics()
    for _ in range(2):
        quick_scores(net, data, {}, [], images=60, metrics=metrics)
    (row,) = metrics.rows
    assert row["phase"] == "sensitivity"
    assert row["cpu_seconds"] > 0


def test_networks_without_batch_norm(data):
    x = next(iter(data.batches("train", 60)))[0]
    net = Supernet.from_model(trained(PlainAdd(), data), x, SearchSpace((4, 8), (8,), (1.0,)))
    assert sensitivity(net, data, images=60).shape == tuple(net.alpha.shape)


def test_the_subset_is_the_same_for_every_call_and_no_larger_than_needed(data):
    first, second = subset(data, "validation", 20, 3), subset(data, "validation", 20, 3)
    assert sum(len(x) for x, _ in first) == 20
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second))
    assert sum(len(x) for x, _ in subset(data, "validation", 500, 3)) == 60
