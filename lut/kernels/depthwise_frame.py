"""What the depthwise kernels share: who does which rows or channels, the constants of a block, the store of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lut.spec import OpSpec

from .emit import Nest
from .isa import LANES, Isa
from .parts import shared_axis
from .requantize import Epilogue, Sums
from .signature import pointers
from .stage import Rows


class Frame:
    """bound: the kernel's pointers, by name. own: this part's rows. each_block(blocks): a loop over this part's blocks
    of LANES channels."""

    def __init__(self, nest: Nest, spec: OpSpec, isa: Isa, weights: str, workspace: str) -> None:
        self.nest, self.spec = nest, spec
        self.bound = pointers(nest, spec, weights, workspace)
        residual = self.bound["in2"] if spec.kind == "conv2d_add" else None
        self.epilogue = Epilogue(nest, spec, self.bound["params"], self.bound["out"], isa.name, residual)
        self.zero = self.epilogue.scalar.get("z_in")
        rows, self.cols = spec.out_size()
        self.blocks, self.limit = -(-spec.c_out // LANES), isa.blocks * 2 // 3
        by_rows = shared_axis(nest.threads, rows=rows, blocks=self.blocks)[0] == "rows"
        self.own = Rows.share(nest, rows) if by_rows else Rows(0, rows, rows)
        self.each_block = nest.loop if by_rows else nest.share

    def enter(self, block: Any) -> Any:
        """Load the constants of a block; what its sums start from."""
        nest, self.block = self.nest, block
        self.is_last = True if self.blocks == 1 else (block == self.blocks - 1)
        self.bias, self.mult = (nest.load(self.bound[name], block * LANES, LANES) for name in ("bias", "mult"))
        return nest.bind(self.epilogue.start(self.bias))

    def store(self, totals: Sequence[Any], row: Any, x: Any) -> None:
        """The sums of pixels x, x + 1, ... of an output row, for the block that was entered last."""
        first = (row * self.cols + x) * self.spec.c_out + self.block * LANES
        places = [first + dx * self.spec.c_out for dx in range(len(totals))]
        tile = [Sums(total, self.bias, self.mult, place, self.is_last) for total, place in zip(totals, places)]
        self.epilogue.store(tile, self.spec.c_out - (self.blocks - 1) * LANES)
