"""One categorical decision of the search, and the weights that a relaxation gives to its options.

All decisions of a network live in one padded matrix of logits alpha (choices, options): a `Choice` is a row of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """One decision: `kind` is `width` (channels), `weight_bits`, `act_bits` or `op`; one option means pinned.

    `index` is the row of the network's alpha matrix. Identity is by name, which is unique within a network.
    """

    name: str
    kind: str
    options: tuple[int, ...]
    index: int

    @property
    def pinned(self) -> bool:
        return len(self.options) == 1

    @property
    def sources(self) -> tuple[Choice, ...]:
        """The choices with logits that decide it."""
        return (self,)

    def settings(self, value: int) -> dict[str, int]:
        """Values of its sources, by name, under which it has this value."""
        return {self.name: value}

    def value(self, values: Mapping[str, int]) -> int:
        """What it is under the values of its sources."""
        return values[self.name]

    def position(self, value: int) -> int:
        """Index of an option; ValueError names the options when it is none of them."""
        if value not in self.options:
            raise ValueError(f"{self.name}: {value} is not one of {list(self.options)}")
        return self.options.index(value)


@dataclass
class Gates:
    """What a relaxation sampled: passed along to forward and cost, never stored on modules.

    weights: (choices, options) float, rows sum to 1, padding is 0; gradients flow to alpha through it.
    run: (choices, options) bool, the options that forward must compute, or None for all.
    log_prob: () log-probability of the sample, for score-function estimators, or None.
    """

    weights: Tensor
    run: Tensor | None = None
    log_prob: Tensor | None = None

    def of(self, choice: Choice) -> Tensor:
        """Weights of one choice, shape (len(choice.options),)."""
        return self.weights[choice.index, : len(choice.options)]

    def active(self, choice: Choice) -> list[int]:
        """Positions of the options that forward must compute."""
        if self.run is None:
            return list(range(len(choice.options)))
        return [i for i, needed in enumerate(self.run[choice.index, : len(choice.options)].tolist()) if needed]


def one_hot_gates(choices: tuple[Choice, ...], values: dict[str, int], dtype: torch.dtype = torch.float32) -> Gates:
    """Gates of one architecture: weight 1 on `values[choice.name]`, 0 elsewhere; only those options run."""
    width = max((len(c.options) for c in choices), default=1)
    weights = torch.zeros(len(choices), width, dtype=dtype)
    for choice in choices:
        weights[choice.index, choice.position(values[choice.name])] = 1
    return Gates(weights, run=weights > 0)
