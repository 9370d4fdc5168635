"""What a search budgets of a RISC-V core's memories, against the linked image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mcu_toys import IBEX, VEXRISCV, needs_riscv, needs_rtl

from deploy.c_project import write
from deploy.lower import lower
from deploy.mcu import build
from lut.build import build_table
from lut.device import Device
from lut.errors import LutError
from lut.mcu.image import memories
from search.costs import predicted
from supernet import SearchSpace, Supernet, extract
from supernet.networks.resnet8 import resnet8


@needs_riscv
@pytest.mark.parametrize("device", [IBEX, pytest.param(VEXRISCV, marks=needs_rtl)], ids=lambda device: device.name)
def test_memories_are_those_of_the_linked_image(device: Device, tmp_path: Path) -> None:
    """RAM to the byte; flash within 1 %."""
    torch.manual_seed(0)
    model = resnet8(10, 3, (8, 8), widths=(6, 10, 14)).eval()
    net = Supernet.from_model(model, torch.rand(8, 3, 8, 8), SearchSpace((2, 8), (4, 8), (1.0,))).eval()
    for w_bits, in_bits in ((8, 8), (2, 4)):
        subnet = extract(net, net.uniform(w_bits, in_bits))
        program = lower(subnet, f"net{w_bits}")
        specs = [op.spec for op in program.ops]
        table = build_table(device, specs, tmp_path / f"{w_bits}.csv", every_row=True, progress=False)
        project = write(program, device, tmp_path / str(w_bits))
        linked, said = memories(device, build(project, device)), predicted(subnet, table, device)
        assert said["ram_bytes"] == linked["ram"] == project.ram_bytes
        assert said["flash_bytes"] == pytest.approx(linked["flash"], rel=0.01)
    small = replace(device, flash=4096, ram=2048)
    with pytest.raises(
        LutError, match=rf"device {device.name}: the image exceeds its flash by \d+ bytes and its ram by \d+"
    ):
        build(write(program, small, tmp_path / "small"), small)
