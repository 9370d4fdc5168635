"""The files of a small run, as a person writes them: data, model, device, settings, and a table made by a formula."""

import sys
from pathlib import Path

import torch

from lut.spec import Latency
from lut.table import LatencyTable
from search.coverage import space_specs
from search.user_code import load
from supernet import SearchSpace, Supernet

DATA = """
import torch

def batches(count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = 0.3 * torch.randn(count, 1, 8, 8, generator=generator)
    for label in range(3):
        x[y == label, 0, 2 * label : 2 * label + 3] += 1
    return list(zip(x.split(16), y.split(16)))

def loaders():
    return batches(96, 0), batches(48, 1), batches(48, 2)
"""
MODEL = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 3),
    )
"""
DEVICE = """
name: paper
runner: imported
supports: {weight_bits: [2, 4, 8], act_bits: [4, 8]}
"""
SETTINGS = """
device: {folder}/paper.yaml
table: {folder}/paper.csv
data: {{name: "{folder}/mydata.py:loaders", augment: false}}
model: {{name: "{folder}/mynet.py:build"}}
train: {{epochs: 4, batch_size: 16, lr: 0.1}}
space: {{weight_bits: [2, 4, 8], act_bits: [4, 8], widths: [0.5, 1.0]}}
search: {{epochs: 1, warmup_epochs: 1, batch_size: 16}}
finetune: {{epochs: 1, batch_size: 16}}
budgets: [weights=60%, macs=90%]
"""


def formula(spec):
    """Microseconds: a constant and what is proportional to the multiply-accumulates."""
    rows, cols = spec.out_size()
    return 1.0 + 1e-3 * rows * cols * spec.c_out * spec.c_in * spec.kernel[0] * spec.kernel[1] / spec.groups


def write(folder: Path) -> Path:
    """All files in `folder`; returns the settings' path."""
    for name, text in (("mydata.py", DATA), ("mynet.py", MODEL), ("paper.yaml", DEVICE)):
        (folder / name).write_text(text)
    (folder / "settings.yaml").write_text(SETTINGS.format(folder=folder))
    model, x = load(f"{folder}/mynet.py:build")(), torch.rand(4, 1, 8, 8)
    space = SearchSpace((2, 4, 8), (4, 8), (0.5, 1.0))
    specs = [*space_specs(Supernet.from_model(model, x, space)),
             *space_specs(Supernet.from_model(model, x, SearchSpace((32,), (32,), (1.0,))))]  # fmt: skip
    rows = {s: Latency(formula(s), formula(s), formula(s), source="imported") for s in specs}
    LatencyTable(rows, {"device": "paper", "profiler": "imported"}, folder / "paper.csv").write()
    return folder / "settings.yaml"


def main(argv):
    """scripts/run_search.py, its folder not left on the path."""
    before = list(sys.path)
    from scripts.run_search import main as run_search

    try:
        return run_search(argv)
    finally:
        sys.path[:] = before
