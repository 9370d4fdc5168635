import math

import pytest
import torch

from search.budget import Budget
from search.objective import OBJECTIVES, Lagrangian, Linear, Log, Power

LATENCY, RAM = Budget("latency", 100.0, "us"), Budget("ram", 2048.0, "B")


def tensors(**values):
    return {metric: torch.tensor(float(value), dtype=torch.float64) for metric, value in values.items()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract(name):
    objective = OBJECTIVES[name]([LATENCY, RAM])
    task = torch.tensor(2.0, requires_grad=True)
    costs = {m: t.requires_grad_() for m, t in tensors(latency=150, ram=4096, macs=7).items()}
    total = objective(task, costs)
    assert total.shape == ()
    total.backward()
    assert task.grad > 0
    assert costs["latency"].grad > 0
    assert costs["ram"].grad > 0
    assert costs["macs"].grad is None
    objective.update({"latency": 150.0, "ram": 1000.0})
    objective.end_epoch({"latency": 150.0, "ram": 1000.0})
    copy = OBJECTIVES[name]([LATENCY, RAM])
    copy.load_state_dict(objective.state_dict())
    assert copy(task, costs).item() == objective(task, costs).item()
    for each in (objective, copy):
        each.update({"latency": 150.0, "ram": 4096.0})
        each.end_epoch({"latency": 150.0, "ram": 4096.0})
    assert copy.state_dict() == objective.state_dict()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_without_budgets_it_is_the_task(name):
    task = torch.tensor(2.0, requires_grad=True)
    total = OBJECTIVES[name]([])(task, tensors(macs=7))
    total.backward()
    assert (total.item(), task.grad.item()) == (2.0, 1.0)


def test_the_papers_formulas():
    task, costs = torch.tensor(2.0, dtype=torch.float64), tensors(latency=150, ram=4096)
    assert Linear([LATENCY, RAM], 0.01)(task, costs).item() == pytest.approx(2 + 0.01 * 4246)
    assert Power([LATENCY, RAM], 0.5)(task, costs).item() == pytest.approx(2 * math.sqrt(1.5) * math.sqrt(2))
    assert Log([LATENCY], 0.2, 0.6)(task, costs).item() == pytest.approx(2 * 0.2 * math.log(150) ** 0.6)


def test_a_budget_that_is_kept_costs_nothing():
    objective, task = Lagrangian([LATENCY]), torch.tensor(2.0)
    objective.update({"latency": 40.0})
    latency = torch.tensor(90.0, requires_grad=True)
    total = objective(task, {"latency": latency})
    total.backward()
    assert total.item() == 2.0
    assert latency.grad == 0


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_multipliers_reach_the_kkt_point(scale):
    """min scale (x - 2)^2 with 100 x <= 100 has x = 1 and multiplier 2 scale; 2048 x <= 1.5 * 2048 does not bind."""
    objective = Lagrangian([LATENCY, Budget("ram", 1.5 * 2048, "B")])
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for _ in range(40):
        for _ in range(30):
            loss = objective(scale * (x - 2) ** 2, {"latency": 100 * x, "ram": 2048 * x})
            (gradient,) = torch.autograd.grad(loss, x)
            with torch.no_grad():
                x -= gradient / (2 * scale + sum(objective.penalties.values()))
        costs = {"latency": 100 * x.item(), "ram": 2048 * x.item()}
        objective.update(costs)
        objective.end_epoch(costs)
    assert x.item() == pytest.approx(1, abs=1e-4)
    assert objective.multipliers["latency"] == pytest.approx(2 * scale, rel=1e-3)
    assert objective.multipliers["ram"] == 0


def test_the_penalty_grows_until_the_violation_halves():
    objective = Lagrangian([LATENCY], penalty=1.0, growth=2.0, ceiling=4.0)
    grown = []
    for cost in (200, 190, 140, 135, 134, 90, 90):
        objective.end_epoch({"latency": float(cost)})
        grown.append(objective.penalties["latency"])
    assert grown == [1, 2, 2, 4, 4, 4, 4]


def test_the_tightest_of_two_budgets_counts():
    assert Lagrangian([LATENCY, Budget("latency", 80.0, "us")]).limits == {"latency": 80.0}


def test_bad_input():
    with pytest.raises(ValueError, match="resolve it"):
        Lagrangian([Budget.parse("latency=60%")])
    with pytest.raises(ValueError, match=r"latency: 0\.5 is not above 1"):
        Log([LATENCY])(torch.tensor(1.0), tensors(latency=0.5))
