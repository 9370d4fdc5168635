"""What a training sees of a split: shuffled batches, none of which is a single example left over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .evaluate import Data


def training_batches(
    data: Data, split: str, batch_size: int, augment: bool, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Any]]:
    """Shuffled batches of a split, without a last one of a single example: batch norm in training mode, on maps of one
    pixel, needs several."""
    seen = 0
    for x, y in data.batches(split, batch_size, True, augment, generator):
        if len(x) > 1 or batch_size == 1 or not seen:
            yield x, y
        seen += len(x)


def training_steps(data: Data, batch_size: int) -> int:
    """How many batches of the training split that makes."""
    whole, rest = divmod(data.size("train"), batch_size)
    return whole + (rest > 1 or (rest == 1 and not whole))
