"""An edge that selects one of several operators: candidates with the same input and the same output shape.

    block = MixedOp(MBConv(16, 24, 3, 1, 6), MBConv(16, 24, 5, 1, 6), MBConv(16, 24, 3, 1, 3), nn.Identity())

As a plain module it runs its first candidate, the default. `Supernet.from_model` makes a choice `<name>.op` of it whose
options are the candidates' positions, and mixes their outputs: sum_o p_o o(x) (DARTS, Liu 2019, eq. 2; ProxylessNAS,
Cai 2019, eq. 1). An identity skips the edge: the network gets shallower where it is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from lut.errors import InputError


class MixedOp(nn.Module):
    """candidates: modules from one tensor (n, C, H, W) to one of the same shape for all. Raises InputError."""

    def __init__(self, *candidates: nn.Module):
        super().__init__()
        if len(candidates) < 2:
            raise InputError(f"MixedOp: {len(candidates)} candidates; an operator choice needs two or more")
        if sum(isinstance(candidate, nn.Identity) for candidate in candidates) > 1:
            raise InputError("MixedOp: two identities; one skips the edge already")
        self.candidates = nn.ModuleList(candidates)

    def forward(self, x: Tensor) -> Tensor:
        return self.candidates[0](x)

    def inherit(self) -> None:
        """Give the other candidates the default's weights, where they know how (`inherit(default)`): a search that
        runs one path at a time then starts from operators that all work with the trained rest."""
        for candidate in list(self.candidates)[1:]:
            if (take := getattr(candidate, "inherit", None)) is not None:
                take(self.candidates[0])


@dataclass(frozen=True)
class Block:
    """Layers that some tables price as one row, of these fields of OpSpec.

    kernel and stride are square; attrs such as mid=96;se=0, sorted. by_bits: whether there are rows for several
    bit-widths; else there is one, at 8. name: of the module, set by the supernet.
    """

    kind: str
    kernel: int = 1
    stride: int = 1
    attrs: str = ""
    by_bits: bool = True
    name: str = ""


class HasBlock(Protocol):
    """A module that some table has rows for; tables without rows of that kind price its layers."""

    def table_block(self) -> Block | None: ...


def block_of(module: nn.Module, name: str) -> Block | None:
    """What the module says of itself, or None."""
    describe = getattr(module, "table_block", None)
    block: Block | None = None if describe is None else describe()
    return block and replace(block, name=name)
