"""Widths that several choices make: exact in expectation, in the solver and in what is extracted."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from models import randomise
from schedules import HashTable, assignments
from test_cost_models_expected import expectation, random_gates
from test_supernet_zoo import MEAN, SPACE, STD, X, convert
from torch import nn

from cost_models.base import discrete_cost
from cost_models.counts import COUNTS
from cost_models.expected import ExpectedCost, ExpectedPeak, expected
from cost_models.memory import PeakRam
from cost_models.table import TableLatency
from search.budget import Budget
from search.solve import cost_of, log_probabilities, reachable, solve
from supernet import SearchSpace, Supernet, extract
from supernet.choice import Choice, one_hot_gates
from supernet.derived import Derived, derived, sums
from supernet.widths import MOST_SUMS


class Branches(nn.Module):
    """Layers of several widths, joined, normalised, joined again with one of them, and read by a convolution."""

    def __init__(self, widths=(4, 8, 12, 8), again=True):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, c, 1) for c in widths)
        total, self.again = sum(widths), again
        self.norm, self.next = nn.BatchNorm2d(total), nn.Conv2d(total, 8, 1)
        self.fc = nn.Linear(8 + (widths[0] + total if again else 0), 5)

    def forward(self, x):
        made = [branch(x) for branch in self.branches]
        joined = torch.relu(self.norm(torch.cat(made, 1)))
        x = self.next(joined)
        if self.again:
            x = torch.cat([x, made[0], joined], 1)
        return self.fc(x.mean((2, 3)))


def supernet(widths=(4, 8, 12, 8), again=True, fractions=(0.5, 1.0), multiple=2, bits=(8,)):
    space = SearchSpace(bits, (8,), fractions, channel_multiple=multiple)
    return Supernet.from_model(randomise(Branches(widths, again)), X, space, MEAN, STD).eval()


def sum_axes(net):
    return {axis for op in net.schedule().ops for axis in op.choices if isinstance(axis, Derived)}


def test_sums_merge_combinations():
    a, b, c = (Choice(name, "width", (2, 4), i) for i, name in enumerate("abc"))
    total = derived({a: (2, 4), b: (2, 4), c: (3, 4)})
    assert total.options == sums([(2, 4), (2, 4), (3, 4)]) == (7, 8, 9, 10, 11, 12)
    assert total.sources == (a, b, c) and total.name == "a + b + c"
    for option in total.options:
        assert total.value(total.settings(option)) == option
    assert derived({a: (2, 4)}) is a
    assert pickle.loads(pickle.dumps(total)) == total


def test_an_operator_behind_a_concat_has_one_axis_of_sums():
    net = supernet()
    ops = {op.name: op for op in net.schedule().ops}
    (into,) = (axis for axis in ops["next"].choices if isinstance(axis, Derived))
    assert into.options == tuple(range(16, 33, 2)) and len(into.parts) == 4
    assert [len(axis.options) for axis in ops["norm"].choices] == [9], "in and out are one sum"
    one, rest = ops["cat.1"].choices
    assert not isinstance(one, Derived) and isinstance(rest, Derived) and one not in rest.sources
    for op in net.schedule().ops:
        sources = [source for axis in op.choices for source in axis.sources]
        assert len(sources) == len(set(sources)), "axes are independent"


@pytest.mark.parametrize("cost", [*COUNTS.values(), TableLatency(HashTable({}))], ids=lambda cost: cost.name)
def test_the_expectation_is_that_of_brute_force_and_so_is_its_gradient(cost):
    net = supernet(bits=(4, 8))
    choices, schedule = [c for c in net.choices()], net.schedule()
    free = tuple(c for c in choices if not c.pinned)
    assert len(free) >= 6 and sum_axes(net)
    alpha, gates = random_gates(choices)
    value = ExpectedCost(schedule.ops, cost, choices)(gates)
    brute = torch.zeros((), dtype=torch.float64)
    for values in assignments(choices):
        probability = torch.stack([gates.of(c)[c.position(values[c.name])] for c in free]).prod()
        brute = brute + probability * discrete_cost(schedule.ops, cost, values)
    torch.testing.assert_close(value, brute, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(v, alpha, retain_graph=True)[0] for v in (value, brute))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    if cost.name != "macs":
        assert (ours[[c.index for c in free if c.kind == "width"]].abs().sum(1) > 0).all()


@pytest.mark.parametrize("storage", ["byte", "packed"])
def test_the_peak_is_that_of_the_expected_live_sets(storage):
    net = supernet()
    choices, ram = net.choices(), PeakRam(net.schedule(), storage)
    _, gates = random_gates(choices)
    rows = [expectation(choices, gates, lambda v, row=row: sum(term.at(v) for term in row)) for row in ram.rows()]
    assert ExpectedPeak(ram, choices)(gates).item() == pytest.approx(max(rows).item(), rel=1e-12)
    assert ram.choices <= set(choices)
    for values in itertools.islice(assignments(choices), 16):
        bound = max(sum(term.at(values) for term in row) for row in ram.rows())
        assert bound == ram.bound(values)
        one_hot = one_hot_gates(choices, values, torch.float64)
        assert ExpectedPeak(ram, choices)(one_hot).item() == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_solver_finds_what_brute_force_finds(seed):
    net = supernet(
        widths=(4, 8, 12, 8)[: 3 + seed % 2], again=seed % 3 > 0, fractions=((0.5, 1.0), (0.5, 0.75, 1.0))[seed % 2]
    )
    choices, schedule, random = net.choices(), net.schedule(), np.random.default_rng(seed)
    alpha = torch.from_numpy(random.normal(size=tuple(net.alpha.shape)))
    scores = log_probabilities(choices, alpha)
    costs = {"latency": TableLatency(HashTable({})), "macs": COUNTS["macs"], "ram": PeakRam(schedule)}
    every = []
    for values in assignments(choices):
        score = sum(scores[c.index, c.position(values[c.name])] for c in choices)
        every.append((score, values, {metric: cost_of(schedule, cost, values) for metric, cost in costs.items()}))
    every.sort(key=lambda item: -item[0])
    for metrics in (("latency",), ("macs",), ("ram",), ("latency", "macs", "ram")):
        budgets = [
            Budget(m, float(np.quantile([row[2][m] for row in every], random.uniform(0.3, 0.7))), "") for m in metrics
        ]
        fitting = [row for row in every if all(budget.fits(row[2][budget.metric]) for budget in budgets)]
        found = solve(choices, schedule, scores, {m: costs[m] for m in costs}, budgets, n=3)
        assert len(found) == min(3, len(fitting)) > 0
        for arch, (score, _, _) in zip(found, fitting):
            reached = sum(scores[c.index, c.position(arch.choices[c.name])] for c in choices)
            assert reached == pytest.approx(score, abs=1e-6)
            assert arch.predicted == {m: cost_of(schedule, cost, arch.choices) for m, cost in costs.items()}
    low, high = reachable(choices, schedule, {"latency": costs["latency"]})["latency"]
    latencies = [row[2]["latency"] for row in every]
    assert (low, high) == (pytest.approx(min(latencies)), pytest.approx(max(latencies)))


@pytest.mark.parametrize("name", ["densenet", "inception"])
@torch.no_grad()
def test_networks_of_concats_cost_at_one_hot_what_is_extracted(name):
    net = convert(name)
    assert sum_axes(net)
    choices, schedule = net.choices(), net.schedule()
    modules = {metric: expected(COUNTS[metric], schedule, choices) for metric in ("macs", "weights")}
    random = np.random.default_rng(0)
    for _ in range(3):
        values = {c.name: int(random.choice(c.options)) for c in choices}
        subnet = extract(net, values)
        for metric, module in modules.items():
            exact = discrete_cost(subnet.schedule().ops, COUNTS[metric], {})
            assert module(one_hot_gates(choices, values, torch.float64)).item() == pytest.approx(exact, rel=1e-12)


def test_networks_without_such_concats_are_priced_as_ever():
    for name in ("vgg", "mobilenet_v3", "squeezenet"):
        net = convert(name)
        assert not sum_axes(net)
        module = ExpectedCost(net.schedule().ops, COUNTS["macs"], net.choices())
        assert module.terms.convolution is None
        assert all(max(len(net.width[g.name].options) for g in row) <= 3 for row in net.layout.values())


def test_too_many_sums_tie_the_last_widths_and_say_so():
    widths = tuple(2**i for i in range(2, 9))  # every subset of the branches has a sum of its own
    net = supernet(widths, again=False, fractions=(0.25, 0.75, 1.0), multiple=1)
    row = net.layout["cat"]
    own = list(dict.fromkeys(net.width[group.name] for group in row))
    assert 2 <= len(own) < len(widths) and own[0] is net.width[row[0].name]
    assert net.width[row[-1].name] is net.width[row[-2].name]
    assert all(len(axis.options) <= MOST_SUMS for axis in sum_axes(net))
    assert not row[0].tied and row[-1].tied
    line = next(line for line in net.summary().splitlines() if line.startswith("branches.6 "))
    assert f"width tied: in a row of more than {MOST_SUMS} different widths" in line


def test_a_space_of_many_concats_stays_in_few_stacks():
    """Grids of like operators have one shape, whatever the number of sums."""
    torch.manual_seed(0)
    from zoo import DenseNet

    net = Supernet.from_model(randomise(DenseNet(growth=8, layers=8)), X, SPACE, MEAN, STD)
    module = ExpectedCost(net.schedule().ops, TableLatency(HashTable({})), net.choices())
    assert len(module.terms.forms.layout.shapes) < len(net.schedule().ops) / 2
