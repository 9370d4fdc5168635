"""How sixteen output channels accumulate a product with some inputs: one `Dot` per instruction set and weight width.

A step multiplies `reduce` consecutive inputs, broadcast, with LANES x reduce weights. Sub-byte weights hold `packed`
steps per byte, as w + 2^(bits-1), and are unpacked in registers.

- avx512vnni, avxvnni: vpdpbusd, 4 inputs a step, on 512 or 256 bits.
- avx2, else: inputs staged as int16, vpmaddwd, 2 inputs a step. (vpmaddubsw would saturate: 2 * 255 * 127 > 32767.)
- avx2, weights or inputs of at most 4 bits: vpmaddubsw, 4 inputs a step, summed in int16 over at most `limit` steps
  (2 max(x) max|w| limit <= 32767), then widened by vpmaddwd with ones: about half of the instructions.
- neon: SMULL, SMLAL into int16, 2 inputs a step, then SADALP. Both operands are signed, so inputs are staged as x - 128
  (|x - 128| <= 128: limit = 32767 / (128 max|w|), 2 steps with 8 bits) and the packed bias holds 128 sum(w).
- neon-dot: SDOT, 4 inputs a step, staged likewise.
- llvm: plain multiply and add in int32; float32: the same in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .emit import Nest
from .isa import LANES

NARROW = 4
"""Bits of weights or inputs up to which vpmaddubsw does not saturate and several of its sums fit int16."""
FLIP = 128
"""What staging takes off unsigned codes for instructions that multiply signed bytes."""


@dataclass(frozen=True)
class Dot:
    """reduce: inputs per step; packed: steps per weight vector; staged: dtype in which inputs are read.

    accumulator: dtype; parts: vectors that hold LANES sums. weights(nest, buffer, start) -> [step][part];
    inputs(nest, buffer, start) -> operand shared by all outputs; multiply_add(nest, sum, inputs, weights) -> sum.
    limit: steps after which widen(nest, sum, partial) must move the int16 partial sums to int32, 0 for never.
    """

    reduce: int
    packed: int
    bits: int
    staged: str
    accumulator: str
    parts: int
    inputs: Callable[[Nest, Any, Any], Any]
    weights: Callable[[Nest, Any, Any], list[list[Any]]]
    multiply_add: Callable[[Nest, Any, Any, Any], Any]
    limit: int = 0
    widen: Callable[[Nest, Any, Any], Any] | None = None

    @property
    def lanes(self) -> int:
        return LANES // self.parts

    @property
    def weight_dtype(self) -> str:
        return "float32" if self.bits == 32 else "int8" if self.bits == 8 else "uint8"

    @property
    def unpackable(self) -> bool:
        """Whether packed weights are multiplied as bytes, so that they can be unpacked beforehand (`expand`)."""
        return self.packed > 1 and self.reduce > 1

    @property
    def offset(self) -> int:
        """What is taken off the codes when they are staged."""
        return FLIP if self.staged == "int8" else 0

    @property
    def brief(self) -> bool:
        """Whether partial sums are widened so often that registers must hold them and the sums."""
        return 0 < self.limit < 4

    @property
    def vector(self) -> int:
        """Stored elements per weight vector."""
        return LANES * self.reduce


def _unpacked(bits: int, reduce: int, parts: int) -> Callable[[Nest, Any, Any], list[list[Any]]]:
    """Loader of int8 weights: [step][part], each LANES / parts * reduce lanes."""
    lanes = LANES // parts * reduce

    def load(nest: Nest, buffer: Any, start: Any) -> list[list[Any]]:
        raw = [nest.bind(nest.load(buffer, start + part * lanes, lanes)) for part in range(parts)]
        if bits == 8:
            return [raw]
        mask, offset = nest.const((1 << bits) - 1, "uint8", lanes), nest.const(1 << (bits - 1), "int8", lanes)

        def field(value: Any, step: int) -> Any:
            code = (value >> nest.const(step * bits, "uint8", lanes)) & mask
            return nest.bind(nest.view(code, f"int8x{lanes}") - offset)

        return [[field(value, step) for value in raw] for step in range(8 // bits)]

    return load


def _broadcast(count: int, dtype: str, lanes: int) -> Callable[[Nest, Any, Any], Any]:
    """Loader of `count` inputs, repeated as one word to a vector of `lanes` elements."""
    word_dtype = f"int{count * np.dtype(dtype).itemsize * 8}"

    def load(nest: Nest, buffer: Any, start: Any) -> Any:
        word = nest.view(nest.load(buffer, start, count), word_dtype)
        return nest.bind(nest.view(nest.splat(word, lanes // count), f"{dtype}x{lanes}"))

    return load


def _maddwd() -> Dot:
    narrow = _unpacked(8, 2, 2)

    def weights(nest: Nest, buffer: Any, start: Any) -> list[list[Any]]:
        return [[nest.bind(part.astype("int16x16")) for part in narrow(nest, buffer, start)[0]]]

    def multiply_add(nest: Nest, total: Any, inputs: Any, weights: Any) -> Any:
        return total + nest.intrinsic("llvm.x86.avx2.pmadd.wd", "int32x8", inputs, weights)

    return Dot(2, 1, 8, "int16", "int32", 2, _broadcast(2, "int16", 16), weights, multiply_add)


def _maddubs(bits: int, in_bits: int) -> Dot:
    def multiply_add(nest: Nest, total: Any, inputs: Any, weights: Any) -> Any:
        return total + nest.intrinsic("llvm.x86.avx2.pmadd.ub.sw", "int16x16", inputs, weights)

    def widen(nest: Nest, total: Any, partial: Any) -> Any:
        return total + nest.intrinsic("llvm.x86.avx2.pmadd.wd", "int32x8", partial, nest.const(1, "int16", 16))

    limit = 32767 // (2 * ((1 << in_bits) - 1) * ((1 << (bits - 1)) - 1))
    load = _unpacked(bits, 4, 2)
    return Dot(4, 8 // bits, bits, "uint8", "int32", 2, _broadcast(4, "int8", 32), load, multiply_add, limit, widen)


def expand(nest: Nest, how: Dot, source: Any, start: Any, target: Any, to: Any) -> None:
    """Unpack one vector of weights into `packed` vectors of one byte per weight, which `expanded(how)` reads."""
    lanes = how.vector // how.parts
    for step, parts in enumerate(how.weights(nest, source, start)):
        for part, value in enumerate(parts):
            at = to + step * how.vector + part * lanes
            nest.store(target, at, nest.view(value, f"{target.dtype}x{lanes}"), lanes)


def expanded(how: Dot) -> Dot:
    """The same products with weights that `expand` has unpacked."""
    lanes = how.vector // how.parts

    def weights(nest: Nest, buffer: Any, start: Any) -> list[list[Any]]:
        parts = [nest.load(buffer, start + part * lanes, lanes) for part in range(how.parts)]
        return [[nest.bind(nest.view(part, f"int8x{lanes}")) for part in parts]]

    return replace(how, packed=1, weights=weights)


def vpdpbusd(nest: Nest, total: Any, inputs: Any, weights: Any, lanes: int) -> Any:
    """total (int32, `lanes`) + the sums of four products each, unsigned bytes of inputs by signed ones of weights."""
    return nest.intrinsic(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", f"int32x{lanes}", total, inputs, weights)


def _vnni(bits: int, parts: int) -> Dot:
    lanes = LANES // parts

    def multiply_add(nest: Nest, total: Any, inputs: Any, weights: Any) -> Any:
        return vpdpbusd(nest, total, inputs, weights, lanes)

    load = _unpacked(bits, 4, parts)
    return Dot(4, 8 // bits, bits, "uint8", "int32", parts, _broadcast(4, "int8", 4 * lanes), load, multiply_add)


def _smlal(bits: int) -> Dot:
    def multiply_add(nest: Nest, total: Any, inputs: Any, weights: Any) -> Any:
        return total + nest.intrinsic("llvm.aarch64.neon.smull", "int16x8", inputs, weights)

    def widen(nest: Nest, total: Any, partial: Any) -> Any:
        return total + nest.intrinsic("llvm.aarch64.neon.saddlp", "int32x4", partial)

    limit = 32767 // (FLIP * ((1 << (bits - 1)) - 1))
    load = _unpacked(bits, 2, 4)
    return Dot(2, 8 // bits, bits, "int8", "int32", 4, _broadcast(2, "int8", 8), load, multiply_add, limit, widen)


def _sdot(bits: int) -> Dot:
    def multiply_add(nest: Nest, total: Any, inputs: Any, weights: Any) -> Any:
        return nest.intrinsic("llvm.aarch64.neon.sdot", "int32x4", total, inputs, weights)

    load = _unpacked(bits, 4, 4)
    return Dot(4, 8 // bits, bits, "int8", "int32", 4, _broadcast(4, "int8", 16), load, multiply_add)


def _plain(bits: int) -> Dot:
    narrow = _unpacked(bits, 1, 1)

    def weights(nest: Nest, buffer: Any, start: Any) -> list[list[Any]]:
        return [[nest.bind(part.astype("int32x16")) for part in step] for step in narrow(nest, buffer, start)]

    def inputs(nest: Nest, buffer: Any, start: Any) -> Any:
        return nest.bind(nest.splat(nest.load(buffer, start).astype("int32"), LANES))

    return Dot(1, 8 // bits, bits, "uint8", "int32", 1, inputs, weights, lambda nest, total, a, w: total + a * w)


def _float() -> Dot:
    def weights(nest: Nest, buffer: Any, start: Any) -> list[list[Any]]:
        return [[nest.bind(nest.load(buffer, start, LANES))]]

    def inputs(nest: Nest, buffer: Any, start: Any) -> Any:
        return nest.bind(nest.splat(nest.load(buffer, start), LANES))

    return Dot(1, 1, 32, "float32", "float32", 1, inputs, weights, lambda nest, total, a, w: total + a * w)


def dot(isa: str, w_bits: int, in_bits: int) -> Dot:
    """The dot product of an instruction set for 2-, 4- or 8-bit weights, or 32 for float32, and codes of `in_bits`."""
    if w_bits == 32:
        return _float()
    return DOTS[isa](w_bits, in_bits)


DOTS: dict[str, Callable[[int, int], Dot]] = {
    "avx512vnni": lambda w_bits, in_bits: _vnni(w_bits, 1),
    "avxvnni": lambda w_bits, in_bits: _vnni(w_bits, 2),
    "avx2": lambda w_bits, in_bits: _maddwd() if min(w_bits, in_bits) > NARROW else _maddubs(w_bits, in_bits),
    "neon-dot": lambda w_bits, in_bits: _sdot(w_bits),
    "neon": lambda w_bits, in_bits: _smlal(w_bits),
    "llvm": lambda w_bits, in_bits: _plain(w_bits),
}
"""By instruction set."""
