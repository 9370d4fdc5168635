"""The distribution of sums of choices: the convolution of their parts', for all derived choices of a network at once.

    P_t(s) = sum over options o of part t of p_t(o) P_{t-1}(s - c_t(o)),     P_0(0) = 1

One gather and one product for every t; a choice with fewer parts keeps its distribution in the steps that it has not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.derived import Derived


class Convolution(nn.Module):
    """forward(weights (choices, options)) -> (choices + derived, room): the derived choices' rows behind the others'.

    room: columns of the result, at least the options of any choice; what lies behind a choice's options is 0.
    """

    def __init__(self, derived: Sequence[Derived], choices: int, room: int):
        super().__init__()
        self.room, self.steps = room, max(len(choice.parts) for choice in derived)
        options = max(len(counts) for choice in derived for counts in choice.counts)
        for step in range(self.steps):
            sources = torch.full((len(derived), room, options), room)  # of P_{t-1}, whose column `room` is 0
            rows = torch.full((len(derived),), choices)  # that row is (1, 0, ..)
            for i, choice in enumerate(derived):
                if step >= len(choice.parts):
                    sources[i, :, 0] = torch.arange(room)
                    continue
                rows[i] = choice.parts[step].index
                earlier = {total: s for s, total in enumerate(choice.levels[step - 1] if step else (0,))}
                for s, total in enumerate(choice.levels[step]):
                    for option, count in enumerate(choice.counts[step]):
                        sources[i, s, option] = earlier.get(total - count, room)
            self.register_buffer(f"sources{step}", sources.flatten(1), persistent=False)
            self.register_buffer(f"rows{step}", rows, persistent=False)
        self.options = options

    def forward(self, weights: Tensor) -> Tensor:
        keep = F.one_hot(weights.new_zeros(1, dtype=torch.long), weights.shape[1]).to(weights.dtype)
        own = torch.cat([weights, keep])[:, : self.options]
        known = F.pad(own.new_ones(len(self.get_buffer("rows0")), 1), (0, self.room))
        for step in range(self.steps):
            moved = known.gather(1, self.get_buffer(f"sources{step}")).unflatten(1, (self.room, self.options))
            known = F.pad(torch.bmm(moved, own[self.get_buffer(f"rows{step}")].unsqueeze(2)).squeeze(2), (0, 1))
        return torch.cat([F.pad(weights, (0, self.room - weights.shape[1])), known[:, : self.room]])
