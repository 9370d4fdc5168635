"""Training steps as one compiled graph (torch.compile, Inductor) where that pays, eager else.

Compiling takes half a minute or more, so `auto` does it when the steps ahead save more than that: a step saves time in
proportion to the activations that pass through the quantizers, compiling costs time per layer (scripts/bench_step.py
measures both). It decides by counting, not by timing, so that a resumed run decides the same.

The graph holds forward and backward of full training batches. A smaller last batch, evaluation, and gates that run
some options only (gdas, two_path: another graph for every sample) are eager; so is everything once compiling failed.
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supernet.choice import Gates
from supernet.layers import thin_and_strided
from supernet.network import QuantNetwork

from .accelerator import device_of
from .config import Compile
from .evaluate import mode

SAVED_NS = {"supernet": 7.0, "subnet": 3.0}
"""CPU nanoseconds that a compiled step saves per image and element of an activation (Zen 5)."""
COMPILE_SECONDS = {"supernet": 2.6, "subnet": 1.7}
"""Per convolution or linear layer (the same)."""

NUMBERS = itertools.count()


def pays(net: nn.Module, steps: int, batch: int) -> bool:
    """Whether `steps` training steps of `batch` images save more CPU time than compiling takes; on other devices,
    whose time is not known, they do not."""
    if not isinstance(net, QuantNetwork) or device_of(net).type != "cpu":
        return False
    kind = "supernet" if any(not choice.pinned for choice in net.choices()) else "subnet"
    elements = sum(math.prod(node.shape) for node in net.nodes)
    return steps * batch * elements * SAVED_NS[kind] * 1e-9 > len(net.layers) * COMPILE_SECONDS[kind]


def training_step(net: nn.Module, compile: Compile, steps: int, batch: int) -> Callable[..., Tensor]:
    """What to call in the place of `net` in `steps` training steps of `batch` images: `net` itself, or `Compiled`."""
    wanted = compile == "always" or (compile == "auto" and pays(net, steps, batch))
    return Compiled(net, batch) if wanted and steps else net


class Compiled:
    """Calls net(x) or net(x, gates), compiled for training batches of `batch` images."""

    def __init__(self, net: nn.Module, batch: int, say: Callable[[str], None] | None = None):
        self.net, self.batch = net, batch
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        whole = isinstance(net, QuantNetwork)  # a user's own model may break into several graphs
        spoilt = not whole and any(map(spoilt_if_innermost, net.modules()))
        options: dict[str, Any] | None = {"layout_optimization": False} if spoilt else None
        self.graph: Any = torch.compile(own_code(net), dynamic=False, fullgraph=whole, options=options)
        self.state = "new"

    def __call__(self, x: Tensor, *gates: Gates) -> Tensor:
        partial = any(g.run is not None for g in gates)
        if self.state == "failed" or partial or len(x) != self.batch or not self.net.training:
            return self.net(x, *gates)  # type: ignore[no-any-return]
        if self.state == "ready":
            return self.graph(x, *gates)  # type: ignore[no-any-return]
        self.say("compiling the training step: half a minute or more, once (compile: never does without)")
        try:
            with warnings.catch_warnings():  # of PyTorch's about its own tracing
                warnings.simplefilter("ignore")
                y: Tensor = self.graph(x, *gates)
        except Exception as error:
            self.state = "failed"
            self.say(f"the step could not be compiled, so it runs eagerly, about half as fast: {reason(error)}")
            return self.net(x, *gates)  # type: ignore[no-any-return]
        self.state = "ready"
        return y


def spoilt_if_innermost(layer: nn.Module) -> bool:
    """Whether a convolution must not be compiled to have its channels innermost: see `thin_and_strided`."""
    if not isinstance(layer, nn.Conv2d):
        return False
    return thin_and_strided(layer.kernel_size, layer.stride, layer.in_channels // layer.groups)


def own_code(net: nn.Module) -> Callable[..., Tensor]:
    """A call of `net` with a code object of its own: PyTorch gives up on code that it compiled for eight networks."""

    def step(x: Tensor, *gates: Gates) -> Tensor:
        return net(x, *gates)  # type: ignore[no-any-return]

    step.__code__ = step.__code__.replace(co_name=f"step{next(NUMBERS)}")
    return step


@torch.no_grad()
def channels_last(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy of `net` where x is, to be called on batches like x (n, C, H, W), that is faster on most machines (oneDNN,
    cuDNN) because channels are innermost; they are not where its code does not run so (`view` needs rows innermost)."""
    there = net if device_of(net) == x.device else copy.deepcopy(net).to(x.device)
    try:
        copied = copy.deepcopy(there).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with mode(copied, training=False):
            copied(x[:1].contiguous(memory_format=torch.channels_last))
    except Exception:  # a user's own code
        return there
    return copied  # type: ignore[no-any-return]


def reason(error: BaseException) -> str:
    """The first line of what failed at the root, which Inductor wraps several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
