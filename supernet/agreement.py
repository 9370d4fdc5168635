"""Whether the network that was traced computes what the model does.

torch.fx sees the calls of a forward, not why they are made: a test of a tensor's type goes another way while tracing, a
hook or an overridden step of a layer is not seen. So both run once on the example, the network at full width with
nothing quantized and the first operator of every edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lut.errors import InputError

from .choice import one_hot_gates
from .collect import BATCH
from .containers import opened
from .network import QuantNetwork
from .outputs import described
from .register import handler_of
from .trace import inference

TOLERANCE = 1e-3
"""Of the largest value: rounding in float32, added up over the layers of a deep network, stays a tenth of it."""
ON_GPU = 1e-2
"""Convolutions may round their inputs to 10 bits there (TF32)."""
SMALLEST = 1e-6
"""Outputs all below are zeros up to rounding."""


def check_agreement(network: QuantNetwork, model: nn.Module, example: Tensor) -> None:
    """Raises InputError where the outputs differ on `example` (n, C, H, W), with how much, which and what may be wrong.

    A constant example shows little, so noise stands in for it. Where the model's own output is not finite, nothing is
    compared. Both are left as they were, and so is torch's generator.
    """
    x = example if len(example) > 1 else example.repeat(BATCH, 1, 1, 1)
    if bool((x == x.flatten()[0]).all()):
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), inference(model), inference(network):
        expected = model(x.clone())
        values = {c.name: c.options[0 if c.kind == "op" else -1] for c in network.choices()}
        gates = one_hot_gates(network.choices(), values, x.dtype)
        gates.weights = gates.weights.to(x.device)
        found = network.run(x, gates, quantize=False)
    wanted, made = list(_leaves(expected)), list(_leaves(found))
    if [(path, y.shape) for path, y in wanted] != [(path, y.shape) for path, y in made]:
        raise _differs(model, f"it returns {described(found)}, and the model {described(expected)}")
    limit = max(ON_GPU if x.is_cuda else TOLERANCE, 16 * torch.finfo(x.dtype).eps)
    wrong = {path: error for (path, a), (_, b) in zip(made, wanted) if (error := difference(a, b)) > limit}
    if wrong:
        which = [f"output {path!r}" if path else "its output" for path in wrong]
        raise _differs(model, f"{', '.join(which)} differs by {max(wrong.values()):.2g} of the largest value")


def difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max |expected| where expected is finite; infinite where only found is not."""
    finite = expected.isfinite()
    a, b = found[finite].double(), expected[finite].double()
    if not len(b):
        return 0.0
    error = float((a - b).abs().max() / b.abs().max().clamp_min(SMALLEST))
    return error if error == error else float("inf")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a result, and the path to each."""
    found = opened(value)
    for key, item in zip(found.keys, found.items) if found is not None else ():
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
    if isinstance(value, Tensor):
        yield path, value


def _differs(model: nn.Module, how: str) -> InputError:
    named = [f"'{name}'" for name, module in model.named_modules() if handler_of(module) is not None]
    stand_ins = (
        f"what was registered for {', '.join(named[:3])} computes something else (give register_op exact=False where "
        "that is meant)"
    )
    causes = [
        "forward asks for a tensor's type or values (isinstance(x, torch.Tensor), x.is_cuda, random numbers)",
        "a tensor is changed in place through a view of it, or a layer is, while forward runs",
        "a step of a layer is overridden or hooked",
        *([stand_ins] if named else []),
    ]
    return InputError(
        f"{type(model).__name__}: the traced network computes something else than the model: {how}. Likely causes: "
        f"{'; '.join(causes)}. Write that part of forward without it, or say what its module is with "
        "supernet.register_op"
    )
