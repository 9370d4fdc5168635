"""One OpSpec in, one C function out: a call of a kernel in kernels/*.h with the operator's shape as constants.

The function has the one signature of kernels/kernel.h, so that whoever makes its body (these headers, or TVM's loops
around block.h) is nobody else's business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from lut import kernels
from lut.device import Storage
from lut.errors import LutError
from lut.kernels.signature import by_channel
from lut.spec import FLOAT_BITS, OpSpec

from .shapes import GROUPED, layout, sizes, words

KERNELS = Path(__file__).parent / "kernels"
BODIES = {
    "conv": ("conv.h", "conv(SHAPE, in, in2, out, weights, params, workspace)"),
    "pixel": ("pixel.h", "conv_pixel(SHAPE, in, in2, out, weights, params, workspace)"),
    "depthwise": ("depthwise.h", "depthwise(SHAPE, in, in2, out, weights, bias, params, workspace)"),
    "input": ("elementwise.h", "image(SHAPE, in, out, weights)"),
    "add": ("elementwise.h", "add(SHAPE, in, in2, out, params)"),
    "avg_pool": ("elementwise.h", "avg_pool(SHAPE, in, out, params)"),
    "max_pool": ("elementwise.h", "max_pool(SHAPE, in, out)"),
    "mul": ("elementwise.h", "multiply_tensors(SHAPE, in, in2, out, params)"),
    "unary": ("elementwise.h", "unary(SHAPE, in, out, weights)"),
    "concat": ("copies.h", "copy_part(SHAPE, in, out, params)"),
    "split": ("copies.h", "copy_part(SHAPE, in, out, params)"),
    "shuffle": ("copies.h", "shuffle(SHAPE, in, out)"),
    "pad": ("copies.h", "pad(SHAPE, in, out, params)"),
    "resample": ("copies.h", "resample(SHAPE, in, out, weights, params)"),
}
"""Header and call, by the layout of the weights or the kind."""
MOVES = ("max_pool", "concat", "split", "shuffle", "pad", "resample")
"""Kinds whose output codes are input codes."""


@dataclass(frozen=True)
class Kernel:
    """symbol: of the C function in `source`; sizes: bytes by argument (signature.NAMES)."""

    symbol: str
    spec: OpSpec
    source: str
    sizes: dict[str, int]


def source_hash() -> str:
    """First 16 hex digits of the SHA-256 over all that a row's cycles depend on here."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    kinds = {".c", ".h", ".in", ".json", ".sv", ".cpp"}
    for path in sorted([*folder.glob("*.py"), *(p for p in folder.glob("*/**/*") if p.suffix in kinds)]):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def row_key(spec: OpSpec, storage: Storage = "byte") -> OpSpec:
    """What the code depends on, with the bits that codes are stored in: 8 whatever they are where every code takes a
    byte. Clamp and zero points are run-time values."""
    key = kernels.row_key(spec, "")
    return key if storage == "byte" else replace(key, in_bits=spec.in_bits, out_bits=spec.out_bits)


def supported(spec: OpSpec, storage: Storage = "byte") -> str | None:
    """None, or the reason why there is no kernel."""
    if _body(spec) not in BODIES:
        known = "conv2d, conv2d_add, linear, " + ", ".join(
            name for name in BODIES if name not in ("conv", "pixel", "depthwise")
        )
        return f"kind {spec.kind!r}; a microcontroller has {known}"
    if (reason := kernels.supported(spec)) is not None:
        return reason
    if FLOAT_BITS in (spec.out_bits, *spec.in_bits):
        return "float32; a microcontroller's kernels are integer"
    if storage == "packed" and (odd := {*spec.in_bits, spec.out_bits} - {2, 4, 8, 16}):
        return f"{min(odd)}-bit activations; packed ones have 2, 4 or 8"
    if storage == "packed" and spec.kind in MOVES and {*spec.in_bits} != {spec.out_bits}:
        return f"{spec.kind} from {spec.in_bits} to {spec.out_bits} bits; packed codes are moved as they are"
    if layout(spec) in GROUPED and spec.groups > 1:
        return f"{spec.groups} groups; a microcontroller's kernels have one, or as many as channels"
    return None


def _body(spec: OpSpec) -> str:
    return spec.kind if layout(spec) == "none" else layout(spec)


def _shape(spec: OpSpec) -> dict[str, int]:
    """Fields of `struct conv` (kernels/stage.h)."""
    rows, cols = spec.out_size()
    names = ("kernel", "stride", "dilation")
    pairs = {f"{name}_{axis}": getattr(spec, name)[i] for name in names for i, axis in enumerate("hw")}
    form = words(spec) if layout(spec) in GROUPED else None
    return {
        "height": spec.height,
        "width": spec.width,
        "c_in": spec.c_in,
        "c_out": spec.c_out,
        **pairs,
        "top": spec.pad[0],
        "left": spec.pad[1],
        "rows": rows,
        "cols": cols,
        "bits": spec.w_bits,
        "words": form.count if form else 0,
        "unroll": form.unroll if form else 0,
        "pixels": 1 if layout(spec) == "pixel" else 2,
        "scores": int(spec.out_bits == 16),
        "groups": spec.groups,
        "residual": int(spec.kind == "conv2d_add"),
        "by_channel": int(by_channel(spec)),
        "in_bits": spec.in_bits[0],
        "in2_bits": spec.in_bits[1] if len(spec.in_bits) > 1 else 8,
        "out_bits": spec.out_bits,
    }


def kernel(spec: OpSpec, storage: Storage = "byte") -> Kernel:
    """The kernel of `row_key(spec, storage)`. LutError when it is unsupported."""
    key = row_key(spec, storage)
    if (reason := supported(key, storage)) is not None:
        raise LutError(f"{spec}: no kernel: {reason}")
    symbol = f"{key.kind}_{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"
    header, call = BODIES[_body(key)]
    fields = ", ".join(f".{name} = {value}" for name, value in _shape(key).items())
    unused = "".join(f"    (void){name};\n" for name in ("in2", "weights", "bias", "mult", "params", "workspace"))
    body = f"    const struct conv SHAPE = {{{fields}}};\n{unused}    {call};\n"
    source = f'#include "{header}"\n\nKERNEL({symbol}) {{\n{body}}}\n'
    return Kernel(symbol, key, source, sizes(key))
