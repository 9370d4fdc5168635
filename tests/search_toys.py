"""Toys for the search's tests: a data set and a network with one choice, small enough for closed forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.arch import Arch
from supernet.choice import Choice, Gates
from supernet.network import QuantNetwork


class Blobs:
    """Classes at distinct corners of a (channels, 2, 2) image, with noise; the splits differ."""

    num_classes = 3

    def __init__(self, count: int = 48, noise: float = 0.3) -> None:
        self.splits = {}
        for seed, split in enumerate(("train", "validation", "test")):
            generator = torch.Generator().manual_seed(seed)
            y = torch.arange(count) % self.num_classes
            x = noise * torch.randn(count, 1, 2, 2, generator=generator)
            x.view(count, 4)[torch.arange(count), y] += 1
            self.splits[split] = (x, y)

    def size(self, split: str) -> int:
        return len(self.splits[split][1])

    def batches(self, split, batch_size, shuffle=False, augment=False, generator=None):
        x, y = self.splits[split]
        order = torch.randperm(len(y), generator=generator) if shuffle else torch.arange(len(y))
        for part in order.split(batch_size):
            yield x[part], y[part]


class ToyNet(nn.Module):
    """Batch norm, then a mix of two linear layers: option 8 sees the image, option 2 nothing. A third choice is pinned.

    The interface of supernet.Supernet that the search loop uses.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.norm = nn.BatchNorm2d(1)
        self.good, self.blind = nn.Linear(4, 3), nn.Linear(4, 3)
        self.step = nn.Parameter(torch.tensor(1.0))
        self.alpha = nn.Parameter(torch.zeros(2, 2))

    def choices(self) -> tuple[Choice, ...]:
        return Choice("layer.weight_bits", "weight_bits", (2, 8), 0), Choice("layer.width", "width", (4,), 1)

    def logits(self) -> Tensor:
        valid = torch.tensor([[True, True], [True, False]])
        return self.alpha.masked_fill(~valid, -torch.inf)

    def forward(self, x: Tensor, gates: Gates | None = None) -> Tensor:
        p = torch.softmax(self.logits(), 1)[0] if gates is None else gates.of(self.choices()[0])
        flat = self.norm(x).flatten(1) * self.step
        return p[0] * self.blind(0 * flat) + p[1] * self.good(flat)

    def sample(self, relaxation, generator=None) -> Gates:
        return relaxation.sample(self.logits(), generator)

    def weight_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p is not self.alpha]

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.alpha]

    def arch(self) -> Arch:
        best = self.logits().argmax(1).tolist()
        return Arch({c.name: c.options[best[c.index]] for c in self.choices()})

    kept_statistics = QuantNetwork.kept_statistics

    def batch_norms(self) -> list[nn.BatchNorm2d]:
        return [self.norm]


def toy_cost(gates: Gates) -> Tensor:
    """E[bits] of the toy's open choice: 2 or 8."""
    return gates.weights[0] @ torch.tensor([2.0, 8.0])
