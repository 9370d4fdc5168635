"""The register tile of a convolution: pixels x blocks of 16 outputs, summed over the taps, then requantized.

    for tap, step:  for pixel:  inputs = broadcast;  for block:  acc[pixel, block] += inputs x weights[block]

The sums are a stack array whose indices are all constants, so that LLVM keeps it in registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lut.spec import OpSpec

from .emit import Nest
from .intrinsics import Dot
from .isa import LANES
from .requantize import Epilogue, Sums
from .stage import Staged


def runs(total: int, limit: int) -> list[tuple[int, int, int]]:
    """(start, count, size): `total` cut into the fewest nearly equal parts of at most `limit`."""
    parts = -(-total // limit)
    small, larger = divmod(total, parts)
    cut = [(0, larger, small + 1)] if larger else []
    return [*cut, (larger * (small + 1), parts - larger, small)] if parts > larger else cut


@dataclass(frozen=True)
class Layout:
    """How weights are cut: `taps` runs of `run` inputs per group, `vectors` weight vectors per run."""

    groups: int
    outputs: int  # per group
    blocks: int  # per group, of LANES outputs
    merged: bool  # a run spans the kernel's width
    taps: int
    run: int
    vectors: int

    @staticmethod
    def of(spec: OpSpec, how: Dot) -> Layout:
        kh, kw = spec.kernel
        channels, outputs = spec.c_in // spec.groups, spec.c_out // spec.groups
        merged = spec.groups == 1 and (spec.dilation[1] == 1 or kw == 1)
        run = kw * channels if merged else channels
        vectors = -(-run // (how.reduce * how.packed))
        return Layout(spec.groups, outputs, -(-outputs // LANES), merged, kh if merged else kh * kw, run, vectors)


@dataclass(frozen=True)
class Tile:
    """What stays the same over a kernel's loops; bias and mult are its constants, by channel."""

    nest: Nest
    spec: OpSpec
    how: Dot
    form: Layout
    stage: Staged
    bias: Any
    mult: Any
    epilogue: Epilogue

    def emit(
        self, weights: Any, starts: list[Any], block: Any, pixels: list[Any], places: list[Any], last: Any
    ) -> None:
        """One tile. starts: where in `weights` each of its blocks begins; block: the first, counted over all groups.

        pixels: starts of the windows in the staged input; places: of the first channel in the output; last: whether
        the last of the blocks is the group's last (bool or condition).
        """
        nest, how, form, deep = self.nest, self.how, self.form, len(starts)
        slots = [(p, d, part) for p in range(len(pixels)) for d in range(deep) for part in range(how.parts)]
        channels = [(block + d) * LANES for d in range(deep)]
        sums = nest.local(how.accumulator, len(slots) * how.lanes)
        starts_at: dict[tuple[int, int], Any] = {}
        for d, channel in enumerate(channels):
            for part in range(how.parts):
                bias = nest.load(self.bias, channel + part * how.lanes, how.lanes)
                starts_at[d, part] = nest.bind(self.epilogue.start(bias, how.lanes))
        for slot, (_, d, part) in enumerate(slots):
            nest.store(sums, slot * how.lanes, starts_at[d, part], how.lanes)
        if how.limit:
            self._reduce_narrow(sums, weights, starts, pixels)
        else:
            self._reduce(sums, how.lanes, weights, starts, pixels, (0, form.taps), (0, form.vectors))
        tail = form.outputs - (form.blocks - 1) * LANES
        tile = []
        for p, place in enumerate(places):
            for d, channel in enumerate(channels):
                slot = (p * deep + d) * how.parts
                halves = [nest.load(sums, (slot + i) * how.lanes, how.lanes) for i in range(how.parts)]
                total = halves[0] if how.parts == 1 else nest.shuffle(halves, list(range(LANES)))
                bias, mult = (nest.load(buffer, channel, LANES) for buffer in (self.bias, self.mult))
                is_last = last if d == deep - 1 else False
                tile.append(Sums(nest.bind(total), bias, mult, place + d * LANES, is_last))
        self.epilogue.store(tile, tail)

    def _reduce(
        self, sums: Any, lanes: int, weights: Any, starts: list[Any], pixels: list[Any], taps: Any, vectors: Any
    ) -> None:
        """sums += over taps and weight vectors, each a range (start, count)."""
        nest, how, form, spec = self.nest, self.how, self.form, self.spec
        with nest.loop(taps[1]) as i, nest.loop(vectors[1]) as j:
            tap, vector = taps[0] + i, vectors[0] + j
            kw = 1 if form.merged else spec.kernel[1]
            ky, kx = (tap, 0) if kw == 1 else (tap // kw, tap % kw)
            inside = self.stage.offset(ky * spec.dilation[0], kx * spec.dilation[1])
            inside = inside + vector * (how.packed * how.reduce)
            at = (tap * form.vectors + vector) * how.vector
            loaded = [how.weights(nest, weights, start + at) for start in starts]
            for step in range(how.packed):
                slot = 0
                for pixel in pixels:
                    inputs = how.inputs(nest, self.stage.buffer, pixel + inside + step * how.reduce)
                    for block in loaded:
                        for part in block[step]:
                            total = how.multiply_add(nest, nest.load(sums, slot, lanes), inputs, part)
                            nest.store(sums, slot, total, lanes)
                            slot += lanes

    def _reduce_narrow(self, sums: Any, weights: Any, starts: list[Any], pixels: list[Any]) -> None:
        """The same through int16 partial sums that are widened before they can overflow."""
        nest, how, form = self.nest, self.how, self.form
        count, lanes = len(pixels) * len(starts) * how.parts, 2 * how.lanes
        limit = how.limit // how.packed  # in weight vectors
        assert how.widen is not None
        widen = how.widen

        def chunk(taps: Any, vectors: Any) -> None:
            partial = nest.local("int16", count * lanes)
            for slot in range(count):
                nest.store(partial, slot * lanes, nest.const(0, "int16", lanes), lanes)
            self._reduce(partial, lanes, weights, starts, pixels, taps, vectors)
            for slot in range(count):
                at = slot * how.lanes
                total = widen(nest, nest.load(sums, at, how.lanes), nest.load(partial, slot * lanes, lanes))
                nest.store(sums, at, total, how.lanes)

        if form.vectors <= limit:
            for start, number, size in runs(form.taps, limit // form.vectors):
                with nest.loop(number) as i:
                    chunk((start + i * size, size), (0, form.vectors))
            return
        with nest.loop(form.taps) as tap:
            for start, number, size in runs(form.vectors, limit):
                with nest.loop(number) as i:
                    chunk((tap, 1), (start + i * size, size))
