import pytest
import torch
from schedules import HashTable, assignments, random_schedule

from cost_models.base import CostModel, discrete_cost
from cost_models.counts import COUNTS
from cost_models.expected import ExpectedCost, ExpectedPeak, expected
from cost_models.memory import PeakRam
from cost_models.registry import METRICS, build_costs
from cost_models.table import TableLatency
from cost_models.terms import op_terms
from lut.calibrate import Calibration
from lut.errors import InputError
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from supernet.choice import Choice, Gates, one_hot_gates
from supernet.schedule import SearchOp


def random_gates(choices, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.full((len(choices), max(len(c.options) for c in choices)), -torch.inf, dtype=dtype)
    for c in choices:
        alpha[c.index, : len(c.options)] = torch.randn(len(c.options), generator=generator, dtype=dtype)
    alpha.requires_grad_()
    return alpha, Gates(torch.softmax(alpha, 1))


def expectation(choices, gates, cost_of):
    """Brute force over all architectures."""
    total = torch.zeros((), dtype=gates.weights.dtype)
    for values in assignments(choices):
        probability = torch.stack([gates.of(c)[c.position(values[c.name])] for c in choices]).prod()
        total = total + probability * cost_of(values)
    return total


MODELS = [
    *COUNTS.values(),
    TableLatency(HashTable({}), "latency", Calibration(1.5, 0.5, 3.0)),
    TableLatency(HashTable({"collapse": "act_bits"}), "latency.p90"),
]


@pytest.mark.parametrize("cost", MODELS, ids=lambda cost: cost.name)
@pytest.mark.parametrize("seed", [0, 7])
def test_equals_brute_force_in_value_and_gradient(cost, seed):
    choices, schedule = random_schedule(seed, layers=4, max_options=2, skip=True)
    alpha, gates = random_gates(choices)
    value = ExpectedCost(schedule.ops, cost, choices)(gates)
    brute = expectation(choices, gates, lambda values: discrete_cost(schedule.ops, cost, values))
    torch.testing.assert_close(value, brute, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, alpha, retain_graph=True)[0] for v in (value, brute)))


@pytest.mark.parametrize("metric", METRICS)
def test_one_hot_gates_give_the_discrete_cost(metric):
    choices, schedule = random_schedule(0, layers=4, max_options=2, skip=True)
    cost = build_costs([metric], schedule, HashTable({}))[metric]
    module = expected(cost, schedule, choices)
    for values in assignments(choices):
        exact = cost.bound(values) if metric == "ram" else discrete_cost(schedule.ops, cost, values)
        assert float(module(one_hot_gates(choices, values, torch.float64))) == pytest.approx(exact, rel=1e-12)


def test_each_spec_is_evaluated_once_and_ignored_axes_never():
    choices, schedule = random_schedule(0)
    table = HashTable({"collapse": "act_bits"})
    terms = op_terms(schedule.ops, TableLatency(table))
    specs = {spec for op in schedule.ops for spec in op.grid(tuple(c for c in op.choices if c.kind != "act_bits"))}
    assert table.calls == len(specs)
    assert all(c.kind != "act_bits" for term in terms for c in term.choices)
    assert any(c.kind == "weight_bits" for term in terms for c in term.choices)
    assert choices


def test_option_zero_is_kept_by_a_cost_that_ignores_its_field():
    bits = Choice("bits", "weight_bits", (0, 8), 0)

    def make(values):
        return OpSpec("linear", 1, 4, 2, 1, 1, w_bits=values["bits"]) if values["bits"] else None

    op = SearchOp("op", (bits,), (frozenset({"w_bits"}),), make, (), "y")
    gates = Gates(torch.tensor([[0.25, 0.75]]))
    assert float(ExpectedCost([op], COUNTS["macs"], (bits,))(gates)) == 0.75 * 8


def test_dtype_follows_the_gates():
    choices, schedule = random_schedule(0)
    for dtype in (torch.float32, torch.float64):
        _, gates = random_gates(choices, dtype=dtype)
        assert ExpectedCost(schedule.ops, COUNTS["macs"], choices)(gates).dtype == dtype
        assert ExpectedPeak(PeakRam(schedule), choices)(gates).dtype == dtype


@pytest.mark.parametrize("storage", ["byte", "packed"])
def test_peak_is_the_largest_expected_live_set(storage):
    choices, schedule = random_schedule(0, layers=4, max_options=2)
    ram = PeakRam(schedule, storage)
    alpha, gates = random_gates(choices)
    peak = ExpectedPeak(ram, choices)(gates)
    live = [
        expectation(choices, gates, lambda values, row=row: sum(term.at(values) for term in row)) for row in ram.rows()
    ]
    assert peak.item() == pytest.approx(max(value.item() for value in live), rel=1e-12)
    live = torch.stack(live)
    tau = 0.05 * live.detach().max()
    smooth = tau * torch.logsumexp(live / tau, 0)
    torch.testing.assert_close(*(torch.autograd.grad(v, alpha, retain_graph=True)[0] for v in (peak, smooth)))


def test_a_choice_of_another_network_is_refused():
    choices, schedule = random_schedule(0)
    with pytest.raises(ValueError, match="not one of the network's choices"):
        ExpectedCost(schedule.ops, COUNTS["macs"], choices[:1])


class Constant(CostModel):
    name, unit, fixed = "constant", "us", 2.0

    def __call__(self, op: OpSpec) -> float:
        return 1.0


def test_a_cost_without_axes_is_a_constant():
    choices, schedule = random_schedule(0)
    _, gates = random_gates(choices)
    assert ExpectedCost(schedule.ops, Constant(), choices)(gates).item() == 2 + len(schedule.ops)
    assert all(term.grid.shape == () for term in op_terms(schedule.ops, Constant()))
    assert ExpectedCost([], Constant(), choices)(gates).item() == 2


def test_energy_is_derived_where_no_row_has_any():
    """Power times the calibrated latency, for every architecture and in expectation; measured energy goes first."""
    choices, schedule = random_schedule(0, layers=4, max_options=2, skip=True)
    table, calibration = HashTable({}), Calibration(1.5, 0.5, 3.0)
    given = dict(calibration=calibration, power=0.04)
    costs = build_costs(["energy", "latency"], schedule, table, **given)
    energy, latency = costs["energy"], costs["latency"]
    assert (energy.unit, energy.note, latency.note) == ("uJ", "derived from power and time", "")
    _, gates = random_gates(choices)
    value, time = (expected(cost, schedule, choices)(gates).item() for cost in (energy, latency))
    assert value == pytest.approx(0.04 * time, rel=1e-12)
    for values in assignments(choices):
        exact = 0.04 * discrete_cost(schedule.ops, latency, values)
        assert discrete_cost(schedule.ops, energy, values) == pytest.approx(exact, rel=1e-12)
    spec = OpSpec("linear", 1, 4, 2, 1, 1)
    own = LatencyTable({spec: Latency(5.0, 5.0, 5.0, energy_uj=7.0)}, {})
    assert build_costs(["energy"], schedule, own, power=0.04)["energy"](spec) == 7.0


def test_registry_refuses_what_it_cannot_build():
    _, schedule = random_schedule(0)
    with pytest.raises(InputError, match="'watts' is unknown"):
        build_costs(["watts"], schedule)
    with pytest.raises(InputError, match="needs a latency table"):
        build_costs(["latency"], schedule)
    with pytest.raises(InputError, match="not in a latency table"):
        TableLatency(HashTable({}), "latency.p99")
