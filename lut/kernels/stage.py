"""Staging: a strip of the input is copied, padded with its zero point and widened if the kernel asks for that.

Strips keep the staged rows in the first-level cache and the workspace small. Where there is no padding and no
widening, kernels read the input in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lut.spec import OpSpec

from .emit import Nest, copy, fill
from .signature import SLACK


@dataclass(frozen=True)
class Staged:
    """Where a kernel reads its input: `buffer` of rows of `width` pixels; `rows` output rows per strip."""

    buffer: Any
    dtype: str
    width: int
    rows: int
    strips: int
    copied: bool
    bytes: int

    def start(self, spec: OpSpec, top: Any, row: Any, col: Any) -> Any:
        """Element at which the window of output pixel (top + row, col) starts."""
        line = row if self.copied else top + row
        return (line * spec.stride[0] * self.width + col * spec.stride[1]) * spec.c_in


def _lines(spec: OpSpec, rows: int) -> int:
    """Input rows that `rows` output rows need."""
    return (rows - 1) * spec.stride[0] + spec.dilation[0] * (spec.kernel[0] - 1) + 1


def plan_stage(spec: OpSpec, source: Any, workspace: Any, dtype: str, budget: int, tall: int) -> Staged:
    """Strips of as many output rows (a multiple of `tall`) as stay within `budget` bytes, evened out."""
    rows, _ = spec.out_size()
    given = "float32" if spec.is_float else "uint8"
    if not any(spec.pad) and dtype == given:
        return Staged(source, dtype, spec.width, rows, 1, False, 0)
    width = spec.pad[1] + spec.width + spec.pad[3]
    line = width * spec.c_in * np.dtype(dtype).itemsize
    fitting = [r for r in range(tall, rows + 1, tall) if _lines(spec, r) * line <= budget]
    strips = -(-rows // max(fitting, default=tall))
    per_strip = -(-rows // strips // tall) * tall
    strips = -(-rows // per_strip)
    return Staged(workspace, dtype, width, per_strip, strips, True, _lines(spec, per_strip) * line + SLACK)


def stage_strip(nest: Nest, spec: OpSpec, stage: Staged, source: Any, top: Any, zero: Any) -> None:
    """Fill the stage with the input rows of output rows top .. top + stage.rows - 1; `zero`: None for float."""
    if not stage.copied:
        return
    x = nest.x
    value = nest.bind(x.const(0, "float32") if zero is None else zero.astype(stage.dtype))
    above, left, _, right = spec.pad
    line, row = stage.width * spec.c_in, spec.width * spec.c_in
    convert = "" if zero is None or stage.dtype == "uint8" else stage.dtype
    with nest.loop(_lines(spec, stage.rows)) as i:
        y = top * spec.stride[0] + i - above
        inside = x.all(y >= 0, y < spec.height)
        with nest.when(inside):
            fill(nest, stage.buffer, i * line, left * spec.c_in, value)
            copy(nest, (stage.buffer, i * line + left * spec.c_in), (source, y * row), row, convert)
            fill(nest, stage.buffer, i * line + left * spec.c_in + row, right * spec.c_in, value)
        with nest.when(x.Not(inside)):
            fill(nest, stage.buffer, i * line, line, value)
