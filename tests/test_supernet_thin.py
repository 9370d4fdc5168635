"""1x1 convolutions of few channels with a stride: their gradients, which oneDNN spoils with channels innermost.

What is tested may end the process, so it runs in one of its own.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from torch import nn

from search.compiled import spoilt_if_innermost
from supernet.layers import thin_and_strided

HEADER = Path(sysconfig.get_path("include"), "Python.h")
PROGRAM = """
import copy, sys
import torch
from torch import nn
from search.compiled import Compiled
from search.relax import softmax
from supernet import SearchSpace, Supernet

class Shortcut(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, 8, 1, stride=2)

    def forward(self, x):
        return self.conv(torch.relu(self.stem(x))).flatten(1)

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[2]))
x, y = torch.randn(16, 3, 16, 16), torch.randn(16, 8 * 8 * 8)
for channels in map(int, sys.argv[3:]):
    model = Shortcut(channels)
    exact = copy.deepcopy(model).double()
    (exact(x.double()) * y).sum().backward()
    if sys.argv[1] == "supernet":
        net = Supernet.from_model(model.eval(), x[:1], SearchSpace((32,), (32,), (1.0,))).train()
        step, weight = lambda x: net(x, net.sample(softmax())), net.layers["conv"].weight
    else:
        step, weight = Compiled(model.train(), len(x)), model.conv.weight
    for _ in range(60):
        weight.grad = None
        (step(x) * y).sum().backward()
        [torch.empty(n * 7) for n in range(1, 400)]  # what lies behind a spoilt block is found
        error = (weight.grad - exact.conv.weight.grad).abs().max() / exact.conv.weight.grad.abs().max()
        assert error < 1e-5, (channels, float(error))
print("fine")
"""


def run(what: str, threads: int, *channels: int) -> None:
    command = [sys.executable, "-c", PROGRAM, what, str(threads), *map(str, channels)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and done.stdout == "fine\n", (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_thin_strided_layers_are_right(threads: int) -> None:
    run("supernet", threads, 2, 3, 4, 7, 12)


@pytest.mark.skipif(shutil.which("g++") is None or not HEADER.exists(), reason="needs g++ and Python's headers")
def test_compiled_gradients_of_thin_strided_layers_are_right() -> None:
    run("model", 1, 4)


def test_what_is_thin_and_strided() -> None:
    assert thin_and_strided((1, 1), (2, 2), 4) and thin_and_strided((1, 1), (1, 2), 15)
    assert not thin_and_strided((1, 1), (1, 1), 4)
    assert not thin_and_strided((3, 1), (2, 2), 4)
    assert not thin_and_strided((1, 1), (2, 2), 16)
    assert spoilt_if_innermost(nn.Conv2d(32, 8, 1, stride=2, groups=4))
    assert not spoilt_if_innermost(nn.Conv2d(32, 8, 1, stride=2))
    assert not spoilt_if_innermost(nn.Identity())
