"""Depthwise convolution by instructions that sum four products of bytes (vpdpbusd, SDOT): four taps of a row at once.

    for strip of rows, block of 16 channels:
      stage rows as quads: quad q holds columns 2q .. 2q + 3, channel by channel
      for tile of pixels:  for ky:  sum[pixel] += quad[row + ky, pixel] . weights[ky, phase of the pixel]

Quads start at every second column, so one serves two neighbouring pixels: the even one with weights (w0 w1 w2 0), the
odd one with the same a byte further (0 w0 w1 w2). Kernels wider than that take every second quad. Weights are stored
once, for even pixels, and shifted once per block of channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lut.spec import OpSpec

from .conv import pack_bits
from .depthwise_frame import Frame
from .emit import Nest
from .intrinsics import FLIP, Dot, dot
from .isa import LANES, Isa
from .stage import Staged, lines, plan_stage
from .tile import runs

TAPS, STEP = 4, 2
"""Columns of a quad, and from one quad to the next."""
QUAD = TAPS * LANES
"""Bytes of a quad."""


def dotted(spec: OpSpec, isa: str) -> bool:
    """Whether a depthwise convolution is computed so: integer, taps side by side, and the instruction is there."""
    if spec.is_float or spec.dilation[1] > 1:
        return False
    how = dot(isa, spec.w_bits, spec.in_bits[0])
    return how.reduce == TAPS and how.limit == 0


def _quads(spec: OpSpec, phase: int) -> int:
    """Quads that a row of taps spans from a pixel's first on; phase: the pixel's first column within its quad."""
    return -(-(phase + spec.kernel[1]) // TAPS)


def _width(spec: OpSpec) -> int:
    """Quads of a staged row."""
    first = [x * spec.stride[1] for x in range(spec.out_size()[1])]
    return max(col // STEP + 2 * (_quads(spec, col % STEP) - 1) + 1 for col in first)


def pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    """(c, 1, kh, kw) -> flat [block][row of taps][quad][channel][tap], sub-byte weights packed over rows and quads."""
    packed, (kh, kw), quads = dot(isa, spec.w_bits, spec.in_bits[0]).packed, spec.kernel, _quads(spec, 0)
    w = np.pad(weights.reshape(-1, kh, kw), ((0, -spec.c_out % LANES), (0, 0), (0, quads * TAPS - kw)))
    w = w.reshape(-1, LANES, kh * quads, TAPS).transpose(0, 2, 1, 3)
    w = np.pad(w, ((0, 0), (0, -w.shape[1] % packed), (0, 0), (0, 0)))
    return pack_bits(w.reshape(len(w), -1, packed, LANES, TAPS), spec.w_bits, axis=2)


class _Block:
    """16 channels of a kernel: the weights of every row, quad and phase, loaded once, and their products."""

    def __init__(self, nest: Nest, spec: OpSpec, how: Dot, quads: Staged, packed: Any, block: Any) -> None:
        self.nest, self.spec, self.how, self.quads = nest, spec, how, quads
        kh, count = spec.kernel[0], _quads(spec, 0)
        units = -(-kh * count // how.packed)
        loaded = [how.weights(nest, packed, (block * units + i) * how.vector) for i in range(units)]
        even = [step for unit in loaded for step in unit]
        self.weights = {0: [even[ky * count : (ky + 1) * count] for ky in range(kh)]}
        if spec.stride[1] % STEP:
            self.weights[1] = [self._moved(row) for row in self.weights[0]]

    def _moved(self, row: list[list[Any]]) -> list[list[Any]]:
        """A row of taps, one column further: [quad][part]."""
        nest, lanes = self.nest, self.how.lanes
        found = []
        for i in range(_quads(self.spec, 1)):
            parts = []
            for part in range(self.how.parts):
                word = nest.const(0, "uint32", lanes)
                if i < len(row):
                    word = nest.view(row[i][part], f"uint32x{lanes}") << nest.const(8, "uint32", lanes)
                if i > 0:
                    word = word | (nest.view(row[i - 1][part], f"uint32x{lanes}") >> nest.const(24, "uint32", lanes))
                parts.append(nest.bind(nest.view(word, f"int8x{TAPS * lanes}")))
            found.append(parts)
        return found

    def sums(self, start: Any, row: Any, pixels: list[tuple[int, Any]]) -> list[Any]:
        """One vector of LANES sums, from `start` on, per pixel (phase, first quad) of an output row of the strip."""
        nest, how, lanes = self.nest, self.how, self.how.lanes
        parts = [nest.shuffle([start], list(range(at, at + lanes))) for at in range(0, LANES, lanes)]
        totals = [[start] if how.parts == 1 else parts[:] for _ in pixels]
        for ky in range(self.spec.kernel[0]):
            for total, (phase, first) in zip(totals, pixels):
                line = row * self.spec.stride[0] + ky * self.spec.dilation[0]
                for i, weights in enumerate(self.weights[phase][ky]):
                    at = self.quads.offset(line, first + STEP * i)
                    for part in range(how.parts):
                        codes = nest.load(self.quads.buffer, at + part * TAPS * lanes, TAPS * lanes)
                        inputs = nest.view(codes, f"int8x{TAPS * lanes}")
                        total[part] = nest.bind(how.multiply_add(nest, total[part], inputs, weights[part]))
        return [total[0] if how.parts == 1 else nest.bind(nest.shuffle(total, list(range(LANES)))) for total in totals]


def _stage_quads(nest: Nest, spec: OpSpec, quads: Staged, source: Any, top: Any, zero: Any, channel: Any) -> None:
    """Fill quads with the input rows of output rows top .. top + quads.rows - 1, 16 channels from `channel` on.

    Columns lie one behind the other in a register; whole words are moved first, then the bytes of four: two steps that
    are two instructions where registers have 512 bits.
    """
    words = [tap * 4 + word for word in range(LANES // 4) for tap in range(TAPS)]
    order = [4 * (lane - lane % 4) + 4 * tap + lane % 4 for lane in range(LANES) for tap in range(TAPS)]
    above, left, _, _ = spec.pad
    flip = FLIP if quads.dtype == "int8" else 0
    zeros = nest.bind(nest.splat(nest.bind(zero.astype("uint8")), LANES))
    outside = nest.bind(nest.splat(nest.bind((zero - flip).astype(quads.dtype)), QUAD))
    first, end = -(-left // STEP), min((left + spec.width - TAPS) // STEP + 1, quads.width)  # whole quads of the row

    def fill(line: Any, q: Any, start: Any, column: int, inside: bool) -> None:
        columns = [
            nest.load(source, start + at * spec.c_in, LANES) if inside or 0 <= at < spec.width else zeros
            for at in range(column, column + TAPS)
        ]
        whole = nest.bind(nest.view(nest.shuffle([nest.bind(c) for c in columns], list(range(QUAD))), "int32x16"))
        value = nest.shuffle([nest.bind(nest.view(nest.bind(nest.shuffle([whole], words)), f"uint8x{QUAD}"))], order)
        if flip:
            value = nest.view(value ^ nest.const(FLIP, "uint8", QUAD), f"int8x{QUAD}")
        nest.store(quads.buffer, quads.offset(line, q), value, QUAD)

    with nest.loop(lines(spec, quads.rows)) as line:
        y = top * spec.stride[0] + line - above
        inside = nest.x.all(y >= 0, y < spec.height)
        with nest.when(inside):
            start = nest.bind(y * spec.width * spec.c_in + channel)
            for q in range(quads.width):
                if not first <= q < end:
                    fill(line, q, start, STEP * q - left, False)
            if end > first:
                with nest.loop(end - first) as i:
                    fill(line, first + i, start + i * STEP * spec.c_in, STEP * first - left, True)
        with nest.when(nest.x.Not(inside)), nest.loop(quads.width) as q:
            nest.store(quads.buffer, quads.offset(line, q), outside, QUAD)


def _tiles(spec: OpSpec, limit: int) -> list[tuple[int, int, int]]:
    """(start, count, size) of tiles of an output row, in pairs of pixels where their phases differ."""
    cols = spec.out_size()[1]
    if spec.stride[1] % STEP == 0:
        return runs(cols, limit)
    pairs = [(2 * start, count, 2 * size) for start, count, size in runs(cols // 2, limit // 2)] if cols > 1 else []
    return [*pairs, (cols - 1, 1, 1)] if cols % 2 else pairs


def depthwise_dot(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """Emit a depthwise conv2d or conv2d_add that is `dotted`; returns a part's workspace in bytes."""
    how = dot(isa.name, spec.w_bits, spec.in_bits[0])
    frame = Frame(nest, spec, isa, how.weight_dtype, how.staged)
    budget = isa.stage_bytes // 2  # what is read and written has its place in the cache, too
    workspace = frame.bound["workspace"]
    quads = plan_stage(spec, workspace, how.staged, QUAD, budget, frame.own.most, width=_width(spec))
    with quads.strips(nest, frame.own) as (top, height), frame.each_block(frame.blocks) as block:
        body = _Block(nest, spec, how, quads, frame.bound["weights"], block)
        first = frame.enter(block)
        _stage_quads(nest, spec, quads, frame.bound["in"], top, frame.zero, block * LANES)
        with nest.loop(height) as row:
            for start, number, size in _tiles(spec, frame.limit):
                with nest.loop(number) as t:
                    pixels = []
                    for x in range(start, start + size):
                        quad, phase = divmod(x * spec.stride[1], STEP)
                        pixels.append((phase, quad + t * (size * spec.stride[1] // STEP)))
                    frame.store(body.sums(first, row, pixels), top + row, start + t * size)
    return quads.bytes
