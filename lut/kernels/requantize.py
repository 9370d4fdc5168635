"""The fused epilogue: y = clamp(z_out + (((acc << l) + bias) m + ((r - z_r) << l_r) m_r + 2^31 >> 32)), stored narrow.

Where l is 0, as it is unless some multiplier is 1/2 or more, sums start from the bias and neither is added here.

On x86 the 64-bit products come from vpmuldq: an int32 vector (and a copy with its odd lanes moved down) is viewed as
int64 and sign-extended by (x << 32) >> 32, the one form that LLVM recognises in both operands wherever they were
computed. Products are summed, 2^31 + 2^32 z_out is added, and the high words of even and odd lanes are blended. On NEON
a lone product is SQRDMULH by m / 2 (m is even; (2 a (m / 2) + 2^31) >> 32, and |m / 2| <= 2^30 never saturates). Zero
points, clamp bounds and shifts are run-time values, so 8-, 4- and 2-bit activations share one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lut.spec import OpSpec

from .emit import Nest
from .isa import LANES, get_isa
from .signature import out_dtype

PARAMS = ("low", "high", "z_out", "shift", "z_in", "z_res", "res_mult", "res_shift", "mult")
"""Scalars of an integer kernel, int32, in the order of its `params` array."""
FLOAT_PARAMS = ("low", "high", "eps")
"""Those of a float32 kernel."""


def high_word(nest: Nest, factors: Sequence[tuple[Any, Any]], rounding: Any, lanes: int, fast: bool) -> Any:
    """(sum of value * mult + rounding) >> 32 over pairs of int32 vectors, in 64 bits; `fast`: the form for vpmuldq."""
    split = fast and lanes >= 8
    parts = 2 if split else 1
    wide = lanes // parts
    kind = f"int64x{wide}" if wide > 1 else "int64"
    word = nest.const(32, "int64", wide)
    sums = [nest.splat(rounding, wide)] * parts
    for pair in factors:
        if split:
            odd = [lane | 1 for lane in range(lanes)]
            moved = [pair, [nest.shuffle([value], odd) for value in pair]]
            halves = [[(nest.bind(nest.view(value, kind)) << word) >> word for value in half] for half in moved]
        else:
            halves = [[value.astype(kind) for value in pair]]
        sums = [nest.bind(total + value * mult) for total, (value, mult) in zip(sums, halves)]
    if not split:
        return (sums[0] >> word).astype(f"int32x{lanes}" if lanes > 1 else "int32")
    low = nest.view(nest.view(sums[0], f"uint64x{wide}") >> nest.const(32, "uint64", wide), f"int32x{lanes}")
    return nest.bind(nest.blend(low, nest.view(sums[1], f"int32x{lanes}"), lanes))


def vpackssdw(nest: Nest, first: Any, second: Any) -> Any:
    """Two int32x16 saturated to int16x32: four elements of the first, four of the second, and so on."""
    return nest.intrinsic("llvm.x86.avx512.packssdw.512", "int16x32", first, second)


def vpackuswb(nest: Nest, first: Any, second: Any) -> Any:
    """Two int16x32 saturated to unsigned bytes, int8x64: eight elements of the first, eight of the second and so on."""
    return nest.intrinsic("llvm.x86.avx512.packuswb.512", "int8x64", first, second)


class Sums(NamedTuple):
    """LANES finished sums of consecutive channels. start: where the first goes; is_last: of the tensor's or a group's
    blocks of channels, a bool or a condition known at run time."""

    total: Any
    bias: Any
    mult: Any
    start: Any
    is_last: Any


class Epilogue:
    """Scalars loaded once per call, and the store of finished sums. `out`, `residual`: NHWC buffers."""

    def __init__(self, nest: Nest, spec: OpSpec, params: Any, out: Any, isa: str, residual: Any = None) -> None:
        self.nest, self.float, self.out, self.residual = nest, spec.is_float, out, residual
        self.vectors = get_isa(isa).vectors
        self.dtype = out_dtype(spec)
        names = FLOAT_PARAMS if self.float else PARAMS
        self.scalar = {name: nest.bind(nest.load(params, position)) for position, name in enumerate(names)}
        if not self.float:
            word, half = nest.const(32, "int64"), nest.const(1 << 31, "int64")
            self.unshifted = nest.bind(
                nest.x.Select(self.scalar["shift"] == 0, nest.const(-1, "int32"), nest.const(0, "int32"))
            )
            self.rounding = nest.bind((self.scalar["z_out"].astype("int64") << word) + half)

    def shifted(self, value: Any, shift: str, lanes: int) -> Any:
        return value << self.nest.splat(self.scalar[shift], lanes)

    def first(self, total: Any, area: int, lanes: int) -> tuple[Any, Any]:
        """The factors of a sum of `area` codes: ((total - area z_in) << l, m), with the kernel's one multiplier."""
        nest = self.nest
        centred = total - nest.splat(self.scalar["z_in"] * area, lanes)
        return nest.bind(self.shifted(centred, "shift", lanes)), nest.splat(self.scalar["mult"], lanes)

    def second(self, codes: Any, lanes: int) -> tuple[Any, Any]:
        """The factors of the second input: ((r - z_r) << l_r, m_r)."""
        nest, wide = self.nest, f"int32x{lanes}" if lanes > 1 else "int32"
        centred = codes.astype(wide) - nest.splat(self.scalar["z_res"], lanes)
        return nest.bind(self.shifted(centred, "res_shift", lanes)), nest.splat(self.scalar["res_mult"], lanes)

    def high_word(self, factors: Sequence[tuple[Any, Any]], lanes: int) -> Any:
        """z_out + the rounded high word of the products' sum."""
        if self.vectors == "neon" and len(factors) == 1 and lanes % 4 == 0:
            return self._doubled(*factors[0], lanes)
        return high_word(self.nest, factors, self.rounding, lanes, self.vectors in ("ymm", "zmm"))

    def _doubled(self, value: Any, mult: Any, lanes: int) -> Any:
        """The same by SQRDMULH, four lanes at a time."""
        nest, half = self.nest, self.nest.bind(mult >> self.nest.const(1, "int32", lanes))
        quarters = [[nest.shuffle([v], list(range(at, at + 4))) for v in (value, half)] for at in range(0, lanes, 4)]
        high = [nest.intrinsic("llvm.aarch64.neon.sqrdmulh", "int32x4", *pair) for pair in quarters]
        whole = high[0] if lanes == 4 else nest.shuffle(high, list(range(lanes)))
        return whole + nest.splat(self.scalar["z_out"], lanes)

    def finish(self, value: Any, lanes: int) -> Any:
        """Clamp and narrow: from int32 (or float32) to the output's type."""
        if self.vectors in ("ymm", "neon") and self.dtype == "uint8" and lanes == LANES:
            narrow = self._packed(value) if self.vectors == "ymm" else self._extracted(value)
            return self._clamped(narrow, "uint8", LANES)
        value = self._clamped(value, "", lanes)
        return value if self.float else value.astype(f"{self.dtype}x{lanes}" if lanes > 1 else self.dtype)

    def _clamped(self, value: Any, dtype: str, lanes: int) -> Any:
        low, high = (self.scalar[name].astype(dtype) if dtype else self.scalar[name] for name in PARAMS[:2])
        nest, x = self.nest, self.nest.x
        return x.max(x.min(value, nest.splat(high, lanes)), nest.splat(low, lanes))

    def _packed(self, value: Any) -> Any:
        """vpackssdw, vpackuswb saturate to 0..255, which contains the clamp: it is then one byte wide."""
        nest = self.nest
        halves = [nest.shuffle([value], list(range(start, start + 8))) for start in (0, 8)]
        words = nest.bind(nest.intrinsic("llvm.x86.avx2.packssdw", "int16x16", *halves))  # in units of 4: 0 2 1 3
        lower, upper = (nest.shuffle([words], list(range(start, start + 8))) for start in (0, 8))
        packed = nest.view(nest.intrinsic("llvm.x86.sse2.packuswb.128", "int8x16", lower, upper), "int32x4")
        return nest.view(nest.shuffle([packed], [0, 2, 1, 3]), "uint8x16")

    def _extracted(self, value: Any) -> Any:
        """The same by SQXTN, SQXTUN."""
        nest = self.nest
        quarters = [nest.shuffle([value], list(range(at, at + 4))) for at in range(0, LANES, 4)]
        words = [nest.intrinsic("llvm.aarch64.neon.sqxtn", "int16x4", quarter) for quarter in quarters]
        pairs = [nest.shuffle(words[at : at + 2], list(range(8))) for at in (0, 2)]
        codes = [nest.intrinsic("llvm.aarch64.neon.sqxtun", "int8x8", pair) for pair in pairs]
        return nest.view(nest.shuffle(codes, list(range(LANES))), "uint8x16")

    def start(self, bias: Any, lanes: int = LANES) -> Any:
        """What sums of channels with these biases start from: the bias itself where nothing is shifted, else 0."""
        return bias if self.float else bias & self.nest.splat(self.unshifted, lanes)

    def store(self, tile: Sequence[Sums], valid: int) -> None:
        """Requantize and store a tile's sums, which began with `start`; of the last blocks only `valid` channels.

        Residuals are read a whole block wide: every buffer is readable SLACK bytes past its end. The code is there
        twice, since most tensors need no shift.
        """
        if self.float:
            self._store(tile, valid, False)
            return
        for shifted in (False, True):
            with self.nest.when(self.scalar["shift"] != 0 if shifted else self.scalar["shift"] == 0):
                self._store(tile, valid, shifted)

    def _store(self, tile: Sequence[Sums], valid: int, shifted: bool) -> None:
        values = [self.nest.bind(self._value(sums, shifted)) for sums in tile]
        for sums, value in zip(tile, self._finished(values)):
            self._put(sums.start, value, valid, sums.is_last)

    def _value(self, sums: Sums, shifted: bool) -> Any:
        nest = self.nest
        codes = None if self.residual is None else nest.bind(nest.load(self.residual, sums.start, LANES))
        if self.float:
            return sums.total if codes is None else sums.total + codes
        total = nest.bind(self.shifted(sums.total, "shift", LANES) + sums.bias) if shifted else sums.total
        factors = [(total, sums.mult)]
        return self.high_word(factors if codes is None else [*factors, self.second(codes, LANES)], LANES)

    def _finished(self, values: list[Any]) -> list[Any]:
        """All vectors of a tile through `finish`; with 512-bit registers four at a time."""
        whole = len(values) // 4 * 4 if self.vectors == "zmm" and self.dtype == "uint8" else 0
        packed = [code for at in range(0, whole, 4) for code in self._packed_four(values[at : at + 4])]
        return packed + [self.nest.bind(self.finish(value, LANES)) for value in values[whole:]]

    def _packed_four(self, values: list[Any]) -> list[Any]:
        """As `_packed`, which leaves the four vectors' channels in turn, four by four."""
        nest = self.nest
        words = [vpackssdw(nest, *values[at : at + 2]) for at in (0, 2)]
        codes = nest.view(vpackuswb(nest, *words), "int32x16")
        order = [4 * word + vector for vector in range(4) for word in range(4)]
        whole = nest.bind(self._clamped(nest.view(nest.shuffle([nest.bind(codes)], order), "uint8x64"), "uint8", 64))
        return [nest.shuffle([whole], list(range(at, at + LANES))) for at in range(0, 64, LANES)]

    def _put(self, start: Any, value: Any, valid: int, is_last: Any) -> None:
        nest = self.nest
        if is_last is False or valid == LANES:
            nest.store(self.out, start, value, LANES)
        elif is_last is True:
            nest.store_some(self.out, start, value, self.dtype, valid)
        else:
            value = nest.bind(value)
            with nest.when(nest.x.Not(is_last)):
                nest.store(self.out, start, value, LANES)
            with nest.when(is_last):
                nest.store_some(self.out, start, value, self.dtype, valid)
