"""Searches by tables that somebody else measured: blocks as rows, float32, another resolution than the data's."""

import json

import pytest
import small_run
import torch
from torch import nn

from cost_models.base import discrete_cost
from cost_models.counts import COUNTS
from deploy.lower import lower
from lut.errors import InputError, LutError
from lut.spec import Latency
from lut.table import LatencyTable
from scripts import run_deploy, run_search
from search.config import RunConfig
from search.coverage import priced_specs, require_rows
from search.run import Run
from supernet import SearchSpace, Supernet, extract, load_subnet, save_subnet
from supernet.networks import build

MODEL = """
from torch import nn
from supernet.mixed import MixedOp
from supernet.networks.mbconv import MBConv, conv_bn_act

def edge():
    return MixedOp(MBConv(8, 8, 3, 1, 2), MBConv(8, 8, 5, 1, 2), nn.Identity())

def build():
    return nn.Sequential(conv_bn_act(1, 8, 3), edge(), edge(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
"""
DEVICE = "name: paper\nrunner: imported\nsupports: {weight_bits: [32], act_bits: [32]}\n"
FLOAT = SearchSpace((32,), (32,), (1.0,))


def latency(spec):
    """Microseconds: 10 per 3x3 block, 20 per 5x5 one, 1 for anything else."""
    us = {("mbconv", 3): 10.0, ("mbconv", 5): 20.0}.get((spec.kind, spec.kernel[0]), 1.0)
    return Latency(us, us, us, source="imported")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A settings file whose model chooses blocks, and the table that prices them."""
    folder = tmp_path_factory.mktemp("imported")
    path = small_run.write(folder)
    (folder / "mynet.py").write_text(MODEL)
    (folder / "paper.yaml").write_text(DEVICE)
    text = path.read_text().split("space:")[0]
    path.write_text(text + "space: {weight_bits: [32], act_bits: [32], widths: [1.0]}\n"
                    "search: {relaxation: two_path, epochs: 2, warmup_epochs: 1, batch_size: 16}\n"
                    "finetune: {epochs: 1, batch_size: 16}\nbudgets: [latency=14us]\n")  # fmt: skip
    run = Run(RunConfig.read(path), folder / "unused")
    net = run.supernet(run.sources.model, run.space())
    blocks = [op.spec({c.name: c.options[o] for c in op.choices}) for op in net.schedule().priced(frozenset({"mbconv"}))
              for o in (0, 1)]  # fmt: skip
    rows = {spec.without_site(): latency(spec) for spec in blocks if spec and spec.kind not in ("input", "avg_pool")}
    LatencyTable(rows, {"free": "input avg_pool", "profiler": "imported", "device": "paper"}).write(
        folder / "paper.csv"
    )
    return path


def test_a_search_over_blocks_ends_inside_its_budget(settings, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run_search.main(["--config", str(settings), "--out", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "uniform 8-bit" not in shown
    assert "not measured (source: imported)" in shown
    validation = json.loads((folder / "validation.json").read_text())
    assert set(validation["networks"]) == {"float", "found"}
    values = json.loads((folder / "arch.json").read_text())["choices"]
    blocks = sum({0: 10.0, 1: 20.0, 2: 0.0}[values[f"{edge}.op"]] for edge in (1, 2))
    assert validation["networks"]["found"]["latency_us"]["predicted"] == blocks + 2.0 <= 14.0
    assert validation["networks"]["float"]["latency_us"]["predicted"] == 22.0
    assert validation["budgets"][0]["met"]
    assert (folder / "report.html").exists()
    (folder / "validation.json").unlink()
    assert run_deploy.main(["--run", str(folder)]) == 0
    assert json.loads((folder / "validation.json").read_text())["networks"] == validation["networks"]


def test_a_plan_reaches_from_no_block_to_the_dearest(settings, capsys):
    assert run_search.main(["--config", str(settings), "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["reach"]["latency"]["smallest"], plan["reach"]["latency"]["largest"]) == (2.0, 42.0)
    assert plan["rows"]["space"] == 8
    assert "one of 2 operators, or none" in plan["layers"]


def test_missing_blocks_are_counted_and_named(settings, tmp_path):
    run = Run(RunConfig.read(settings), tmp_path)
    net = run.supernet(run.sources.model, run.space())
    whole = LatencyTable.read(run.table_path())
    require_rows(net, whole)
    short = whole.replace({spec: row for spec, row in whole.items() if spec.kernel != (5, 5)})
    message = r"lacks 2 of the 8 operators of the space \(2 mbconv\), such as mbconv 8->8 8x8 k5x5 .*; the nearest rows"
    with pytest.raises(LutError, match=message):
        require_rows(net, short)


def test_an_operator_that_the_device_lacks_is_named_before_anything_else(settings, tmp_path):
    bare = tmp_path / "bare.yaml"
    bare.write_text("name: bare\nsupports: {kinds: [input, conv2d, avg_pool, linear]}\n")
    run = Run(RunConfig.read(settings, [f"device={bare}"]), tmp_path)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    net = Supernet.from_model(model.eval(), torch.zeros(1, 1, 8, 8), SearchSpace())
    with pytest.raises(InputError, match=r"_1: bare has no unary; it has input, conv2d"):
        run.measure_table(net, None)


def small(size, classes=10):
    return Supernet.from_model(build("lenet5", classes, 1, size).eval(), torch.zeros(1, 1, size, size),
                               SearchSpace((4, 8), (4, 8), (0.5, 1.0)))  # fmt: skip


def test_costs_of_another_input_are_those_of_a_network_built_for_it(tmp_path):
    net, other = small(28), small(32, 100)
    values = {choice.name: choice.options[0] for choice in net.choices()}
    theirs = {choice.name: choice.options[0] for choice in other.choices()}
    plain = {name: discrete_cost(net.ops(), COUNTS[name], values) for name in ("macs", "params")}
    net.price_as(other)
    for name in ("macs", "params"):
        assert discrete_cost(net.ops(), COUNTS[name], values) == discrete_cost(other.ops(), COUNTS[name], theirs)
    subnet = extract(net, values)
    assert discrete_cost(subnet.schedule().ops, COUNTS["macs"], {}) == discrete_cost(
        other.ops(), COUNTS["macs"], theirs
    )
    assert sum(COUNTS["macs"](op.spec) for op in lower(subnet, "found").ops) == plain["macs"], (
        "what is built is its own"
    )
    save_subnet(subnet, tmp_path / "s.safetensors")
    loaded = load_subnet(tmp_path / "s.safetensors")
    assert discrete_cost(loaded.schedule().ops, COUNTS["macs"], {}) == plain["macs"]


def test_a_network_with_other_choices_cannot_price():
    net = small(28)
    other = Supernet.from_model(build("lenet5", 10, 1, 28).eval(), torch.zeros(1, 1, 28, 28), FLOAT)
    with pytest.raises(InputError, match="price: the network for that input has other choices"):
        net.price_as(other)


def test_only_networks_of_the_registry_can_be_priced_for_another_input(settings, tmp_path):
    config = RunConfig.read(settings, ["price.image_size=16"])
    run = Run(config, tmp_path)
    with pytest.raises(InputError, match=r"price: .*only a network of the registry"):
        run.supernet(run.sources.model, run.space())


def test_specs_that_are_asked_for_are_those_of_blocks(settings, tmp_path):
    run = Run(RunConfig.read(settings), tmp_path)
    net = run.supernet(run.sources.model, run.space())
    kinds = [spec.kind for spec in priced_specs(net, LatencyTable.read(run.table_path()))]
    assert kinds.count("mbconv") == 4
    assert "conv2d_add" not in kinds
