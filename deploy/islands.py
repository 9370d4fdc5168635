"""Constants of the float islands among integers: what turns codes into float32 and back, and layer norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supernet.layers import ChannelNorm

from .program import Op, Tensor


def dequantize(op: Op, source: Tensor) -> Op:
    """The value of every code of the input."""
    values = (np.arange(2.0**source.bits) - source.zero) * source.scale
    return replace(op, table=values.astype(np.float32))


def quantize(op: Op, target: Tensor) -> Op:
    return replace(op, weights=np.array([1 / target.scale], np.float32))


def layer_norm(op: Op, norm: ChannelNorm) -> Op:
    gain, bias = (p.detach().float().cpu().numpy() for p in (norm.weight, norm.bias))
    return replace(op, weights=gain, bias=bias, eps=norm.eps)
