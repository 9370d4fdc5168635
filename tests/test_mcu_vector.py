"""A network whose output is a vector, through the whole chain on a microcontroller: own loss, no classes anywhere."""

import json

import numpy as np
from mcu_toys import needs_toolchain

from lut.table import LatencyTable
from search.chain import run_chain
from search.config import RunConfig
from search.outcome import networks

MINE = """
import torch

def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 1, 12).view(1, 3, 4)
    x = ramp * torch.rand(count, 1, 1, 1, generator=generator)
    return list(zip(x.split(16), x.flatten(1).split(16)))

def loaders():
    return split(64, 0), split(32, 1), split(32, 2)

def loss(output, target):
    return (output - target).square().mean()
"""
SETTINGS = """
device: cortex-m4
table: {folder}/m4.csv
data: {{name: "{folder}/mine.py:loaders", augment: false}}
model: {{name: autoencoder, loss: "{folder}/mine.py:loss"}}
train: {{epochs: 2, batch_size: 16, lr: 0.05}}
space: {{weight_bits: [2, 8], act_bits: [8], widths: [1.0]}}
search: {{method: sensitivity}}
finetune: {{epochs: 1}}
budgets: [flash=90%]
"""


@needs_toolchain
def test_an_autoencoder_runs_without_classes(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "run.yaml").write_text(SETTINGS.format(folder=tmp_path))
    folder = tmp_path / "run"
    validation = run_chain(RunConfig.read(tmp_path / "run.yaml", ()), folder, ["test"])
    found = validation["networks"]["found"]
    assert validation["metric"] == f"-{tmp_path}/mine.py:loss"
    assert -0.3 < found["top1"]["integer"] < 0
    assert abs(found["latency_us"]["error"]) < 0.02 and found["exact_images"] == 32
    text = networks(validation)
    assert "%" not in text.partition("KiB")[0] and f"scored by -{tmp_path}/mine.py:loss" in text
    page = (folder / "report.html").read_text()
    assert "top-1" not in page.lower() and f"-{tmp_path}/mine.py:loss" in page
    assert len(LatencyTable.read(tmp_path / "m4.csv")) > 5
    scores = np.fromfile(folder / "deploy" / "found" / "scores.bin", "<i2").reshape(32, 12)
    assert len(np.unique(scores)) > 50
    assert json.loads((folder / "validation.json").read_text()) == validation
