"""Rows of width groups: the algebra of segments, shared choices, and what costs make of several widths in a row."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from models import bytes_and_input, randomise
from torch import nn

from cost_models.base import discrete_cost
from cost_models.counts import COUNTS
from cost_models.expected import ExpectedCost
from cost_models.memory import PeakRam
from deploy.lower import lower
from deploy.predict import storage
from search.budget import Budget
from search.solve import solve_net
from supernet import SearchSpace, Supernet, extract
from supernet.choice import Gates
from supernet.segments import Segments

IMAGES, X, MEAN, STD = bytes_and_input((3, 8, 8), 4)


def test_a_longer_segment_is_cut_by_a_shorter_one():
    segments = Segments()
    whole, left, right = segments.new(12), segments.new(4), segments.new(8)
    segments.unify(whole, left + right)
    assert segments.resolve(whole) == segments.resolve(left + right)
    assert len(segments.resolve(whole)) == 2
    before, after = segments.cut(whole, 6)
    assert segments.length(before) == segments.length(after) == 6
    assert len(segments.resolve(right)) == 2


def test_parts_that_are_shared_are_one_segment_and_reasons_travel():
    segments = Segments()
    row, other = segments.new(12), segments.new(6)
    segments.pin(row, "why")
    segments.share(row, 4)
    assert len(segments.resolve(row)) == 4 and len(set(segments.resolve(row))) == 1
    segments.unify(segments.cut(row, 6)[0], other)
    assert set(segments.resolve(other)) == set(segments.resolve(row))
    assert set(segments.pinned()) >= set(segments.resolve(other))


def test_thousands_of_parts():
    segments = Segments()
    row, other = segments.new(4000), segments.new(4000)
    segments.share(row, 2000)
    segments.unify(other, row)
    assert len(segments.resolve(other)) == 2000 and len(set(segments.resolve(other))) == 1


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=2, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_unified_rows_are_equal_whatever_they_were(lengths, data):
    segments = Segments()
    total = max(map(sum, lengths))
    rows = [sum((segments.new(n) for n in [*row, total - sum(row)] if n), ()) for row in lengths]
    for _ in range(3):
        a, b = data.draw(st.tuples(st.sampled_from(rows), st.sampled_from(rows)))
        segments.unify(a, b)
        assert segments.resolve(a) == segments.resolve(b)
        assert all(segments.length(segments.resolve(row)) == total for row in rows)


class Branches(nn.Module):
    """Four widths in a row, one of them of a depthwise layer behind it."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(3, c, 3, padding=1) for c in (8, 16, 8, 12))
        self.depth, self.mix = nn.Conv2d(44, 44, 3, padding=1, groups=44), nn.Conv2d(44, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(torch.cat([part(x) for part in self.parts], 1))
        return self.fc(F.relu(self.mix(self.depth(x))).mean((2, 3)))


def build(**space):
    torch.manual_seed(0)
    net = Supernet.from_model(randomise(Branches()), X, SearchSpace(**space), MEAN, STD)
    return net.eval()


def test_every_width_of_a_row_is_chosen_by_itself():
    net = build(widths=(0.25, 0.5, 1.0))
    choices = [net.width[f"parts.{i}"] for i in range(4)]
    assert len(set(choices)) == 4
    assert [group.counts for group in net.layout["cat"]] == [(4, 8), (4, 8, 16), (4, 8), (4, 8, 12)]
    assert net.groups["depth"] is net.layout["cat"][0] and net.layout["depth"] == net.layout["cat"]
    for op in net.schedule().ops:
        assert sum(choice.kind == "width" for choice in op.choices) <= 3


def test_a_pinned_part_stays_out_of_the_others_choice():
    net = build(widths=(0.5, 1.0), pin={"parts.1": {"width": 0.5}})
    assert net.width["parts.1"].options == (8,)
    assert not net.width["parts.2"].pinned and net.width["parts.2"] is not net.width["parts.3"]
    values = {c.name: c.options[-1] for c in net.choices()}
    assert extract(net, values).layer("parts.1").weight.shape[0] == 8


def test_expected_and_discrete_costs_of_sums_of_widths():
    """By brute force over all architectures; a subnet's own operators cost the same."""
    net = build(weight_bits=(8,), act_bits=(8,), widths=(0.5, 1.0))
    free = [choice for choice in net.choices() if not choice.pinned]
    assert len(free) == 5
    torch.manual_seed(1)
    weights = torch.softmax(torch.randn(net.alpha.shape).double().masked_fill(~net.valid, -torch.inf), 1)
    for metric in ("macs", "weights"):
        brute = 0.0
        for options in itertools.product(*(choice.options for choice in free)):
            values = net.check({c.name: o for c, o in zip(free, options)})
            cost = discrete_cost(net.ops(), COUNTS[metric], values)
            own = extract(net, values).schedule().ops
            assert cost == sum(COUNTS[metric](op.spec({})) for op in own)
            brute += cost * float(torch.stack([weights[c.index, c.position(values[c.name])] for c in free]).prod())
        assert float(ExpectedCost(net.ops(), COUNTS[metric], net.choices())(Gates(weights))) == pytest.approx(brute)


def test_memory_of_a_concat_and_a_budget_that_solve_keeps():
    net = build(widths=(0.25, 0.5, 1.0))
    ram = PeakRam(net.schedule())
    for values in (net.uniform(8, 8).choices, net.uniform(4, 4, 0.5).choices):
        program = lower(extract(net, values))
        assert ram.planned(values) == storage(program)["ram"]
        assert ram.bound(values) <= ram.planned(values)
    costs = {"macs": COUNTS["macs"], "ram": ram}
    full = discrete_cost(net.ops(), COUNTS["macs"], net.uniform(8, 8).choices)
    arch, *_ = solve_net(net, costs, [Budget("macs", full / 2, ""), Budget("ram", 3000.0, "B")], n=2)
    assert discrete_cost(net.ops(), COUNTS["macs"], arch.choices) <= full / 2
    assert ram.planned(arch.choices) <= 3000
