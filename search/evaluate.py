"""What a network scores on a split, and batch-norm statistics for the architecture at hand.

Re-estimation is the cumulative average of batch statistics (Yu & Huang 2019, arXiv:1903.05134, "post-statistics"):
the running statistics of a supernet are those of mixtures of architectures, not of the one that is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lut.errors import InputError
from supernet.network import QuantNetwork
from supernet.outputs import described

from .accelerator import device_of, exact_products
from .batches import training_batches

Forward = Callable[[Tensor], Any]
Metric = Callable[[Any, Any], Any]


class Data(Protocol):
    """What the loops need of a `search.data.DataSource`: batches (x float NCHW, y) of train, validation and test."""

    def size(self, split: str) -> int: ...
    def batches(
        self, split: str, batch_size: int, shuffle: bool, augment: bool, generator: torch.Generator | None
    ) -> Iterable[tuple[Tensor, Any]]: ...


def top1(output: Tensor, target: Tensor) -> float:
    """Share of rows whose largest score is the target's; output (batch, classes), target int64 (batch,)."""
    return (one_tensor(output, "top-1").argmax(1) == target).double().mean().item()


def one_tensor(output: Any, what: str) -> Tensor:
    """`output` itself. InputError when a network returns a structure, which the default loss and metric can't judge."""
    if isinstance(output, Tensor):
        return output
    raise InputError(
        f"{what}: the network returns {described(output)}; it is for one tensor of scores: give --loss and --metric "
        "(in Python loss= and metric=), which get the output as it is"
    )


def require_own(model: nn.Module, loss: object, metric: Metric, teacher: object = None) -> None:
    """InputError, before anything is trained, where a network that returns a structure has no loss or metric of the
    user's own, or a teacher: a KL divergence compares class scores, and which outputs are such, only the user knows."""
    if not isinstance(model, QuantNetwork) or model.form.lone:
        return
    with torch.no_grad():
        structure = model.form.build([torch.zeros(1, 1, 1, 1)] * len(model.outputs))
    if loss is None or metric is top1:
        one_tensor(structure, "top-1" if loss is not None else "cross-entropy")
    if teacher is not None:
        raise InputError(
            f"teacher: the network returns {described(structure)}; distillation compares one tensor of scores. Set "
            "finetune.teacher to none, and let a loss of your own compare the outputs"
        )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Data,
    split: str,
    metric: Metric = top1,
    *,
    forward: Forward | None = None,
    batch_size: int = 256,
) -> float:
    """Mean of metric(output, target) over a split, batches weighted by their size; the model's mode is kept.

    Rounded to 12 digits, so that equal counts compare equal however they were summed.
    """
    total, seen = 0.0, 0
    with mode(model, training=False), exact_products(device_of(model)):
        for x, y in data.batches(split, batch_size, False, False, None):
            x, y = on_device(model, x, y)
            total, seen = total + float(metric((forward or model)(x), y)) * len(x), seen + len(x)
    require_batches(seen, split)
    return round(total / seen, 12)


@torch.no_grad()
def reestimate_batchnorm(
    model: nn.Module,
    data: Data,
    batches: int = 20,
    *,
    forward: Forward | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> None:
    """Set the running statistics to the average over at most `batches` training batches, without augmentation.

    Everything but batch norm runs in eval mode; the modes and momenta are as before afterwards.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    generator = torch.Generator().manual_seed(seed)
    with mode(model, training=False):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        try:
            for _, (x, y) in zip(range(batches), training_batches(data, "train", batch_size, False, generator)):
                (forward or model)(on_device(model, x, y)[0])
        finally:
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum


def on_device(model: nn.Module, x: Tensor, y: Any) -> tuple[Tensor, Any]:
    device = device_of(model)
    return x.to(device), y.to(device) if isinstance(y, Tensor) else y


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module in train or eval mode inside, and as it was afterwards."""
    former = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, value in former.items():
            module.training = value


def require_batches(seen: int, split: str) -> None:
    """InputError when a pass over a split has seen no example."""
    if not seen:
        raise InputError(f"data: the split '{split}' has no examples")
