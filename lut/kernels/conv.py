"""Convolution and linear: a register tile of pixels x output channels, NHWC, weights packed in blocks of 16 outputs.

    for strip of rows:  stage the padded input rows (only where padding or the input's width asks for it)
      for group, block of outputs:  for tile of pixels:  acc = 0;  for tap, step: acc += inputs x weights;  epilogue

A kernel row's taps are contiguous in NHWC when dilation is 1, so they are reduced as one run of kw * c inputs: a
first layer of 3 channels wastes nothing. Runs are rounded up to whole steps with zero weights; what is read
beyond the run is multiplied by zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lut.spec import OpSpec

from .emit import Nest
from .intrinsics import Dot, dot, widen
from .isa import LANES, Isa
from .requantize import Epilogue
from .signature import pointers
from .stage import Staged, plan_stage, stage_strip


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


def canonical(spec: OpSpec) -> OpSpec:
    """The same arithmetic with the longest rows: a pointwise convolution sees one row of pixels."""
    if spec.kernel == (1, 1) and spec.stride == (1, 1) and not any(spec.pad):
        return replace(spec, height=1, width=spec.height * spec.width, dilation=(1, 1))
    return spec


def pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    """(c_out, c_in / groups, kh, kw) -> flat blocks [group, block][tap][vector][output][input], sub-byte packed."""
    how = dot(isa, spec.w_bits)
    form = Layout.of(spec, how)
    kh, kw = spec.kernel
    w = weights.reshape(form.groups, form.outputs, -1, kh, kw).transpose(0, 1, 3, 4, 2)  # group, output, ky, kx, c
    w = w.reshape(form.groups, form.outputs, form.taps, form.run)
    steps = form.vectors * how.packed
    rows, tail = form.blocks * LANES - form.outputs, steps * how.reduce - form.run
    w = np.pad(w, ((0, 0), (0, rows), (0, 0), (0, tail)))
    w = w.reshape(-1, LANES, form.taps, form.vectors, how.packed, how.reduce).transpose(0, 2, 3, 4, 1, 5)
    return pack_bits(w, how.bits, axis=3)


def pack_bits(weights: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """Flat storage: sub-byte weights along `axis` (8 / bits long) share a byte, first lowest, as w + 2^(bits-1)."""
    if bits >= 8:
        return np.ascontiguousarray(weights).reshape(-1)
    codes = (weights.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    packed = np.zeros(np.delete(codes.shape, axis), np.uint8)
    for step in range(8 // bits):
        packed |= codes.take(step, axis) << np.uint8(step * bits)
    return packed.reshape(-1)


def pack_channels(spec: OpSpec, values: np.ndarray) -> np.ndarray:
    """Per-channel constants with every group padded to whole blocks."""
    form = values.reshape(spec.groups, -1)
    return np.pad(form, ((0, 0), (0, -form.shape[1] % LANES))).reshape(-1)


def _tile_shape(rows: int, cols: int, blocks: int, limit: int) -> tuple[int, int, int]:
    """(rows of pixels, columns of pixels at most, blocks) of the register tile."""
    tall = 1
    if cols <= limit // 2:
        tall = next(t for t in range(limit // cols, 0, -1) if rows % t == 0)
    wide = min(cols, limit // tall)
    deep = next(d for d in range(max(1, limit // (tall * wide)), 0, -1) if blocks % d == 0)
    if deep == 1 and blocks % 2 == 0 and limit >= 12:
        wide, deep = min(wide, limit // 2 // tall), 2  # each broadcast input then serves two blocks
    return tall, wide, deep


@dataclass(frozen=True)
class _Tile:
    """A register tile in the making: everything that stays the same over the network of loops."""

    nest: Nest
    spec: OpSpec
    how: Dot
    form: Layout
    stage: Staged
    weights: Any
    bias: Any
    mult: Any
    epilogue: Epilogue
    zero: Any  # 0 at run time

    def kept(self, extent: int) -> Any:
        """The extent of a loop that LLVM would unroll into more sums than there are registers."""
        return extent + self.zero if self.how.limit and extent > 1 else extent

    def emit(self, block: Any, deep: int, group: Any, pixels: list[Any], places: list[Any], is_last: Any) -> None:
        """Blocks block .. block + deep - 1 (over all groups) at `pixels`, starts in the staged input; stored at `places`."""
        nest, how, form = self.nest, self.how, self.form
        count = len(pixels) * deep * how.parts
        first = [(block + d) * LANES for d in range(deep)]
        acc = nest.local(how.accumulator, count * how.lanes)
        slots = [(p, d, part) for p in range(len(pixels)) for d in range(deep) for part in range(how.parts)]
        for slot, (_, d, _) in enumerate(slots):
            start = nest.const(0, "int32", how.lanes) if not self.epilogue.float else nest.load(self.bias, first[d], LANES)
            nest.store(acc, slot * how.lanes, start, how.lanes)
        if how.limit:
            self._reduce_narrow(acc, block, deep, pixels)
        else:
            self._reduce(acc, how.lanes, block, deep, pixels, (0, form.taps), (0, form.vectors))
        tail = form.outputs - (form.blocks - 1) * LANES
        for p, place in enumerate(places):
            for d in range(deep):
                slot = (p * deep + d) * how.parts
                halves = [nest.load(acc, (slot + i) * how.lanes, how.lanes) for i in range(how.parts)]
                total = halves[0] if how.parts == 1 else nest.shuffle(halves, list(range(LANES)))
                bias, mult = (nest.load(buffer, first[d], LANES) for buffer in (self.bias, self.mult))
                last = is_last if d == deep - 1 else False
                self.epilogue.block(nest.bind(total), bias, mult, place + d * LANES, tail, last)

    def _reduce(self, acc: Any, lanes: int, block: Any, deep: int, pixels: list[Any], taps: Any, vectors: Any) -> None:
        """acc += sum over taps [start, count) and weight vectors [start, count)."""
        nest, how, form, spec = self.nest, self.how, self.form, self.spec
        with nest.loop(self.kept(taps[1])) as i, nest.loop(self.kept(vectors[1])) as j:
            tap, vector = taps[0] + i, vectors[0] + j
            kw = 1 if form.merged else spec.kernel[1]
            ky, kx = (tap, 0) if kw == 1 else (tap // kw, tap % kw)
            inside = (ky * spec.dilation[0] * self.stage.width + kx * spec.dilation[1]) * spec.c_in
            inside = inside + vector * (how.packed * how.reduce)
            weights = []
            for d in range(deep):
                at = (((block + d) * form.taps + tap) * form.vectors + vector) * how.vector
                weights.append(how.weights(nest, self.weights, at))
            for step in range(how.packed):
                for p, pixel in enumerate(pixels):
                    inputs = how.inputs(nest, self.stage.buffer, pixel + inside + step * how.reduce)
                    for d in range(deep):
                        for part in range(how.parts):
                            at = ((p * deep + d) * how.parts + part) * lanes
                            total = how.multiply_add(nest, nest.load(acc, at, lanes), inputs, weights[d][step][part])
                            nest.store(acc, at, total, lanes)

    def _reduce_narrow(self, acc: Any, block: Any, deep: int, pixels: list[Any]) -> None:
        """The same through int16 partial sums that are widened before they can overflow."""
        nest, how, form = self.nest, self.how, self.form
        count, lanes = len(pixels) * deep * how.parts, 2 * how.lanes
        limit = how.limit // how.packed  # in weight vectors

        def chunk(taps: Any, vectors: Any) -> None:
            partial = nest.local("int16", count * lanes)
            for slot in range(count):
                nest.store(partial, slot * lanes, nest.const(0, "int16", lanes), lanes)
            self._reduce(partial, lanes, block, deep, pixels, taps, vectors)
            for slot in range(count):
                at = slot * how.lanes
                total = widen(nest, nest.load(acc, at, how.lanes), nest.load(partial, slot * lanes, lanes))
                nest.store(acc, at, total, how.lanes)

        if form.vectors <= limit:
            for start, number, size in runs(form.taps, limit // form.vectors):
                with nest.loop(number) as i:
                    chunk((start + i * size, size), (0, form.vectors))
            return
        with nest.loop(form.taps) as tap:
            for start, number, size in runs(form.vectors, limit):
                with nest.loop(number) as i:
                    chunk((tap, 1), (start + i * size, size))


def conv(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """Emit conv2d, conv2d_add or linear over the kernel's eight arguments; returns the workspace in bytes."""
    spec = canonical(spec)
    how = dot(isa.name, spec.w_bits)
    form = Layout.of(spec, how)
    rows, cols = spec.out_size()
    tall, wide, deep = _tile_shape(rows, cols, form.blocks, isa.blocks)
    bound = pointers(nest, spec, how.weight_dtype, how.staged)
    residual = bound["in2"] if spec.kind == "conv2d_add" else None
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name != "llvm", residual)
    stage = plan_stage(spec, bound["in"], bound["workspace"], how.staged, isa.stage_bytes, tall)
    tile = _Tile(nest, spec, how, form, stage, bound["weights"], bound["bias"], bound["mult"], epilogue, nest.bind(nest.load(bound["params"], 9)) if how.limit else 0)
    with nest.loop(stage.strips) as strip:
        top = strip * stage.rows  # first output row
        stage_strip(nest, spec, stage, bound["in"], top, epilogue.scalar.get("z_in"))
        height = stage.rows if rows % stage.rows == 0 else nest.bind(nest.x.min(stage.rows, rows - top))
        with nest.loop(form.groups) as group, nest.loop(form.blocks // deep) as i:
            block = i * deep
            is_last = True if form.blocks == deep else (block == form.blocks - deep)
            with nest.loop(height if tall == 1 else height // tall) as j:
                for start, number, size in runs(cols, wide):
                    with nest.loop(number) as t:
                        x = start + t * size
                        spots = [(j * tall + dy, x + dx) for dy in range(tall) for dx in range(size)]
                        pixels = [stage.start(spec, top, *spot) + group * (spec.c_in // spec.groups) for spot in spots]
                        channel = group * form.outputs + block * LANES
                        places = [((top + y) * cols + x_) * spec.c_out + channel for y, x_ in spots]
                        tile.emit(group * form.blocks + block, deep, group, pixels, places, is_last)
    return stage.bytes
