"""Depthwise convolution: a tile of pixels x 16 channels, every tap a vector of inputs times a vector of weights.

Channels are taken 16 at a time, outermost, so that what is staged (padded, widened) fits the first-level cache. Several
threads share the rows, or where these are few the blocks of channels.

With 256-bit x86 vectors two taps at a time: their int16 inputs are interleaved and vpmaddwd sums both products. With
4- and 2-bit weights a product fits int16 and so does a sum of up to 32767 / (255 max|w|) taps: 16-bit multiplications
(vpmullw, MLA). On NEON 8-bit inputs and weights are widened to int16 for SMLAL. Elsewhere products are plain int32 (or
float32) vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lut.spec import OpSpec

from .conv import pack_bits
from .depthwise_frame import Frame
from .emit import Nest
from .isa import LANES, Isa, get_isa
from .stage import Staged, plan_stage, stage_strip
from .tile import runs

LOW = [0, 1, 2, 3, 8, 9, 10, 11]
"""Channels of vpunpcklwd's pairs; those of vpunpckhwd are 4 further."""


def _unit(spec: OpSpec, isa: str) -> int:
    """Taps that one load of weights covers."""
    return 2 if in_pairs(spec, isa) else 1 if spec.w_bits >= 8 else 8 // spec.w_bits


def in_pairs(spec: OpSpec, isa: str) -> bool:
    return get_isa(isa).vectors == "ymm" and spec.w_bits == 8


def pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    """(c, 1, kh, kw) -> flat [block][tap / unit][channel][tap % unit]: vpmaddwd's pairs, or fields of one byte."""
    unit = _unit(spec, isa)
    taps = weights.reshape(spec.c_out, -1)
    taps = np.pad(taps, ((0, -spec.c_out % LANES), (0, -taps.shape[1] % unit)))
    w = taps.reshape(-1, LANES, taps.shape[1] // unit, unit).transpose(0, 2, 1, 3)
    if in_pairs(spec, isa):
        w = w[:, :, [*LOW, *(c + 4 for c in LOW)]]
    return pack_bits(w, spec.w_bits, axis=3)


class _Block:
    """16 channels of a kernel: `weights` of every tap, loaded (and unpacked) once, and their products with a tile."""

    def __init__(self, nest: Nest, spec: OpSpec, isa: Isa, stage: Staged, packed: Any, block: Any) -> None:
        self.nest, self.spec, self.stage = nest, spec, stage
        self.taps = [(ky, kx) for ky in range(spec.kernel[0]) for kx in range(spec.kernel[1])]
        self.pairs = in_pairs(spec, isa.name)
        unit = _unit(spec, isa.name)
        size, units = LANES * (2 if self.pairs else 1), -(-len(self.taps) // unit)
        raw = [nest.load(packed, (block * units + i) * size, size) for i in range(units)]
        wide = "float32x16" if spec.is_float else "int32x16" if spec.w_bits == 8 else "int16x16"
        if self.pairs:
            both = [nest.bind(vector.astype("int16x32")) for vector in raw]
            self.weights = [nest.bind(nest.shuffle([v], list(range(h, h + 16)))) for v in both for h in (0, 16)]
        elif spec.w_bits >= 8:
            self.weights = [nest.bind(vector.astype(wide)) for vector in raw]
        else:
            self.weights = [
                nest.bind(self._field(raw[t // unit], t % unit).astype(wide)) for t in range(len(self.taps))
            ]

    def _field(self, packed: Any, step: int) -> Any:
        nest, bits = self.nest, self.spec.w_bits
        mask, offset = nest.const((1 << bits) - 1, "uint8", LANES), nest.const(1 << (bits - 1), "int8", LANES)
        return nest.view((packed >> nest.const(step * bits, "uint8", LANES)) & mask, f"int8x{LANES}") - offset

    def load(self, pixel: Any, tap: int) -> Any:
        ky, kx = self.taps[min(tap, len(self.taps) - 1)]  # beyond the last tap the weights are zero
        inside = self.stage.offset(ky * self.spec.dilation[0], kx * self.spec.dilation[1])
        return self.nest.load(self.stage.buffer, pixel + inside, LANES)

    def sums(self, pixels: list[Any], start: Any) -> list[Any]:
        """One vector of LANES sums per pixel, on top of `start`; tap by tap, so that the pixels' sums overlap."""
        if self.pairs:
            return self._sums_of_pairs(start, pixels)
        if self.spec.w_bits < 8:
            return self._sums_in_int16(start, pixels)
        return self._add(start, pixels, range(len(self.taps)), "float32x16" if self.spec.is_float else "int32x16")

    def _add(self, start: Any, pixels: list[Any], taps: range, dtype: str) -> list[Any]:
        totals = [start] * len(pixels)
        for tap in taps:
            products = [self.load(pixel, tap).astype(dtype) * self.weights[tap] for pixel in pixels]
            totals = [self.nest.bind(total + product) for total, product in zip(totals, products)]
        return totals

    def _sums_of_pairs(self, start: Any, pixels: list[Any]) -> list[Any]:
        nest = self.nest
        totals = [[nest.shuffle([start], [c + half for c in LOW]) for half in (0, 4)] for _ in pixels]
        for unit in range(len(self.weights) // 2):
            for total, pixel in zip(totals, pixels):
                both = [nest.bind(self.load(pixel, 2 * unit + i)) for i in range(2)]
                for half, order in enumerate((LOW, [c + 4 for c in LOW])):
                    pair = nest.shuffle(both, [c + LANES * i for c in order for i in range(2)])
                    product = nest.intrinsic("llvm.x86.avx2.pmadd.wd", "int32x8", pair, self.weights[2 * unit + half])
                    total[half] = nest.bind(total[half] + product)
        return [nest.bind(nest.shuffle(t, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15])) for t in totals]

    def _sums_in_int16(self, start: Any, pixels: list[Any]) -> list[Any]:
        """No more taps at a time than keep 255 max|w| each within int16."""
        nest, totals = self.nest, [start] * len(pixels)
        limit = 32767 // (255 * ((1 << (self.spec.w_bits - 1)) - 1))
        for first in range(0, len(self.taps), limit):
            taps = range(first, min(first + limit, len(self.taps)))
            partial = self._add(nest.const(0, "int16", LANES), pixels, taps, "int16x16")
            totals = [nest.bind(total + part.astype("int32x16")) for total, part in zip(totals, partial)]
        return totals


def depthwise(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """Emit a depthwise conv2d or conv2d_add; returns a part's workspace in bytes."""
    dtype = "float32" if spec.is_float else "int16" if isa.vectors in ("ymm", "neon") else "uint8"
    weights = "float32" if spec.is_float else "int8" if spec.w_bits == 8 else "uint8"
    frame = Frame(nest, spec, isa, weights, dtype)
    stage = plan_stage(spec, frame.bound["workspace"], dtype, LANES, isa.stage_bytes, frame.own.most)
    with frame.each_block(frame.blocks) as block:
        body = _Block(nest, spec, isa, stage, frame.bound["weights"], block)
        first = frame.enter(block)
        with stage.strips(nest, frame.own) as (top, height):
            stage_strip(nest, spec, stage, frame.bound["in"], top, frame.zero, block * LANES)
            with nest.loop(height) as row:
                for start, number, size in runs(frame.cols, frame.limit):
                    with nest.loop(number) as t:
                        x = start + t * size
                        pixels = [stage.start(spec, top, row, x + dx) for dx in range(size)]
                        frame.store(body.sums(pixels, first), top + row, x)
    return stage.bytes
