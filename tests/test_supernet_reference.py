"""What relative budgets are shares of: one network, whatever the options of the space."""

import pytest
import torch
from models import Mixture, PlainAdd, randomise
from test_search_imported import small
from test_search_quick import Small
from torch import nn

from cost_models.counts import COUNTS
from cost_models.memory import PeakRam
from lut.device import Device
from lut.errors import LutError
from lut.spec import Latency
from lut.table import LatencyTable
from search.budget import Budget
from search.costs import network_costs, resolve
from search.coverage import space_specs
from search.solve import cost_of
from supernet import SearchSpace, Supernet
from supernet.mixed import MixedOp

METRICS = ("weights", "macs", "bitops", "ram")
SHARES = [Budget(metric, 0.6, "%") for metric in METRICS]


class Chosen(nn.Sequential):
    """A convolution of 5x5 or of 1x1."""

    def __init__(self):
        branches = (nn.Conv2d(16, 16, kernel, padding=kernel // 2) for kernel in (5, 1))
        super().__init__(nn.Conv2d(1, 16, 3), MixedOp(*branches), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4))


MODELS = {"mixture": (Mixture, 3, 16), "add": (PlainAdd, 1, 8), "chosen": (Chosen, 1, 8)}


def supernet(model, space):
    build, channels, size = MODELS[model]
    return Supernet.from_model(randomise(build()), torch.rand(2, channels, size, size), space)


def limits(net, device=None):
    return {b.metric: b.limit for b in resolve(net, network_costs(net, METRICS, None, device), SHARES)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device", [None, "cortex-m4"])
@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(),
        SearchSpace((4, 8), (8,), (0.3, 1.0), channel_multiple=1, first_last_bits=None),
        SearchSpace((8,), (8,), (1.0,), first_last_bits=4),
    ],
)
def test_it_is_the_spaces_own_network_of_8_bits_at_full_width(model, device, space):
    net = supernet(model, space)
    costs = network_costs(net, METRICS, None, Device.load(device) if device else None)
    for budget in resolve(net, costs, SHARES):
        assert budget.limit == 0.6 * cost_of(net.schedule(), costs[budget.metric], net.uniform(8, 8).choices)
    assert space_specs(net) == list(
        dict.fromkeys(spec.without_site() for op in net.ops() for spec in op.grid() if spec is not None)
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "space",
    [
        SearchSpace((2, 4)),
        SearchSpace((2,), (2, 4)),
        SearchSpace(widths=(0.5,)),
        SearchSpace((2,), (1,), (0.25, 0.5)),
    ],
)
def test_a_share_does_not_depend_on_the_options_of_the_space(model, space):
    net, whole = supernet(model, space), supernet(model, SearchSpace())
    assert limits(net) == limits(whole)
    assert limits(net, Device.load("cortex-m4")) == limits(whole, Device.load("cortex-m4"))
    assert {spec.without_site() for op in net.reference().ops if (spec := op.spec({}))} <= set(space_specs(net))


def test_pins_stay():
    pins = {"blocks.0.conv1": {"weight_bits": 4, "width": 0.5}, "fc": {"weight_bits": 2}}
    narrow, whole = (supernet("mixture", SearchSpace(*o, pin=pins)) for o in [((2, 4), (4,), (0.5,)), ()])
    assert limits(narrow) == limits(whole)
    assert limits(whole)["weights"] < limits(supernet("mixture", SearchSpace()))["weights"]


def test_a_float32_space_has_its_own_network():
    net = supernet("mixture", SearchSpace((32,), (32,), (1.0,)))
    assert limits(net)["weights"] == 0.6 * cost_of(net.schedule(), COUNTS["weights"], net.arch().choices)
    ram = PeakRam(net.schedule())
    assert limits(net)["ram"] == 0.6 * ram.planned(net.arch().choices)


def test_it_is_priced_for_the_input_that_the_network_is_priced_for():
    net, other = small(28), small(32, 100)
    own = limits(net)
    net.price_as(other)
    assert limits(net) == limits(other) != own


def test_a_table_that_lacks_it_is_an_error_that_names_the_budget():
    net = Supernet.from_model(Small().eval(), torch.rand(2, 1, 8, 8), SearchSpace((2, 4), (4,), first_last_bits=None))
    row = Latency(1.0, 1.0, 1.0, source="imported")
    table = LatencyTable({spec: row for op in net.ops() for spec in op.grid()}, {"profiler": "imported"})
    costs = network_costs(net, ["latency"], table)
    message = r"latency <= 60 % of the uniform 8-bit network, whose cost is not known: .*such as latency=5ms"
    with pytest.raises(LutError, match=message):
        resolve(net, costs, [Budget("latency", 0.6, "%")])
    assert resolve(net, costs, [Budget("latency", 5.0, "us")]) == [Budget("latency", 5.0, "us")]


@pytest.mark.parametrize("widths", [(0.25, 0.5), (0.25, 0.5, 1.0), (0.5,)])
def test_a_uniform_width_is_a_share_of_the_layers_channels(widths):
    net = supernet("mixture", SearchSpace(widths=widths))
    for share in (0.25, 0.5):
        chosen = net.uniform(8, 8, share).choices
        for group in {group for row in net.layout.values() for group in row}:
            choice = net.width[group.name]
            expected = min(choice.options, key=lambda option: abs(option - share * group.channels))
            assert chosen[choice.name] == (choice.options[0] if choice.pinned else expected)
