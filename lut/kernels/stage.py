"""Staging: a strip of the input is copied, padded with its zero point, and widened or made signed as the kernel asks.

Strips keep the staged rows in the first-level cache and the workspace small. Where there is no padding and no
conversion, kernels read the input in place. A code x staged as int8 is x - 128: its top bit is flipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lut.spec import OpSpec

from .emit import Nest, copy, fill
from .intrinsics import FLIP
from .signature import SLACK, in_dtype


@dataclass(frozen=True)
class Rows:
    """Output rows of a part: `count` from `first` on, ints where they are known; `most`: of the largest part."""

    first: Any
    count: Any
    most: int

    @staticmethod
    def share(nest: Nest, rows: int, tall: int = 1) -> Rows:
        """This part's share of `rows`, in units of `tall`."""
        first, count = nest.bounds(rows // tall)
        return Rows(first * tall, count * tall, largest_share(rows, tall, nest.threads))


def largest_share(rows: int, tall: int, threads: int) -> int:
    """Rows of the largest of `threads` parts, in units of `tall`."""
    return -(-(rows // tall) // threads) * tall


@dataclass(frozen=True)
class Staged:
    """Where a kernel reads its input: `buffer` of rows of `width` pixels of `channels`; `rows`: outputs per strip."""

    buffer: Any
    dtype: str
    width: int
    channels: int
    rows: int
    copied: bool
    bytes: int

    def offset(self, row: Any, col: Any) -> Any:
        """Elements from a pixel to the one `row` rows below and `col` columns to the right."""
        return (row * self.width + col) * self.channels

    def start(self, spec: OpSpec, top: Any, row: Any, col: Any) -> Any:
        """Element at which the window of output pixel (top + row, col) starts."""
        line = row if self.copied else top + row
        return self.offset(line * spec.stride[0], col * spec.stride[1])

    @contextmanager
    def strips(self, nest: Nest, rows: Rows) -> Iterator[tuple[Any, Any]]:
        """(first output row, rows) of every strip."""
        known = isinstance(rows.count, int)
        with nest.loop((rows.count + self.rows - 1) // self.rows) as strip:
            done = strip * self.rows
            whole = known and rows.count % self.rows == 0
            height = self.rows if whole else nest.bind(nest.x.min(self.rows, rows.count - done))
            yield rows.first + done, height


def lines(spec: OpSpec, rows: int) -> int:
    """Input rows that `rows` output rows need."""
    return (rows - 1) * spec.stride[0] + spec.dilation[0] * (spec.kernel[0] - 1) + 1


def in_place(spec: OpSpec, source: Any, rows: int) -> Staged:
    """The input where it is, all of a part's `rows` in one strip."""
    return Staged(source, in_dtype(spec), spec.width, spec.c_in, rows, False, 0)


def plan_stage(
    spec: OpSpec,
    workspace: Any,
    dtype: str,
    channels: int,
    budget: int,
    rows: int,
    tall: int = 1,
    width: int | None = None,
) -> Staged:
    """Strips of as many of a part's `rows` (a multiple of `tall`) as stay within `budget` bytes, evened out.

    channels: all of the input's, or a block of them. width: what a staged row holds of them, default its padded pixels.
    """
    width = spec.pad[1] + spec.width + spec.pad[3] if width is None else width
    line = width * channels * np.dtype(dtype).itemsize
    fitting = [r for r in range(tall, rows + 1, tall) if lines(spec, r) * line <= budget]
    strips = -(-rows // max(fitting, default=tall))
    per_strip = -(-rows // strips // tall) * tall
    return Staged(workspace, dtype, width, channels, per_strip, True, lines(spec, per_strip) * line + SLACK)


def stage_strip(nest: Nest, spec: OpSpec, stage: Staged, source: Any, top: Any, zero: Any, channel: Any = 0) -> None:
    """Fill the stage with the input rows of output rows top .. top + stage.rows - 1, from `channel` on.

    zero: the input's zero point, None for float32.
    """
    if not stage.copied:
        return
    x, c = nest.x, stage.channels
    offset = FLIP if stage.dtype == "int8" else 0
    value = nest.bind(x.const(0, "float32") if zero is None else (zero - offset).astype(stage.dtype))
    above, left, _, right = spec.pad

    def converted(codes: Any, lanes: int) -> Any:
        if offset:
            codes = codes ^ nest.const(offset, "uint8", lanes)
        return codes.astype(f"{stage.dtype}x{lanes}" if lanes > 1 else stage.dtype)

    convert = None if stage.dtype == in_dtype(spec) else converted
    with nest.loop(lines(spec, stage.rows)) as i:
        y, line = top * spec.stride[0] + i - above, stage.offset(i, 0)
        inside = x.all(y >= 0, y < spec.height)
        with nest.when(inside):
            fill(nest, stage.buffer, line, left * c, value)
            if c == spec.c_in:
                origin = (source, y * spec.width * c)
                copy(nest, (stage.buffer, line + left * c), origin, spec.width * c, convert)
            else:
                with nest.loop(spec.width) as col:
                    origin = (source, (y * spec.width + col) * spec.c_in + channel)
                    copy(nest, (stage.buffer, line + (left + col) * c), origin, c, convert)
            fill(nest, stage.buffer, line + (left + spec.width) * c, right * c, value)
        with nest.when(x.Not(inside)):
            fill(nest, stage.buffer, line, stage.width * c, value)
