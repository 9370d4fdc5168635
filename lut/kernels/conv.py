"""Convolution and linear, NHWC, weights packed in blocks of 16 outputs.

    for strip of rows:  stage the padded input rows (only where padding or the input's width asks for it)
      for group, blocks of outputs:  unpack 4- and 2-bit weights where that pays;  for tile of pixels: see tile.py

A kernel row's taps are contiguous in NHWC when dilation is 1, so they are reduced as one run of kw * c inputs: a
first layer of 3 channels wastes nothing. Runs are rounded up to whole steps with zero weights; what is read
beyond the run is multiplied by zero. Several threads share the rows, or where these are few the blocks or groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lut.errors import LutError
from lut.spec import OpSpec

from .emit import Nest
from .intrinsics import Dot, dot, expand, expanded
from .isa import LANES, Isa
from .parts import UNEVEN, unevenness
from .requantize import Epilogue
from .schedule import Schedule, default, shared
from .signature import SLACK, in_dtype, pointers
from .stage import Rows, Staged, in_place, largest_share, plan_stage, stage_strip
from .tile import Layout, Tile, runs

UNPACK_PIXELS, UNPACK_CHANNELS = 16, 16
"""Where the schedule does not say, packed weights are unpacked once from so many output pixels per strip on; on AVX-512
in registers from so many input channels of a group on (86 to 103 % of the time on Zen 5; below, up to 159 %)."""


def canonical(spec: OpSpec, row_bytes: int, threads: int = 1) -> OpSpec:
    """The same arithmetic in rows of a good length: a pointwise convolution does not see where its rows end.

    Rows become as long as `row_bytes` of input (two bytes an element) allow, so that a strip can be one of them, and
    as leaves several threads with even shares of them.
    """
    if spec.kernel != (1, 1) or spec.stride != (1, 1) or any(spec.pad):
        return spec
    pixels = spec.height * spec.width
    widths = [w for w in range(1, pixels + 1) if pixels % w == 0 and (w * spec.c_in * 2 <= row_bytes or w == 1)]
    width = max((w for w in widths if unevenness(pixels // w, threads) <= UNEVEN), default=widths[-1])
    return replace(spec, height=pixels // width, width=width, dilation=(1, 1))


def pack_weights(spec: OpSpec, weights: np.ndarray, isa: str) -> np.ndarray:
    """(c_out, c_in / groups, kh, kw) -> flat blocks [group, block][tap][vector][output][input], sub-byte packed."""
    how = dot(isa, spec.w_bits, spec.in_bits[0])
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


def _stage(spec: OpSpec, isa: Isa, how: Dot, rows: int, tall: int, workspace: Any, source: Any) -> Staged:
    """Where a part of at most `rows` rows reads its input."""
    if any(spec.pad) or how.staged != in_dtype(spec):
        return plan_stage(spec, workspace, how.staged, spec.c_in, isa.stage_bytes, rows, tall)
    return in_place(spec, source, rows)


def _unpacks_once(spec: OpSpec, isa: Isa, schedule: Schedule, stage: Staged) -> bool:
    """Whether packed weights are unpacked once per strip, not in every tile."""
    if schedule.unpack:
        return schedule.unpack == "s"
    if isa.name == "avx512vnni" and spec.c_in // spec.groups >= UNPACK_CHANNELS:
        return False
    return stage.rows * spec.out_size()[1] >= UNPACK_PIXELS


def unpacked_elsewhere(spec: OpSpec, isa: Isa, schedule: Schedule, threads: int = 1) -> tuple[Schedule, ...]:
    """The schedule with packed weights unpacked in the other place; none where they are not packed. spec: canonical."""
    how = dot(isa.name, spec.w_bits, spec.in_bits[0])
    if not how.unpackable:
        return ()
    rows, cols = spec.out_size()
    (tall, _), (axis, _) = schedule.tile(rows, cols), shared(spec, isa, schedule, threads)
    most = largest_share(rows, tall, threads) if axis == "rows" else rows
    once = _unpacks_once(spec, isa, schedule, _stage(spec, isa, how, most, tall, None, None))
    return (replace(schedule, unpack="r" if once else "s"),)


def conv(nest: Nest, spec: OpSpec, isa: Isa, schedule: Schedule | None = None) -> int:
    """Emit conv2d, conv2d_add or linear over the kernel's eight pointers; returns a part's workspace in bytes.

    schedule: None for the default. Raises LutError for blocks that do not divide the outputs'.
    """
    spec = canonical(spec, isa.stage_bytes, nest.threads)
    schedule = schedule or default(spec, isa, nest.threads)
    how = dot(isa.name, spec.w_bits, spec.in_bits[0])
    form = Layout.of(spec, how)
    rows, cols = spec.out_size()
    (tall, wide), deep = schedule.tile(rows, cols), schedule.blocks
    if form.blocks % deep:
        raise LutError(f"variant: {schedule}: {deep} does not divide the {form.blocks} blocks of outputs")
    if schedule.unpack and not how.unpackable:
        raise LutError(f"variant: {schedule}: {spec.w_bits}-bit weights are not unpacked on {isa.name}")
    bound = pointers(nest, spec, how.weight_dtype, how.staged)
    residual = bound["in2"] if spec.kind == "conv2d_add" else None
    epilogue = Epilogue(nest, spec, bound["params"], bound["out"], isa.name, residual)
    axis, _ = shared(spec, isa, schedule, nest.threads)
    own = Rows.share(nest, rows, tall) if axis == "rows" else Rows(0, rows, rows)
    each_group, each_block = (nest.share if axis == name else nest.loop for name in ("groups", "blocks"))
    stage = _stage(spec, isa, how, own.most, tall, bound["workspace"], bound["in"])
    unpack = how.unpackable and _unpacks_once(spec, isa, schedule, stage)
    block_size, vectors = form.taps * form.vectors * how.vector, deep * form.taps * form.vectors
    unpacked = -(-stage.bytes // 64) * 64  # where unpacked weights are in the workspace
    inner, shape = (expanded(how), replace(form, vectors=form.vectors * how.packed)) if unpack else (how, form)
    tile = Tile(nest, spec, inner, shape, stage, bound["bias"], bound["mult"], epilogue)
    with stage.strips(nest, own) as (top, height):
        stage_strip(nest, spec, stage, bound["in"], top, epilogue.scalar.get("z_in"))
        with each_group(form.groups) as group, each_block(form.blocks // deep) as i:
            block = i * deep
            first = group * form.blocks + block
            last = True if form.blocks == deep else (block == form.blocks - deep)
            weights, starts = bound["weights"], [(first + d) * block_size for d in range(deep)]
            if unpack:
                with nest.loop(vectors) as v:
                    to = unpacked + v * (how.vector * how.packed)
                    expand(nest, how, weights, starts[0] + v * how.vector, bound["workspace"], to)
                weights = bound["workspace"]
                starts = [unpacked + d * block_size * how.packed for d in range(deep)]
            with nest.loop(height if tall == 1 else height // tall) as j:
                for start, number, size in runs(cols, wide):
                    with nest.loop(number) as t:
                        x = start + t * size
                        spots = [(j * tall + dy, x + dx) for dy in range(tall) for dx in range(size)]
                        pixels = [stage.start(spec, top, *spot) + group * (spec.c_in // spec.groups) for spot in spots]
                        channel = group * form.outputs + block * LANES
                        places = [((top + y) * cols + x_) * spec.c_out + channel for y, x_ in spots]
                        tile.emit(weights, starts, first, pixels, places, last)
    return unpacked + vectors * how.vector * how.packed + SLACK if unpack else stage.bytes
