"""What a search budgets of a microcontroller, against the linked image; the chain's last step in the simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mcu_toys import M4, needs_toolchain
from torch import nn

from cost_models.mcu import CALL_BYTES, FIRMWARE_BYTES, Flash, mcu_costs
from deploy.c_project import write
from deploy.integer import run_program
from deploy.lower import lower
from deploy.mcu import build, simulate
from lut.build import build_table
from lut.errors import InputError
from lut.mcu.image import memories
from lut.spec import Latency, OpSpec
from search.budget import Budget, BudgetError
from search.costs import network_costs, predicted
from search.coverage import space_specs
from search.deployment import budget_rows, deployment
from search.outcome import budgets
from search.solve import cost_of, solve
from supernet import SearchSpace, Supernet, extract
from supernet.mixed import MixedOp
from supernet.networks.resnet8 import resnet8


@pytest.fixture(scope="module")
def net() -> Supernet:
    """A narrow ResNet-8, its channels no multiples of a word, whose weight bits are choices."""
    torch.manual_seed(0)
    model = resnet8(10, 3, (8, 8), widths=(6, 10, 14)).eval()
    return Supernet.from_model(model, torch.rand(8, 3, 8, 8), SearchSpace((2, 8), (8,), (1.0,))).eval()


@pytest.fixture(scope="module")
def table(net, tmp_path_factory):
    return build_table(M4, space_specs(net), tmp_path_factory.mktemp("lut") / "m4.csv", every_row=True, progress=False)


@needs_toolchain
def test_memories_are_those_of_the_linked_image(net, table, tmp_path: Path) -> None:
    """RAM to the byte; flash within 3 %, of the largest network and of the smallest that a budget allows."""
    schedule, costs = net.schedule(), mcu_costs(net.schedule(), table)
    less = Budget("flash", 0.88 * cost_of(schedule, costs["flash"], net.uniform(8, 8).choices), "B")
    scores = torch.rand(tuple(net.alpha.shape), generator=torch.Generator().manual_seed(0)).double().numpy()
    small = solve(net.choices(), schedule, scores, {"flash": costs["flash"]}, [less], 1)[0]
    for number, arch in enumerate((net.uniform(8, 8), small)):
        subnet = extract(net, arch)
        project = write(lower(subnet, "net"), M4, tmp_path / str(number))
        linked, said = memories(M4, build(project, M4)), predicted(subnet, table, M4)
        assert said["ram_bytes"] == linked["ram"] == project.ram_bytes
        assert said["flash_bytes"] == pytest.approx(linked["flash"], rel=0.03)
        assert said["flash_bytes"] == pytest.approx(cost_of(schedule, costs["flash"], arch.choices))


class Blocks(nn.Module):
    """Residual blocks of one convolution, which reads what is added to it, and of which all may be skipped."""

    def __init__(self, skips: bool):
        super().__init__()

        def edge() -> nn.Module:
            block = Block()
            return MixedOp(block, nn.Identity()) if skips else block

        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*(edge() for _ in range(3)))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


def blocks(skips: bool) -> Supernet:
    torch.manual_seed(0)
    space = SearchSpace((2, 8), (8,), (1.0,), first_last_bits=None)
    return Supernet.from_model(Blocks(skips).eval(), torch.rand(8, 3, 8, 8), space).eval()


@needs_toolchain
def test_a_convolution_does_not_write_over_what_it_reads(tmp_path: Path) -> None:
    net = blocks(skips=False)
    made = lower(extract(net, net.uniform(8, 8)), "net")
    assert [op.inputs[0] == op.inputs[1] for op in made.ops if op.spec.kind == "conv2d_add"] == [True] * 3
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    ran = simulate(write(made, M4, tmp_path / "net"), made, M4, images)
    np.testing.assert_array_equal(ran.scores, run_program(made, images))


@needs_toolchain
def test_a_network_gets_shallower_until_it_fits(tmp_path: Path) -> None:
    """Under time, RAM and flash at once; both memories are those of the linked image."""
    net = blocks(skips=True)
    table = build_table(M4, space_specs(net), tmp_path / "m4.csv", every_row=True, progress=False)
    costs = network_costs(net, ("latency", "ram", "flash"), table, M4)
    whole = {metric: cost_of(net.schedule(), cost, net.uniform(8, 8).choices) for metric, cost in costs.items()}
    narrow = net.uniform(2, 8).choices
    assert cost_of(net.schedule(), costs["latency"], narrow) > 0.7 * whole["latency"], "bits alone do not do it"
    shares = {"latency": 0.7, "ram": 1.0, "flash": 0.95}
    limits = [Budget(metric, share * whole[metric], costs[metric].unit) for metric, share in shares.items()]
    scores = np.zeros(tuple(net.alpha.shape))
    for choice in net.op.values():
        scores[choice.index, 0] = 1.0  # rather whole
    arch = solve(net.choices(), net.schedule(), scores, costs, limits, 1)[0]
    skipped = sum(arch.choices[choice.name] for choice in net.op.values())
    assert 0 < skipped < 3
    subnet = extract(net, arch)
    linked, said = (
        memories(M4, build(write(lower(subnet, "net"), M4, tmp_path / "net"), M4)),
        predicted(subnet, table, M4),
    )
    assert len([op for op in subnet.schedule().ops if op.name.startswith("blocks")]) == 3 - skipped
    assert said["ram_bytes"] == linked["ram"] == arch.predicted["ram"]
    assert said["flash_bytes"] == pytest.approx(linked["flash"], rel=0.03)
    assert all(said[field] <= limit.limit for field, limit in zip(("latency_us", "ram_bytes", "flash_bytes"), limits))


@needs_toolchain
def test_a_network_is_simulated_and_its_budgets_judged(net, table, tmp_path: Path) -> None:
    class Sources:
        """Ten random images without labels."""

        class data:
            mean, std = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)

            @staticmethod
            def batches(split, size):
                yield torch.randint(0, 256, (10, 3, 8, 8), generator=torch.Generator().manual_seed(1)).float(), None

    arch = net.uniform(2, 8)
    subnet = extract(net, arch)
    target = deployment(M4, table, tmp_path, Sources, type("Config", (), {"validate": True}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.simulate.integer_metric", lambda *given: 0.5)
        validation = target.validate({"found": lower(subnet, "found")})
    found = validation["networks"]["found"]
    assert validation["source"] == "cycle-model"
    assert abs(found["latency_us"]["error"]) < 0.02
    assert (tmp_path / "deploy" / "found" / "Makefile").exists()
    limits = [Budget.parse("flash=1KiB"), Budget.parse("ram=1MiB")]
    arch = replace(arch, predicted={"flash": 1.0, "ram": 1.0})
    assert [row["met"] for row in budget_rows(validation, limits, arch)] == [False, True]
    json.dumps(validation)


def test_operators_of_one_shape_share_a_kernel() -> None:
    class Table:
        provenance: ClassVar[dict[str, str]] = {"isa": "cortex-m4"}

        def lookup(self, spec: OpSpec) -> Latency:
            return Latency(1, 1, 1, code_bytes=1000)

    flash, spec = Flash(Table()), OpSpec("conv2d", 1, 8, 8, 4, 4)
    constants = 8 * (2 + 2) * 4 + 9 * 4 + CALL_BYTES
    assert flash(spec) == constants + 1000
    assert flash.whole([spec, spec, replace(spec, w_bits=4)]) == pytest.approx(
        FIRMWARE_BYTES[""] + 2 * constants + (constants - 8 * 4) + 2000
    )


def test_flash_needs_a_table_and_a_microcontroller(net) -> None:
    with pytest.raises(InputError, match="flash' needs the device's table"):
        cost_of(net.schedule(), mcu_costs(net.schedule(), None)["flash"], net.uniform(8, 8).choices)
    with pytest.raises(InputError, match="flash' is of microcontrollers; budget weights"):
        network_costs(net, ["flash"], None)


@needs_toolchain
def test_energy_needs_a_power_and_says_that_it_is_derived(net, table) -> None:
    with pytest.raises(InputError, match="energy': rows have none and device cortex-m4 names no power; set power: in"):
        network_costs(net, ["energy"], table, M4)
    powered, subnet = replace(M4, power=0.04), extract(net, net.uniform(8, 8))
    said = predicted(subnet, table, powered)
    assert said["energy_uj"] == pytest.approx(0.04 * said["latency_us"])
    assert "energy_uj" not in predicted(subnet, table, M4)
    costs = network_costs(net, ["energy"], table, powered)
    with pytest.raises(BudgetError, match=r"energy <= 1 uJ \(derived from power and time\): the smallest reachable"):
        solve(net.choices(), net.schedule(), np.zeros(tuple(net.alpha.shape)), costs, [Budget.parse("energy=1uJ")], 1)
    row = {"metric": "energy", "limit": 1.0, "unit": "uJ", "predicted": 1.0, "measured": 2.0, "met": False}
    told = budgets({"source": "cycle-model", "budgets": [row | {"note": "derived from power and time"}]})
    assert told.endswith("simulated 2 uJ (derived from power and time): NOT MET")
