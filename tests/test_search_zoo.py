"""A search over networks with several widths in a row, islands of floats, and shared layers, from the model to the
integers."""

import pytest
import torch
from models import bytes_and_input, randomise
from zoo import ZOO

from deploy.integer import run_program
from deploy.lower import lower
from search import Budget, search
from search.config import SearchConfig
from supernet import SearchSpace, Supernet, extract

IMAGES, X, MEAN, STD = bytes_and_input((3, 16, 16), 24)


@pytest.mark.parametrize("name", ["squeezenet", "convnext", "recurrent"])
def test_a_searched_network_keeps_its_budgets(name):
    torch.manual_seed(0)
    net = Supernet.from_model(randomise(ZOO[name]()).train(), X, SearchSpace((4, 8), (8,), (0.5, 1.0)), MEAN, STD)
    batch = [(X, torch.arange(24) % 10)]
    budgets = [Budget.parse("macs=60%"), Budget.parse("ram=90%")]
    found = search(net, (batch, batch, batch), budgets=budgets, config=SearchConfig(warmup_epochs=1, epochs=2))
    subnet = extract(found.net, found.arch)
    predicted = found.arch.predicted
    assert all(predicted[budget.metric] <= budget.limit for budget in found.budgets)
    program = lower(subnet)
    assert run_program(program, IMAGES).shape == (24, 10)
