"""The one C signature that every kernel has, so that callers need no table of prototypes.

    int32_t kernel(const void *in, const void *in2, void *out, const void *weights, const void *bias,
                   const void *mult, const void *params, void *workspace, int32_t part);

Unused pointers are NULL. Every buffer starts at a multiple of 64 bytes and is readable SLACK bytes past its end. A
kernel for T threads is called with every part, 0 .. T - 1, each with a workspace of its own (`Kernel.stride`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lut.spec import FLOAT_BITS, OpSpec

from .emit import Nest

NAMES = ("in", "in2", "out", "weights", "bias", "mult", "params", "workspace")
SLACK = 64


@dataclass(frozen=True)
class Arg:
    """One pointer: its place is that of `name` in NAMES; `count` elements of `dtype`, 0 where it is NULL."""

    name: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize


def in_dtype(spec: OpSpec) -> str:
    return "float32" if spec.in_bits[0] == FLOAT_BITS and spec.kind != "input" else "uint8"


def by_channel(spec: OpSpec) -> bool:
    """Whether a product's second input is one value per channel, as in squeeze-and-excite."""
    return spec.attrs == "by=channel"


def out_dtype(spec: OpSpec) -> str:
    return {32: "float32", 16: "int16"}.get(spec.out_bits, "uint8")


def pointers(nest: Nest, spec: OpSpec, weights: str, workspace: str = "uint8") -> dict[str, Any]:
    """Declare the eight pointers in order, as flat buffers; weights and workspace have the dtypes given."""
    number = "float32" if spec.is_float else "int32"
    given = in_dtype(spec)
    dtypes = (given, given, out_dtype(spec), weights, number, "int32", number, workspace)
    return {name: nest.argument(name, dtype) for name, dtype in zip(NAMES, dtypes)}
