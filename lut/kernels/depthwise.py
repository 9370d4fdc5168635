"""Depthwise convolution: a tile of pixels x 16 channels, every tap a vector of inputs times a vector of weights.

On AVX2 two taps at a time: their int16 inputs are interleaved and vpmaddwd sums both products; with 4- and 2-bit
weights a product fits int16 and so does a sum of up to 32767 / (255 max|w|) taps, so vpmullw takes 16 channels at once.
Elsewhere products are plain int32 (or float32) vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lut.spec import OpSpec

from .conv import pack_bits, runs
from .emit import Nest
from .isa import LANES, Isa
from .requantize import Epilogue
from .signature import pointers
from .stage import plan_stage, stage_strip

LOW = [0, 1, 2, 3, 8, 9, 10, 11]
"""Channels of vpunpcklwd's pairs; those of vpunpckhwd are 4 further."""


def _unit(spec: OpSpec, isa: str) -> int:
    """Taps that one load of weights covers."""
    return 2 if isa == "avx2" and spec.w_bits == 8 else 1 if spec.w_bits >= 8 else 8 // spec.w_bits


def pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    """(c, 1, kh, kw) -> flat [block][tap / unit][channel][tap % unit]: AVX2's pairs, or sub-byte fields of one byte."""
    unit = _unit(spec, isa)
    w = weights.reshape(spec.c_out, -1)
    w = np.pad(w, ((0, -spec.c_out % LANES), (0, -w.shape[1] % unit)))
    w = w.reshape(-1, LANES, w.shape[1] // unit, unit).transpose(0, 2, 1, 3)
    if isa == "avx2" and spec.w_bits == 8:
        w = w[:, :, [*LOW, *(c + 4 for c in LOW)]]
    return pack_bits(w, spec.w_bits, axis=3)


class _Block:
    """16 channels of a tile of pixels: the accumulators and the products of one kernel."""

    def __init__(self, nest: Nest, spec: OpSpec, isa: Isa, weights: Any, stage: Any) -> None:
        self.nest, self.spec, self.weights, self.stage = nest, spec, weights, stage
        self.taps = [(ky, kx) for ky in range(spec.kernel[0]) for kx in range(spec.kernel[1])]
        self.unit = _unit(spec, isa.name)
        self.units = -(-len(self.taps) // self.unit)
        self.pairs = isa.name == "avx2" and spec.w_bits == 8
        self.narrow = isa.name != "llvm" and spec.w_bits < 8

    def load(self, pixel: Any, tap: int) -> Any:
        ky, kx = self.taps[min(tap, len(self.taps) - 1)]  # beyond the last tap the weights are zero
        spec = self.spec
        inside = (ky * spec.dilation[0] * self.stage.width + kx * spec.dilation[1]) * spec.c_in
        return self.nest.load(self.stage.buffer, pixel + inside, LANES)

    def weight(self, block: Any, unit: int, step: int = 0) -> Any:
        """Weights of one unit: int8x32 pairs, or int8x16 / float32x16 of one tap."""
        nest, bits = self.nest, self.spec.w_bits
        size = LANES * (2 if self.pairs else 1)
        raw = nest.load(self.weights, (block * self.units + unit) * size, size)
        if bits >= 8:
            return raw
        mask, offset = nest.const((1 << bits) - 1, "uint8", LANES), nest.const(1 << (bits - 1), "int8", LANES)
        code = (raw >> nest.const(step * bits, "uint8", LANES)) & mask
        return nest.view(code, f"int8x{LANES}") - offset

    def sums(self, block: Any, pixels: list[Any], start: Any) -> list[Any]:
        """One vector of LANES sums per pixel, added to `start`."""
        if self.pairs:
            return self._sums_of_pairs(block, pixels)
        if self.narrow:
            return self._sums_in_int16(block, pixels)
        nest, number = self.nest, "float32" if self.spec.is_float else "int32"
        wide, totals = f"{number}x{LANES}", [start] * len(pixels)
        for tap in range(len(self.taps)):
            weight = nest.bind(self.weight(block, tap // self.unit, tap % self.unit).astype(wide))
            totals = [nest.bind(t + self.load(p, tap).astype(wide) * weight) for t, p in zip(totals, pixels)]
        return totals

    def _sums_of_pairs(self, block: Any, pixels: list[Any]) -> list[Any]:
        nest, high = self.nest, [c + 4 for c in LOW]
        totals = [[nest.const(0, "int32", 8)] * 2 for _ in pixels]
        for unit in range(self.units):
            packed = nest.bind(self.weight(block, unit).astype("int16x32"))
            weights = [nest.bind(nest.shuffle([packed], list(range(16 * h, 16 * h + 16)))) for h in range(2)]
            for total, pixel in zip(totals, pixels):
                both = [nest.bind(self.load(pixel, 2 * unit + i)) for i in range(2)]
                for half, order in enumerate((LOW, high)):
                    pair = nest.shuffle(both, [c + LANES * i for c in order for i in range(2)])
                    product = nest.intrinsic("llvm.x86.avx2.pmadd.wd", "int32x8", pair, weights[half])
                    total[half] = nest.bind(total[half] + product)
        natural = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
        return [nest.bind(nest.shuffle(total, natural)) for total in totals]

    def _sums_in_int16(self, block: Any, pixels: list[Any]) -> list[Any]:
        nest, totals = self.nest, [self.nest.const(0, "int32", LANES)] * len(pixels)
        limit = 32767 // (255 * ((1 << (self.spec.w_bits - 1)) - 1))
        for start, number, size in runs(len(self.taps), limit):
            for first in range(start, start + number * size, size):
                partial: list[Any] = [None] * len(pixels)
                for tap in range(first, first + size):
                    weight = nest.bind(self.weight(block, tap // self.unit, tap % self.unit).astype("int16x16"))
                    for p, pixel in enumerate(pixels):
                        product = self.load(pixel, tap).astype("int16x16") * weight
                        partial[p] = nest.bind(product if partial[p] is None else partial[p] + product)
                totals = [nest.bind(t + part.astype("int32x16")) for t, part in zip(totals, partial)]
        return totals


def depthwise(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """Emit a depthwise conv2d or conv2d_add; returns the workspace in bytes."""
    dtype = "float32" if spec.is_float else "int16" if isa.name == "avx2" else "uint8"
    bound = pointers(nest, spec, "float32" if spec.is_float else "int8" if spec.w_bits == 8 else "uint8", dtype)
    residual = bound["in2"] if spec.kind == "conv2d_add" else None
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name != "llvm", residual)
    stage = plan_stage(spec, bound["in"], bound["workspace"], dtype, isa.stage_bytes, 1)
    body = _Block(nest, spec, isa, bound["weights"], stage)
    rows, cols = spec.out_size()
    blocks = -(-spec.c_out // LANES)
    with nest.loop(stage.strips) as strip:
        top = strip * stage.rows
        stage_strip(nest, spec, stage, bound["in"], top, epilogue.scalar.get("z_in"))
        height = stage.rows if rows % stage.rows == 0 else nest.bind(nest.x.min(stage.rows, rows - top))
        with nest.loop(blocks) as block:
            is_last = True if blocks == 1 else (block == blocks - 1)
            bias, mult = (nest.load(bound[name], block * LANES, LANES) for name in ("bias", "mult"))
            with nest.loop(height) as row:
                for start, number, size in runs(cols, 4 if isa.blocks > 4 else 2):
                    with nest.loop(number) as t:
                        x = start + t * size
                        pixels = [stage.start(spec, top, row, x + dx) + block * LANES for dx in range(size)]
                        for dx, total in enumerate(body.sums(block, pixels, bias if spec.is_float else nest.const(0, "int32", LANES))):
                            place = ((top + row) * cols + x + dx) * spec.c_out + block * LANES
                            epilogue.block(total, bias, mult, place, spec.c_out - (blocks - 1) * LANES, is_last)
    return stage.bytes
