"""Networks of mixed activation bits, packed: equal to the reference, their memory to the byte what was predicted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mcu_toys import M4, needs_toolchain
from models import randomise
from torch import nn

from deploy.c_project import write
from deploy.integer import run_program
from deploy.lower import lower
from deploy.mcu import simulate
from lut.build import build_table
from lut.errors import LutError
from search.costs import network_costs, predicted
from supernet import SearchSpace, Supernet, extract
from supernet.networks.resnet8 import resnet8

SPACE = SearchSpace((2, 4, 8), (2, 4, 8), (1.0,))


class Joined(nn.Module):
    """A concat of 3 and 6 channels, a depthwise convolution over it, a sum of unequal bits, pools."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(nn.Conv2d(3, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU()) for n in (3, 6)
        )
        self.deep = nn.Sequential(nn.Conv2d(9, 9, 3, padding=1, groups=9), nn.BatchNorm2d(9), nn.ReLU())
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.end = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(9, 5))

    def forward(self, x):
        both = torch.cat([self.one(x), self.two(x)], 1)
        return self.end(self.pool(self.relu(both + self.deep(both))))


def supernet(model: nn.Module) -> Supernet:
    torch.manual_seed(0)
    return Supernet.from_model(randomise(model).eval(), 255 * torch.rand(8, 3, 8, 8), SPACE).eval()


@needs_toolchain
@pytest.mark.parametrize(
    "make", [Joined, lambda: resnet8(10, 3, (8, 8), widths=(6, 10, 16))], ids=["joined", "resnet8"]
)
def test_mixed_bits_are_exact_and_predicted(make, tmp_path: Path) -> None:
    net, draw = supernet(make()), random.Random(1)
    given = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    byte = replace(M4, act_storage="byte")
    for number in range(2):
        subnet = extract(net, {choice.name: draw.choice(choice.options) for choice in net.choices()})
        program = lower(subnet, f"net{number}")
        ran = simulate(write(program, M4, tmp_path / program.name), program, M4, given)
        np.testing.assert_array_equal(ran.scores, run_program(program, given))
        assert len(np.unique(ran.scores)) > 10
        specs = [spec for op in subnet.schedule().ops if (spec := op.spec({}))]
        table = build_table(M4, specs, tmp_path / f"{number}.csv", every_row=True, progress=False)
        said = predicted(subnet, table, M4)
        assert said["ram_bytes"] == ran.ram_bytes
        assert said["flash_bytes"] == pytest.approx(ran.flash_bytes, rel=0.03)
        joined = any(spec.kind == "concat" for spec in specs)  # a part that begins inside of a byte costs more
        assert said["latency_us"] == pytest.approx(ran.us, rel=0.08 if joined else 0.02)
        wider = network_costs(subnet, ["ram"], table, byte)["ram"].planned(subnet.values())
        assert said["ram_bytes"] < wider


def test_a_linear_layer_over_padded_pixels_is_refused(tmp_path: Path) -> None:
    """Three 2-bit codes take a byte, so a flat view of several pixels has gaps."""
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4))
    net = supernet(model)
    values = net.uniform(8, 8).choices | {c.name: 2 for c in net.choices() if c.kind == "act_bits" and not c.pinned}
    program = lower(extract(net, values), "flat")
    with pytest.raises(LutError, match=r"its input's pixels of 3 2-bit codes are padded to whole bytes.*pool first"):
        write(program, M4, tmp_path)
    assert write(program, replace(M4, act_storage="byte"), tmp_path / "byte").kernels
