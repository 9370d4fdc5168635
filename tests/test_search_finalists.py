"""Plain networks against all of their kind, and the choice between finalists against trials of known outcome."""

import copy
import itertools

import numpy as np
import pytest
import torch
from test_search_quick import Small, blobs, trained

from cost_models.counts import COUNTS
from cost_models.memory import PeakRam
from search.budget import Budget, BudgetError
from search.choose import choose
from search.costs import network_costs, resolve
from search.fill import ORDERED
from search.finalists import covers, evenly_wide, plain
from search.solve import cost_of
from supernet import SearchSpace, Supernet, extract
from supernet.mixed import MixedOp

BITS, ACT_BITS, WIDTHS = (2, 4, 8), (4, 8), (0.25, 0.5, 1.0)
LIMITS = [
    {"weights": 0.9},
    {"weights": 0.5},
    {"weights": 0.3},
    {"weights": 0.6, "macs": 0.7},
    {"macs": 0.3},
    {"weights": 1.0, "ram": 0.6},
]


def supernet(model=None, **options):
    space = SearchSpace(BITS, ACT_BITS, WIDTHS, channel_multiple=1, first_last_bits=None, **options)
    return Supernet.from_model((model or Small()).eval(), torch.rand(4, 1, 8, 8), space)


def problem(net, limits):
    costs = {metric: COUNTS[metric] for metric in ("weights", "macs")}
    if "ram" in limits:
        costs["ram"] = PeakRam(net.schedule(), "packed")
    whole = {metric: cost_of(net.schedule(), cost, net.uniform(8, 8).choices) for metric, cost in costs.items()}
    return costs, [Budget(metric, share * whole[metric], "") for metric, share in limits.items()]


def inside(net, costs, budgets, choices):
    return all(b.fits(cost_of(net.schedule(), costs[b.metric], choices)) for b in budgets)


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_plain_networks_are_the_uniform_ones_inside_that_no_other_has_more_of_everything_than(limits):
    net = supernet()
    costs, budgets = problem(net, limits)
    fitting = {}
    for bits, width, act in itertools.product(BITS, WIDTHS, ACT_BITS):
        arch = net.uniform(bits, act, width)
        if inside(net, costs, budgets, arch.choices):
            fitting[bits] = (width, act, arch.choices)  # ascending: the widest, then the most activation bits
    expected = {
        bits: choices
        for bits, (width, act, choices) in fitting.items()
        if not any(b > bits and w >= width and a >= act for b, (w, a, _) in fitting.items())
    }
    found = plain(net, costs, budgets, net.uniform(2, 4, 0.25))
    assert [arch.choices for arch in found.values()] == [expected[bits] for bits in sorted(expected, reverse=True)]
    for arch in found.values():
        assert arch.predicted == {m: cost_of(net.schedule(), c, arch.choices) for m, c in costs.items()}
        assert arch.space == net.space.hash()


def test_names_are_those_of_the_baselines():
    net = supernet()
    costs, budgets = problem(net, {"macs": 0.3, "ram": 1.0})
    assert list(plain(net, costs, budgets, net.arch())) == ["8-bit, 0.5 wide"]
    costs, budgets = problem(net, {"weights": 0.65})
    assert list(plain(net, costs, budgets, net.arch())) == ["8-bit, 0.5 wide", "uniform W4A8"]


def test_none_fits_none_is_given_and_pins_stay():
    net = supernet()
    costs, budgets = problem(net, {"weights": 0.01})
    assert plain(net, costs, budgets, net.arch()) == {}
    pinned = supernet(pin={"a.0": {"weight_bits": 8}})
    costs, budgets = problem(pinned, {"weights": 0.65})
    bits = next(c.name for c in pinned.choices() if c.name.startswith("a.0") and c.kind == "weight_bits")
    assert {arch.choices[bits] for arch in plain(pinned, costs, budgets, pinned.arch()).values()} == {8}


def test_operators_are_those_of_the_found_network():
    torch.manual_seed(0)
    conv = [torch.nn.Conv2d(8, 8, kernel, padding=kernel // 2) for kernel in (3, 1)]
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), MixedOp(*conv), torch.nn.Flatten(), torch.nn.Linear(512, 3)
    )
    net = supernet(model)
    (operator,) = (c for c in net.choices() if c.kind == "op")
    costs, budgets = problem(net, {"weights": 2.0})
    for option in operator.options:
        like = net.check({**net.uniform(2, 4).choices, operator.name: option})
        (arch,) = plain(net, costs, budgets, type(net.arch())(like)).values()
        assert arch.choices == {**net.uniform(8, 8).choices, operator.name: option}


@pytest.mark.parametrize("limits", [*LIMITS, {"weights": 0.12}], ids=str)
def test_evenly_wide_is_the_most_probable_of_the_widest_share_at_which_some_bits_fit(limits):
    net = supernet()
    costs, budgets = problem(net, limits)
    scores = np.random.default_rng(1).normal(size=net.alpha.shape)
    bits = [c for c in net.choices() if c.kind in ("weight_bits", "act_bits")]
    narrow = net.uniform(2, 4, WIDTHS[0])
    for share in reversed(WIDTHS):
        even = net.uniform(8, 8, share).choices
        every = [
            {**even, **dict(zip((c.name for c in bits), o))} for o in itertools.product(*(c.options for c in bits))
        ]
        fitting = [choices for choices in every if inside(net, costs, budgets, choices)]
        if fitting:
            break
    best = max(fitting, key=lambda choices: sum(scores[c.index, c.position(choices[c.name])] for c in bits))
    found = evenly_wide(net, scores, costs, budgets, narrow)
    if share == WIDTHS[0]:
        assert not found, "that is what the narrow one has"
        return
    ((name, arch),) = found.items()
    assert name == ("searched, full width" if share == 1 else f"searched, {share:g} wide")
    assert (arch.choices, arch.space) == (best, narrow.space)
    assert arch.predicted == {m: cost_of(net.schedule(), c, best) for m, c in costs.items()}
    assert evenly_wide(net, scores, costs, budgets, arch) == {}


def finalists(limits, verdict):
    """What `choose` makes of trials whose outcome is verdict(name); the networks tried, by name."""
    torch.manual_seed(0)
    net, data = supernet(), blobs()
    costs = network_costs(net, list(limits), None)
    budgets = resolve(net, costs, [Budget(m, share, "%") for m, share in limits.items()])
    tried = {}

    def trial(name, subnet):
        tried[name] = subnet
        return verdict(name)

    scores = np.random.default_rng(0).normal(size=net.alpha.shape)
    found = choose(net, scores, costs, budgets, data, trial=trial)
    alone = choose(net, scores, costs, budgets, data)
    return net, costs, budgets, found, alone, tried


@pytest.mark.parametrize("winner", ["searched", "8-bit, 0.5 wide", "uniform W2A8"])
def test_the_best_by_trial_is_chosen_and_every_finalist_is_inside(winner):
    net, costs, budgets, found, alone, tried = finalists({"weights": 0.5}, lambda name: float(name == winner))
    assert set(tried) == {"searched", "8-bit, 0.5 wide", "uniform W2A8"}
    assert (found[0].name, found[0].metric, found[0].tried) == (winner, 1.0, True)
    assert [candidate.tried for candidate in found] == [True] * 3 + [False] * (len(found) - 3)
    for candidate in found:
        assert inside(net, costs, budgets, candidate.arch.choices)
        assert candidate.arch.space == net.space.hash()
    by_name = {candidate.name: candidate.arch for candidate in found if candidate.tried}
    for name, arch in plain(net, costs, budgets, alone[0].arch).items():  # filled: never less than the plain one
        assert all(by_name[name].choices[c.name] >= arch.choices[c.name] for c in net.choices() if c.kind in ORDERED)
        assert tried[name].arch.choices == by_name[name].choices
    assert by_name["searched"].choices == alone[0].arch.choices


@pytest.mark.parametrize("error", [BudgetError("none fits", {}), TimeoutError()], ids=["budget", "time"])
def test_no_even_width_where_the_solver_finds_none(monkeypatch, error):
    net = supernet()
    costs, budgets = problem(net, {"weights": 0.6})

    def solve(*args, **options):
        raise error

    monkeypatch.setattr("search.finalists.solve", solve)
    assert evenly_wide(net, np.zeros(tuple(net.alpha.shape)), costs, budgets, net.uniform(2, 4, WIDTHS[0])) == {}


@pytest.mark.parametrize(("share", "name"), [(0.6, "searched, full width"), (0.35, "searched, 0.5 wide")])
def test_searched_bits_at_an_even_width_are_a_finalist_filled(share, name):
    net, costs, budgets, found, _, tried = finalists({"weights": share}, lambda given: float(given == name))
    assert (found[0].name, found[0].metric) == (name, 1.0)
    scores = np.random.default_rng(0).normal(size=net.alpha.shape)
    (arch,) = evenly_wide(net, scores, costs, budgets, net.uniform(2, 4, WIDTHS[0])).values()
    assert inside(net, costs, budgets, found[0].arch.choices)
    assert all(found[0].arch.choices[c.name] >= arch.choices[c.name] for c in net.choices() if c.kind in ORDERED)
    assert tried[name].arch.choices == found[0].arch.choices


def test_of_equal_ones_the_found_network_is_kept():
    assert finalists({"weights": 0.5}, lambda name: 0.5)[3][0].name == "searched"


def test_one_finalist_needs_no_trial():
    *_, found, alone, tried = finalists({"weights": 1.0}, lambda name: 0.0)  # all of it fits: filled, they are one
    assert not tried and [c.arch.choices for c in found] == [c.arch.choices for c in alone]


@pytest.mark.parametrize("spoilt", ["searched", "before", "neither"])
@pytest.mark.parametrize("tried", [False, True])
def test_finalists_inherit_from_the_supernet_that_serves_them_better(spoilt, tried):
    torch.manual_seed(0)
    data = blobs()
    before = supernet(trained(Small(), data))
    net = copy.deepcopy(before)
    if spoilt != "neither":
        for parameter in (net if spoilt == "searched" else before).weight_parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    costs = network_costs(net, ["weights"], None)
    budgets = resolve(net, costs, [Budget("weights", 0.5, "%")])
    seen = []

    def trial(name, subnet):
        seen.append(next(iter(subnet.layers.values())).weight.detach().clone())
        return 0.5

    scores = np.random.default_rng(0).normal(size=net.alpha.shape)
    found = choose(net, scores, costs, budgets, data, trial=trial if tried else None, before=before)
    better = before if spoilt == "searched" else net
    assert found[0].net is better
    assert len(seen) == 3 * tried and len({candidate.net for candidate in found if candidate.tried}) <= 1
    first = next(iter(extract(better, found[0].arch).layers.values())).weight
    assert not tried or torch.equal(seen[0], first)


def test_covers():
    net = supernet()
    large, small = net.uniform(8, 8).choices, net.uniform(4, 8, 0.5).choices
    assert covers(net.choices(), large, small) and covers(net.choices(), small, small)
    assert not covers(net.choices(), small, large)
    other = net.uniform(8, 4).choices
    assert not covers(net.choices(), other, small) and not covers(net.choices(), small, other)


def test_nothing_fits():
    with pytest.raises(BudgetError):
        finalists({"weights": 0.01}, lambda name: 0.0)


def test_shares_of_channels_are_of_the_layers_where_the_space_has_no_full_width():
    space = SearchSpace(BITS, ACT_BITS, WIDTHS[:-1], channel_multiple=1, first_last_bits=None)
    net, whole = Supernet.from_model(Small().eval(), torch.rand(4, 1, 8, 8), space), supernet()
    costs, budgets = problem(net, {"weights": 2.0})
    ((name, arch),) = plain(net, costs, budgets, net.arch()).items()
    assert (name, arch.choices) == ("8-bit, 0.5 wide", whole.uniform(8, 8, 0.5).choices)
    (even,) = evenly_wide(net, np.zeros(net.alpha.shape), costs, budgets, net.uniform(2, 4, 0.25)).values()
    widths = [c.name for c in net.choices() if c.kind == "width"]
    assert all(even.choices[name] == arch.choices[name] for name in widths)
