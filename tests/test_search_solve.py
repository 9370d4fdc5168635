"""The budget solver against brute force over all architectures."""

import os
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from schedules import HashTable, assignments, random_schedule
from torch import nn

from cost_models.counts import COUNTS
from cost_models.memory import PeakRam
from cost_models.table import TableLatency
from lut.calibrate import Calibration
from search.budget import Budget, BudgetError
from search.nearby import improved
from search.program import silent
from search.solve import cost_of, log_probabilities, reachable, solve, solve_net
from supernet import SearchSpace, Supernet
from supernet.choice import Choice


def problem(seed: int, storage="packed"):
    """A space of a few hundred architectures with all their costs and scores."""
    choices, schedule = random_schedule(seed, layers=4 - seed % 2, max_options=2 + seed % 2, skip=seed % 3 == 0)
    generator = np.random.default_rng(seed)
    alpha = torch.from_numpy(generator.normal(size=(len(choices), 3)))
    scores = log_probabilities(choices, alpha)
    costs = {
        "latency": TableLatency(HashTable({}), calibration=Calibration(call_us=7.0)),
        "weights": COUNTS["weights"],
        "ram": PeakRam(schedule, storage),
    }
    every = []
    for values in assignments(choices):
        score = sum(scores[c.index, c.position(values[c.name])] for c in choices)
        every.append((score, values, {m: cost_of(schedule, cost, values) for m, cost in costs.items()}))
    return choices, schedule, scores, costs, sorted(every, key=lambda item: -item[0])


SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_n_best_are_those_of_brute_force_in_order(seed):
    choices, schedule, scores, costs, every = problem(seed, "byte" if seed % 2 else "packed")
    generator = np.random.default_rng(seed)
    compared = 0
    for metrics in (("latency",), ("ram",), ("latency", "weights"), ("latency", "weights", "ram")):
        budgets = [
            Budget(m, float(np.quantile([predicted[m] for _, _, predicted in every], generator.uniform(0.2, 0.7))), "")
            for m in metrics
        ]
        fitting = [item for item in every if all(b.fits(item[2][b.metric]) for b in budgets)]
        if not fitting:
            with pytest.raises(BudgetError):
                solve(choices, schedule, scores, costs, budgets)
            continue
        compared += 1
        found = solve(choices, schedule, scores, costs, budgets, n=4, seed=9)
        assert len(found) == min(4, len(fitting))
        for arch, (score, _, _) in zip(found, fitting):
            reached = sum(scores[c.index, c.position(arch.choices[c.name])] for c in choices)
            assert reached == pytest.approx(score, abs=1e-6)
            assert arch.predicted == {m: cost_of(schedule, cost, arch.choices) for m, cost in costs.items()}
            assert all(b.fits(arch.predicted[b.metric]) for b in budgets)
            assert arch.seed == 9
        assert len({tuple(arch.choices.items()) for arch in found}) == len(found)
    assert compared


@pytest.mark.parametrize("seed", SEEDS)
def test_reachable_is_the_extremes_of_brute_force(seed):
    choices, schedule, _, costs, every = problem(seed)
    for metric, (low, high) in reachable(choices, schedule, costs).items():
        reached = [predicted[metric] for _, _, predicted in every]
        if metric == "ram":  # the ends of the bound, as the planner places them
            bounds = [costs[metric].bound(values) for _, values, _ in every]
            ends = [predicted[metric] for (_, _, predicted), b in zip(every, bounds) if b in (min(bounds), max(bounds))]
            assert low in ends
            assert high in ends
            assert low >= min(bounds)
        else:
            assert (low, high) == (pytest.approx(min(reached)), pytest.approx(max(reached)))


def test_a_budget_below_reach_names_the_smallest_cost():
    choices, schedule, scores, costs, every = problem(4)
    low = min(predicted["weights"] for _, _, predicted in every)
    with pytest.raises(BudgetError, match=rf"weights <= 1 B: the smallest reachable is {low:g} B") as caught:
        solve(choices, schedule, scores, costs, [Budget("weights", 1.0, "B"), Budget("ram", 1e6, "B")])
    assert caught.value.smallest["weights"] == low


def test_budgets_that_exclude_each_other_say_so():
    choices, schedule, scores, costs, every = problem(5)
    latencies, weights = (np.array([p[m] for _, _, p in every]) for m in ("latency", "weights"))
    limits = {"latency": latencies.min(), "weights": weights.min()}
    inside = weights[latencies <= limits["latency"]].min()
    assert inside > limits["weights"], "seed without a conflict"
    with pytest.raises(BudgetError, match="inside the others") as caught:
        solve(choices, schedule, scores, costs, [Budget(m, v, "") for m, v in limits.items()])
    assert caught.value.smallest["weights"] == pytest.approx(inside)


@pytest.mark.parametrize("seed", [0, 4])
def test_a_plan_that_needs_more_than_the_bound_is_cut_off(seed):
    """Small tensors at multiples of 64 bytes."""
    choices, schedule, scores, costs, every = problem(seed, "packed")
    ram, cut = costs["ram"], 0
    for limit in {predicted["ram"] - 1 for _, _, predicted in every}:
        fitting = [item for item in every if item[2]["ram"] <= limit]
        bound_fits = [item for item in every if ram.bound(item[1]) <= limit]
        if fitting and bound_fits[0] != fitting[0]:
            cut += 1
            (arch,) = solve(choices, schedule, scores, costs, [Budget("ram", limit, "B")], n=1)
            assert arch.choices == fitting[0][1]
    assert cut


def test_a_limit_that_is_met_exactly_is_met():
    choices, schedule, scores, costs, every = problem(7)
    for metric in costs:
        low = min(predicted[metric] for _, _, predicted in every)
        (arch,) = solve(choices, schedule, scores, costs, [Budget(metric, low, "")], n=1)
        assert arch.predicted[metric] == pytest.approx(low, rel=1e-9)


def test_without_budgets_it_is_argmax():
    choices, schedule, scores, costs, every = problem(2)
    (arch,) = solve(choices, schedule, scores, costs, [], n=1)
    assert arch.choices == every[0][1]


def test_every_architecture_once_when_fewer_fit_than_asked():
    choices, schedule, scores, costs, every = problem(6)
    third = sorted(predicted["latency"] for _, _, predicted in every)[2]
    fitting = [item for item in every if item[2]["latency"] <= third]
    found = solve(choices, schedule, scores, costs, [Budget("latency", third, "us")], n=len(fitting) + 5)
    assert len(found) == len(fitting)


def test_bad_budgets():
    choices, schedule, scores, costs, _ = problem(2)
    with pytest.raises(ValueError, match="no cost model of that name"):
        solve(choices, schedule, scores, costs, [Budget("params", 5, "")])
    with pytest.raises(ValueError, match="resolve it"):
        solve(choices, schedule, scores, costs, [Budget.parse("ram=50%")])
    with pytest.raises(ValueError, match="not finite"):
        solve(choices, schedule, np.full_like(scores, np.nan), costs, [])


def test_solve_net_reads_the_supernet():
    choices, schedule, scores, costs, every = problem(3)
    alpha = torch.nn.Parameter(torch.from_numpy(np.where(np.isfinite(scores), scores, 5.0) + 1.5))
    net = SimpleNamespace(choices=lambda: choices, schedule=lambda: schedule, arch_parameters=lambda: [alpha])
    (arch,) = solve_net(net, costs, [], n=1)
    assert arch.choices == every[0][1]


@dataclass(frozen=True)
class Fragmented(PeakRam):
    """A planner that needs 40 % more than the live sets where these are above `easy` bytes."""

    easy: float = 0.0

    def planned(self, values):
        bound = self.bound(values)
        return 1.4 * bound if bound > self.easy else bound


def test_a_plan_that_keeps_missing_its_bound_does_not_end_the_search(monkeypatch):
    monkeypatch.setattr("search.solve.MAX_CUTS", 1)
    monkeypatch.setattr("search.solve.PATIENCE", 1)
    choices, schedule = random_schedule(3, layers=9, max_options=4)
    scores = np.zeros((len(choices), 4))
    for c in choices:
        scores[c.index, : len(c.options)] = np.arange(len(c.options))  # the widest network is the most probable
    narrowest = PeakRam(schedule).bound({c.name: c.options[0] for c in choices})
    ram, limit = Fragmented(schedule, easy=1.1 * narrowest), 1.5 * narrowest
    arguments = choices, schedule, scores, {"ram": ram}, [Budget("ram", limit, "B")]
    monkeypatch.setattr("search.solve.SHRINK", 0.8)
    found = solve(*arguments, n=1)
    assert len(found) == 1
    assert all(ram.planned(arch.choices) <= limit for arch in found)


@pytest.mark.parametrize("seed", range(6))
def test_no_memory_limit_that_an_architecture_keeps_is_refused(seed, monkeypatch):
    """Of plans that need 40 % more than the live sets but in the smallest networks, with few cuts and long steps."""
    monkeypatch.setattr("search.solve.MAX_CUTS", 20)
    monkeypatch.setattr("search.solve.PATIENCE", 1)
    monkeypatch.setattr("search.solve.SHRINK", 0.5)
    choices, schedule, scores, costs, every = problem(seed, "byte")
    narrowest = min(costs["ram"].bound(values) for _, values, _ in every)
    costs["ram"] = Fragmented(schedule, "byte", easy=1.1 * narrowest)
    plans = [(costs["ram"].planned(values), predicted["latency"]) for _, values, predicted in every]
    for limit in {plan for plan, _ in plans}:
        slowest = float(np.quantile([latency for plan, latency in plans if plan <= limit], 0.2, method="higher"))
        for latency in (1e9, slowest):
            budgets = [Budget("ram", limit, "B"), Budget("latency", latency, "us")]
            (arch,) = solve(choices, schedule, scores, costs, budgets, n=1)
            assert all(budget.fits(arch.predicted[budget.metric]) for budget in budgets)


class Dense(nn.Module):
    """Concatenations and branches of several lengths: many tensors of unequal sizes are alive at a time."""

    def __init__(self):
        super().__init__()

        def conv(c_in, c_out, kernel, stride=1):
            return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.ReLU())

        self.stem, self.first, self.second, self.third = conv(1, 8, 3), conv(8, 12, 3), conv(20, 10, 3), conv(30, 14, 3)
        self.short, self.middle = conv(14, 30, 1, 2), nn.Sequential(conv(14, 18, 3, 2), conv(18, 30, 3))
        self.long = nn.Sequential(conv(14, 9, 5), conv(9, 30, 3, 2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(30, 4))

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.first(x)], 1)
        x = self.third(torch.cat([x, self.second(x)], 1))
        return self.head(self.short(x) + self.middle(x) + self.long(x))


def test_a_memory_limit_just_above_the_smallest_reachable_is_met():
    space = SearchSpace((8,), (4, 8), (0.25, 0.5, 0.75, 1.0), 1)
    net = Supernet.from_model(Dense().eval(), torch.rand(2, 1, 6, 6), space)
    choices, schedule, costs = net.choices(), net.schedule(), {"ram": PeakRam(net.schedule())}
    smallest, _ = reachable(choices, schedule, costs)["ram"]
    for seed in range(6):
        scores = np.random.default_rng(seed).normal(size=tuple(net.alpha.shape))
        for limit in (smallest, 1.04 * smallest):
            (arch,) = solve(choices, schedule, scores, costs, [Budget("ram", limit, "B")], n=1)
            assert smallest <= arch.predicted["ram"] <= limit


def test_changes_of_single_options_lead_down_to_where_none_does():
    choices = tuple(Choice(name, "width", (1, 2, 4), i) for i, name in enumerate("abc"))
    start = dict.fromkeys("abc", 4)
    assert improved(choices, start, lambda v: v["a"] * v["b"] + v["c"], lambda v: True) == dict.fromkeys("abc", 1)
    kept = improved(choices, start, lambda v: v["a"] + 2 * v["b"] + 3 * v["c"], lambda v: sum(v.values()) >= 8)
    assert kept == {"a": 4, "b": 2, "c": 2} or kept == {"a": 4, "b": 4, "c": 1}
    assert improved(choices, start, lambda v: 0.0, lambda v: True) == start


def test_what_c_code_prints_does_not_reach_standard_output(capfd):
    with silent():
        os.write(1, b"debugging line of a solver\n")
    print("result")
    assert capfd.readouterr().out == "result\n"
