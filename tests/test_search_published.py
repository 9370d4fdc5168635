"""What published tables alone can check: the entries of reproduce.py, HAWQ's optimum, E[cost] against samples."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cost_models.base import discrete_cost
from cost_models.expected import ExpectedCost
from cost_models.table import TableLatency
from cost_models.table_space import edges, table_space
from lut.errors import InputError
from lut.importers import IMPORTERS
from lut.importers.hawq import read_hawq, read_sensitivities
from lut.importers.ofa_nets import net_cost
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from scripts import reproduce
from search.published import ENTRIES, hawq_solved
from supernet import Gates, SearchSpace, Supernet
from supernet.networks import build
from supernet.networks.ofa import from_config

LUTS = Path(os.environ.get("LUTIER_DATA", "nowhere")).parent / "luts"
needs_tables = pytest.mark.skipif(
    not LUTS.is_dir(),
    reason=f"{'no folder' if 'LUTIER_DATA' in os.environ else 'LUTIER_DATA is not set;'} {LUTS}: published tables",
)
FILES = {
    "proxylessnas": ("proxylessnas", "proxylessnas_pixel1_mobile_trim.yaml", {}),
    "ofa": ("ofa", "ofa_note10", {}),
    "haq": ("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy", {}),
    "apq": ("apq", "apq_bitfusion_b1.json", {}),
    "hawq18": ("hawq", "hawqv3_t4_int4_int8.json", {"network": "ResNet18"}),
    "hawq50": ("hawq", "hawqv3_t4_int4_int8.json", {"network": "ResNet50"}),
    "fbnet": ("fbnet", "fbnet_cpu_lookup_table_annaaraslanova.txt", {}),
    "raspi4": ("fbnet_hwnasbench", "fbnet_hwnasbench_lut.json", {"source_device": "raspi4"}),
    "eyeriss": ("fbnet_hwnasbench", "fbnet_hwnasbench_lut.json", {"source_device": "eyeriss"}),
}


def imported(name):
    kind, file, options = FILES[name]
    return IMPORTERS[kind](LUTS / file, device="d", **options)


def random_gates(choices, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(choices), max(len(c.options) for c in choices), generator=generator, dtype=torch.float64)
    for choice in choices:
        logits[choice.index, len(choice.options) :] = -torch.inf
    return Gates(torch.softmax(logits, 1))


def samples(ops, cost, choices, gates, count=10_000):
    """Costs of architectures drawn from the gates: every operator's cost is looked up per sample."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.multinomial(gates.weights, count, replacement=True, generator=generator).numpy()
    known = {}
    total = np.full(count, cost.fixed)
    for op in ops:
        own = [(choice, drawn[choice.index]) for choice in op.choices]
        keys = list(zip(*(positions for _, positions in own))) if own else [()] * count
        for i, key in enumerate(keys):
            if (op.name, key) not in known:
                spec = op.spec({choice.name: choice.options[at] for (choice, _), at in zip(own, key)})
                known[op.name, key] = 0.0 if spec is None else cost(spec)
            total[i] += known[op.name, key]
    return total


def assert_within_three_errors(ops, cost, choices, seed=0):
    gates = random_gates(choices, seed)
    drawn = samples(ops, cost, choices, gates)
    expected = float(ExpectedCost(ops, cost, choices)(gates))
    assert drawn.std() > 0
    assert abs(expected - drawn.mean()) <= 3 * drawn.std(ddof=1) / len(drawn) ** 0.5


@needs_tables
@pytest.mark.parametrize("name", FILES)
def test_expected_cost_is_the_mean_of_sampled_architectures(name):
    table = imported(name)
    choices, schedule = table_space(table)
    cost = TableLatency(table)
    assert_within_three_errors(schedule.ops, cost, choices)
    first = {choice.name: 0 for choice in choices}
    assert discrete_cost(schedule.ops, cost, first) == pytest.approx(
        cost.fixed + sum(table[rows[0]].us for rows in edges(table).values())
    )


@needs_tables
@pytest.mark.parametrize(
    ("table", "model", "classes", "space"),
    [
        ("proxylessnas", "proxylessnas_space", 1000, SearchSpace((32,), (32,), (1.0,))),
        ("haq", "mobilenet_v2", 100, SearchSpace((2, 4, 8), (2, 4, 8), (1.0,))),
        ("hawq18", "resnet18", 1000, SearchSpace((4, 8), (4, 8), (1.0,))),
    ],
)
def test_networks_are_priced_by_the_tables_that_speak_of_them(table, model, classes, space):
    rows = imported(table)
    net = Supernet.from_model(build(model, classes, 3, 224).eval(), torch.zeros(1, 3, 224, 224), space)
    cost = TableLatency(rows)
    ops = net.schedule().priced(cost.blocks)
    assert not rows.missing(spec for op in ops for spec in op.grid() if spec is not None)
    assert_within_three_errors(ops, cost, net.choices())
    uniform = discrete_cost(ops, cost, net.uniform(8, 8).choices)
    whole = {"haq": 39_624_933, "hawq18": 5343.5}
    if table in whole:
        assert uniform == pytest.approx(whole[table], rel=1e-4)


@needs_tables
def test_once_for_alls_space_is_priced_by_its_table():
    """The published 50 ms network, at 224 pixels: the same sum from its modules as from its config's keys."""
    table = imported("ofa")
    cost = TableLatency(table)
    space = Supernet.from_model(build("ofa_mobilenet_v3", 1000, 3, 224).eval(), torch.zeros(1, 3, 224, 224),
                                SearchSpace((32,), (32,), (1.0,)))  # fmt: skip
    ops = space.schedule().priced(cost.blocks)
    assert not table.missing(spec for op in ops for spec in op.grid() if spec is not None)
    config = json.loads((LUTS / "ofa_nets" / "ofa_note10_lat-50ms_top1-79.7_finetune-75.config").read_text())
    net = Supernet.from_model(from_config(config).eval(), torch.zeros(1, 3, 224, 224),
                              SearchSpace((32,), (32,), (1.0,)))  # fmt: skip
    priced = discrete_cost(net.schedule().priced(cost.blocks), cost, net.uniform(32, 32).choices)
    assert priced == pytest.approx(net_cost(table, config, 224), rel=1e-12)
    values = space.uniform(32, 32).choices
    assert discrete_cost(ops, cost, values) > priced > 0
    with pytest.raises(InputError, match=r"net.config: KeyError"):
        from_config({"first_conv": {"out_channels": 16}})


def hawq(network):
    """(latencies, sensitivities) of every layer at its two bit-widths."""
    rows = edges(read_hawq(LUTS / FILES["hawq18"][1], device="d", network=network))
    table = read_hawq(LUTS / FILES["hawq18"][1], device="d", network=network)
    worth = read_sensitivities(LUTS / FILES["hawq18"][1], network)
    return (np.array([[table[s].us for s in options] for options in rows.values()]),
            np.array([[worth[s.site][s.w_bits] for s in options] for options in rows.values()]))  # fmt: skip


@needs_tables
def test_resnet18_has_the_optimum_of_all_assignments_at_ten_limits():
    us, worth = hawq("ResNet18")
    every = np.array(list(itertools.product((0, 1), repeat=len(us))), dtype=bool)
    latency = us[:, 0].sum() + every @ (us[:, 1] - us[:, 0])
    sensitivity = worth[:, 0].sum() + every @ (worth[:, 1] - worth[:, 0])
    for share in np.linspace(0.02, 0.95, 10):
        limit, found, objective = hawq_solved(LUTS / FILES["hawq18"][1], "ResNet18", float(share))
        assert found <= limit * (1 + 1e-9)
        best = sensitivity[latency <= limit * (1 + 1e-9)].min()
        assert objective == pytest.approx(best, rel=1e-9)


def pareto_optimum(us, worth, limit):
    """The least sum of `worth` whose sum of `us` is within the limit, by merging non-dominated partial sums."""
    front = np.zeros((1, 2))
    rest = np.append(np.cumsum(us.min(1)[::-1])[::-1][1:], 0.0)
    for times, costs, least in zip(us, worth, rest):
        front = np.concatenate([front + np.array([t, c]) for t, c in zip(times, costs)])
        front = front[front[:, 0] + least <= limit * (1 + 1e-9)]
        front = front[np.lexsort((front[:, 1], front[:, 0]))]
        better = np.append(True, front[1:, 1] < np.minimum.accumulate(front[:, 1])[:-1])
        front = front[better]
    return front[:, 1].min()


@needs_tables
def test_resnet50_has_the_optimum_of_a_dynamic_programme_at_three_limits():
    us, worth = hawq("ResNet50")
    for share in (0.25, 0.5, 0.75):
        limit, found, objective = hawq_solved(LUTS / FILES["hawq50"][1], "ResNet50", share)
        assert found <= limit * (1 + 1e-9)
        assert objective == pytest.approx(pareto_optimum(us, worth, limit), rel=1e-6)


def test_the_dynamic_programme_equals_brute_force():
    draw = np.random.default_rng(0)
    us, worth = draw.random((8, 2)), draw.random((8, 2))
    for limit in (2.5, 4.0, 6.0):
        each = [(us[range(8), c].sum(), worth[range(8), c].sum()) for c in itertools.product((0, 1), repeat=8)]
        if feasible := [cost for time, cost in each if time <= limit]:
            assert pareto_optimum(us, worth, limit) == pytest.approx(min(feasible))


def test_edges_are_sites_or_geometries():
    conv = OpSpec("conv2d", 1, 8, 16, 4, 4, w_bits=4)
    import dataclasses

    rows = [conv, dataclasses.replace(conv, w_bits=8), dataclasses.replace(conv, c_in=4),
            dataclasses.replace(conv, site="a"), dataclasses.replace(conv, site="a", w_bits=8)]  # fmt: skip
    table = LatencyTable({spec: Latency(i + 1.0, 0, 9) for i, spec in enumerate(rows)})
    assert [len(options) for options in edges(table).values()] == [2, 1, 2]
    choices, schedule = table_space(table)
    assert [c.options for c in choices] == [(0, 1), (0,), (0, 1)]
    assert discrete_cost(schedule.ops, TableLatency(table), dict.fromkeys((c.name for c in choices), 0)) == 1 + 3 + 4


@needs_tables
@pytest.mark.parametrize("name", ENTRIES)
def test_entries_come_close_to_what_was_published(name, capsys):
    assert reproduce.main([name, "--luts", str(LUTS), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    for _, paper, here, difference in result["rows"]:
        if name.startswith("ofa") and here.startswith("no rows"):
            continue
        assert paper
        assert abs(float(difference.rstrip("%"))) < 3.0


def test_the_list_and_its_mistakes(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("LUTIER_DATA", raising=False)
    assert reproduce.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ENTRIES)
    assert reproduce.main(["--list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(ENTRIES)
    for words, message in [
        (["haq-w8a9"], "haq-w8a9: nothing is called so; did you mean haq-w8a8"),
        (["haq-w8a8"], "--luts: name the folder"),
        (["haq-w8a8", "--luts", str(tmp_path / "none")], "no such folder"),
        (["haq-w8a8", "--luts", str(tmp_path)], "no such file; haq-w8a8 needs it"),
    ]:
        assert reproduce.main(words) == 2
        assert message in capsys.readouterr().err
