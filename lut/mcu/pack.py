"""A lowered operator's constants in the order in which a microcontroller's kernel reads them (kernels/*.h):

conv       for every two output channels: word 0 of one, word 0 of the other, word 1 of one ...
           8 bits: four weights, first in the lowest byte
           below: code w + 2^(b-1); elements (0, 2), (1, 3), (4, 6), (5, 7) .. of a word are pairs 0, 1, 2, 3 ..;
           pair j is in bits j b and 16 + j b, which one AND with a shift unpacks for SMLAD (order `halves`);
           or element e is in the bits from 8 (e mod 4) + b (e div 4): so it unpacks four bytes (order `bytes`)
           behind these words both biases and both multipliers, int32
           where patches are spread from words of n < 8-bit codes (shapes.spread_bits), codes j and j + 16 / n of a word
           are its pair j, and weights are put where their codes are
pixel      the same for every four output channels
depthwise  for every four channels a word per tap, a byte per channel; below 8 bits byte i of words 0, 1 .. of every
           8 / b shares byte i of one; apart from them, for every four channels biases, then multipliers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lut.kernels.pack import Constants, parameters
from lut.kernels.requantize import PARAMS
from lut.spec import OpSpec

from .shapes import GROUPED, layout, spread_bits, words

Order = Literal["halves", "bytes"]


def _spread_order(spec: OpSpec) -> np.ndarray:
    """Which element of a patch is at each place, where pairs are places (0, 2), (1, 3), (4, 6), (5, 7) .."""
    codes = 32 // spread_bits(spec)
    pairs = np.arange(codes // 2)
    place = 4 * (pairs // 2) + pairs % 2
    order = np.empty(codes, np.int64)
    order[place], order[place + 2] = pairs, pairs + codes // 2
    return (np.arange(0, words(spec).patch, codes)[:, None] + order).reshape(-1)


def _pack_conv(spec: OpSpec, weights: np.ndarray, order: Order) -> np.ndarray:
    """uint32 (groups of channels, words, channels of a group). weights: int8 (c_out, c_in / groups, kh, kw)."""
    form, together = words(spec), GROUPED[layout(spec)]
    flat = weights.transpose(0, 2, 3, 1).reshape(spec.c_out, -1)
    if spread_bits(spec) < 8:
        flat = flat[:, _spread_order(spec)]
    flat = np.pad(flat, ((0, -spec.c_out % together), (0, form.count * form.each - form.patch)))
    cut = flat.reshape(-1, together, form.count, form.each).transpose(0, 2, 1, 3)
    if spec.w_bits == 8:
        return np.ascontiguousarray(cut).view(np.uint32)[..., 0]
    codes = (cut.astype(np.int32) + (1 << (spec.w_bits - 1))).astype(np.uint32)
    packed = np.zeros(cut.shape[:-1], np.uint32)
    for element in range(form.each):
        four, place = divmod(element, 4)
        pair, half = 2 * four + place % 2, place // 2
        at = 16 * half + pair * spec.w_bits if order == "halves" else 8 * place + four * spec.w_bits
        packed |= codes[..., element] << np.uint32(at)
    return packed


def _pack_depthwise(spec: OpSpec, weights: np.ndarray) -> np.ndarray:
    """uint8, flat."""
    channels = np.pad(weights.reshape(spec.c_out, -1), ((0, -spec.c_out % 4), (0, 0)))
    quads = channels.reshape(-1, 4, channels.shape[1]).transpose(0, 2, 1).reshape(-1, 4)
    if spec.w_bits == 8:
        return np.ascontiguousarray(quads).view(np.uint8).reshape(-1)
    share = 8 // spec.w_bits
    shared = np.pad(quads, ((0, -len(quads) % share), (0, 0))).reshape(-1, share, 4)
    codes = (shared.astype(np.int16) + (1 << (spec.w_bits - 1))).astype(np.uint8)
    return np.bitwise_or.reduce([codes[:, k] << np.uint8(k * spec.w_bits) for k in range(share)]).reshape(-1)


def pack_constants(
    op: Constants, in_zeros: Sequence[int], out_zero: int, order: Order = "halves"
) -> dict[str, np.ndarray]:
    """Flat arrays by the argument's name (`weights`, `bias`, `params`); only those that the kernel reads.

    in_zeros: the zero point of each input, out_zero: the output's. order: of the board (image.Board).
    """
    spec, arrays = op.spec, dict[str, np.ndarray]()
    weighted = layout(spec) != "none"
    if weighted:
        assert op.weights is not None and op.bias is not None and op.mult is not None
        scale = [np.pad(values.astype(np.int32), (0, -spec.c_out % 4)) for values in (op.bias, op.mult)]
        if layout(spec) == "depthwise":
            fours = np.hstack([values.reshape(-1, 4) for values in scale])
            arrays = {"weights": _pack_depthwise(spec, op.weights), "bias": fours.reshape(-1)}
        else:
            packed = _pack_conv(spec, op.weights, order)
            whole = packed.shape[0] * packed.shape[2]
            groups = [values.view(np.uint32)[:whole].reshape(len(packed), -1) for values in scale]
            arrays["weights"] = np.hstack([packed.reshape(len(packed), -1), *groups])
    elif op.table is not None:
        table = np.ascontiguousarray(op.table).reshape(-1)
        arrays["weights"] = np.pad(table, (0, -len(table) % 256))
    elif op.gather is not None:
        arrays["weights"] = op.gather.astype(np.int32).reshape(-1)
    arrays["params"] = parameters(op, weighted, in_zeros, out_zero)
    if spec.kind in ("concat", "split"):
        arrays["params"][PARAMS.index("shift")] = getattr(op, "offset", 0) % (8 // min(spec.in_bits[0], 8))
    return arrays
