"""A function of a code of at most 8 bits is a table of 256 entries: the input's bytes, any unary function, dequantize.

On AVX2 a table of bytes is sixteen of 16 entries, which vpshufb looks up by the low four bits of an index, or gives 0
where the index is negative. With x the code minus 128 k for both halves k of the table, and saturating subtraction,

    y = xor_k xor_j shuffle(t_j ^ t_(j-1), x - 16 j),  j = 0..7, t_(-1) = 0

since every entry up to the right one takes part and their differences telescope. (The same idea serves XNNPACK's x8-lut
kernels.) Elsewhere, and for entries of other types, one element at a time is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lut.spec import OpSpec

from . import functions
from .emit import Nest
from .isa import Isa, get_isa
from .signature import out_dtype, pointers

ENTRIES, VECTOR, UNROLL = 256, 32, 4


def shuffled(isa: str) -> bool:
    """Whether tables of bytes are looked up by vpshufb, and so are packed as differences."""
    return get_isa(isa).vectors in ("ymm", "zmm")


def pack_table(table: np.ndarray, isa: str) -> np.ndarray:
    """(entries,) -> (256,): the last entry repeated beyond the codes there are; for vpshufb the differences."""
    full = np.pad(table, (0, ENTRIES - len(table)), mode="edge")
    if full.dtype != np.uint8 or not shuffled(isa):
        return full
    parts = full.reshape(2, 8, 16)
    return np.concatenate([parts[:, :1], parts[:, 1:] ^ parts[:, :-1]], 1).reshape(-1)


def image(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """input: y = table[channel, byte]."""
    bound = pointers(nest, spec, out_dtype(spec))
    with nest.share(spec.height * spec.width) as pixel, nest.loop(spec.c_in) as channel:
        at = pixel * spec.c_in + channel
        code = nest.load(bound["in"], at).astype("int32")
        nest.store(bound["out"], at, nest.load(bound["weights"], channel * ENTRIES + code))
    return 0


def dequantize(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """dequantize: y = table[code], float32."""
    bound = pointers(nest, spec, "float32")
    with nest.share(spec.height * spec.width * spec.c_in) as at:
        code = nest.load(bound["in"], at).astype("int32")
        nest.store(bound["out"], at, nest.load(bound["weights"], code))
    return 0


def unary(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """unary: y = table[code]; float32: the function itself."""
    if spec.is_float:
        return functions.unary(nest, spec)
    bound = pointers(nest, spec, "uint8")
    count = spec.height * spec.width * spec.c_in
    if not shuffled(isa.name):
        with nest.share(count) as at:
            nest.store(bound["out"], at, nest.load(bound["weights"], nest.load(bound["in"], at).astype("int32")))
        return 0
    block = VECTOR * UNROLL
    if count >= block:
        with nest.share(count // block) as i:
            starts = [i * block + step * VECTOR for step in range(UNROLL)]
            for start, value in zip(starts, _shuffle(nest, bound, starts)):
                nest.store(bound["out"], start, value, VECTOR)
    if count % block:
        with nest.last():
            for start in range(count // block * block, count, VECTOR):
                (value,) = _shuffle(nest, bound, [start])
                if count - start >= VECTOR:
                    nest.store(bound["out"], start, value, VECTOR)
                else:
                    nest.store_some(bound["out"], start, value, "uint8", count - start, VECTOR)
    return 0


def _shuffle(nest: Nest, bound: dict[str, Any], starts: list[Any]) -> list[Any]:
    """Vectors of looked-up bytes, one table for all of them at a time."""
    kind, sixteen = f"int8x{VECTOR}", nest.const(16, "int8", VECTOR)
    codes = [nest.bind(nest.view(nest.load(bound["in"], start, VECTOR), kind)) for start in starts]
    totals: list[Any] = []
    for half in range(2):
        places = codes if half == 0 else [nest.bind(code ^ nest.const(-128, "int8", VECTOR)) for code in codes]
        for j in range(8):
            entries = nest.view(nest.load(bound["weights"], (half * 8 + j) * 16, 16), "int8x16")
            table = nest.bind(nest.shuffle([entries, entries], list(range(VECTOR))))
            found = [nest.intrinsic("llvm.x86.avx2.pshuf.b", kind, table, place) for place in places]
            totals = [nest.bind(a ^ b) for a, b in zip(totals, found)] if totals else [nest.bind(a) for a in found]
            if j < 7:
                places = [nest.bind(nest.intrinsic("llvm.ssub.sat", kind, place, sixteen)) for place in places]
    return [nest.view(total, f"uint8x{VECTOR}") for total in totals]
