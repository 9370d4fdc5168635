"""What the user's model does not train stays as it is: copies of parameters keep `requires_grad`."""

from __future__ import annotations

from torch import nn


def train_as(mine: nn.Module, other: nn.Module, *words: str) -> None:
    """Train of `mine` what `other` trains. words: names of parameters that both have, or are None; by default weight
    and bias."""
    for word in words or ("weight", "bias"):
        own, theirs = getattr(mine, word), getattr(other, word)
        if isinstance(own, nn.Parameter) and theirs is not None:
            own.requires_grad_(theirs.requires_grad)
