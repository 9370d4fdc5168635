"""Kernels that the tables measure and deployments are built from: one OpSpec in, one bare C function out.

`row_key` says what the generated code really depends on, `build` generates it, `pack_constants` lays a lowered
operator's constants out as the kernel reads them. TVM is imported by `build` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lut.errors import LutError
from lut.spec import FLOAT_BITS, OpSpec

from .isa import get_isa, isa_of_host, target
from .pack import arguments, layout, pack_constants
from .signature import Arg

__all__ = [
    "Arg",
    "Kernel",
    "build",
    "isa_of_host",
    "kernel_source_hash",
    "pack_constants",
    "row_key",
    "supported",
    "target",
]

WITH_WEIGHTS = frozenset({"conv2d", "conv2d_add", "linear"})
KINDS = frozenset({"conv2d", "conv2d_add", "linear", "input", "add", "avg_pool", "max_pool", "resample"})
INPUTS = {"add": 2, "conv2d_add": 2}


@dataclass(frozen=True)
class Kernel:
    """A compiled operator. spec: its row key; args: the pointers it takes (lut/kernels/signature.py); object: ELF."""

    symbol: str
    spec: OpSpec
    isa: str
    object: bytes
    args: tuple[Arg, ...]
    workspace_bytes: int
    code_bytes: int


def kernel_source_hash() -> str:
    """First 16 hex digits of the SHA-256 over this package's sources: a table made by other kernels is stale."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def row_key(spec: OpSpec) -> OpSpec:
    """What the generated code depends on: codes of 1 to 8 bits are a byte each and their clamp is a run-time value."""

    def stored(bits: int) -> int:
        return 8 if bits <= 8 else bits

    w_bits = spec.w_bits if spec.kind in WITH_WEIGHTS else FLOAT_BITS if spec.is_float else 8
    in_bits = tuple(stored(bits) for bits in spec.in_bits)
    return replace(spec, w_bits=w_bits, in_bits=in_bits, out_bits=stored(spec.out_bits), attrs="", site="")


def supported(spec: OpSpec) -> str | None:
    """None, or the reason why these kernels do not compute `spec`."""
    if spec.kind not in KINDS:
        return f"kind {spec.kind!r}; kernels exist for {', '.join(sorted(KINDS))}"
    sizes = (spec.c_in, spec.c_out, spec.height, spec.width, spec.groups, *spec.kernel, *spec.stride, *spec.dilation)
    if min(sizes) < 1 or min(spec.pad) < 0:
        return "a size below 1 or a negative padding"
    if min(spec.out_size()) < 1:
        return f"the kernel {spec.kernel} is larger than the padded input"
    if spec.batch != 1:
        return f"batch {spec.batch}; kernels run one image"
    return _bits_problem(spec) or _shape_problem(spec)


def _bits_problem(spec: OpSpec) -> str | None:
    if len(spec.in_bits) != INPUTS.get(spec.kind, 1):
        return f"{len(spec.in_bits)} in_bits for the {INPUTS.get(spec.kind, 1)} inputs of {spec.kind}"
    widths = [*spec.in_bits, spec.out_bits, *([spec.w_bits] if spec.kind in WITH_WEIGHTS else [])]
    if spec.kind == "input":
        widths = [spec.out_bits]
    if spec.is_float or FLOAT_BITS in widths:
        return None if set(widths) == {FLOAT_BITS} else f"bits {widths}: float32 does not mix with integers"
    if spec.kind in WITH_WEIGHTS and spec.w_bits not in (2, 4, 8):
        return f"{spec.w_bits}-bit weights; kernels have 2, 4 and 8"
    if any(not 1 <= bits <= 8 for bits in spec.in_bits):
        return f"in_bits {spec.in_bits}; kernels read codes of 1 to 8 bits"
    if not 1 <= spec.out_bits <= 8 and (spec.out_bits != 16 or spec.kind in ("input", "max_pool", "resample")):
        return f"out_bits {spec.out_bits}; kernels write codes of 1 to 8 bits, or 16-bit scores"
    return None


def _shape_problem(spec: OpSpec) -> str | None:
    if spec.c_in % spec.groups or spec.c_out % spec.groups:
        return f"{spec.c_in} and {spec.c_out} channels do not divide into {spec.groups} groups"
    if spec.kind == "linear" and (spec.height, spec.width, *spec.kernel) != (1, 1, 1, 1):
        return "linear reads a flat input: height, width and kernel are 1"
    if spec.kind in ("input", "add", "avg_pool", "max_pool") and spec.c_in != spec.c_out:
        return f"{spec.kind} keeps its channels, not {spec.c_in} to {spec.c_out}"
    if spec.kind == "avg_pool" and (any(spec.pad) or spec.dilation != (1, 1)):
        return "avg_pool with padding or dilation"
    return None


def build(spec: OpSpec, isa: str) -> Kernel:
    """Generate and compile the kernel of `row_key(spec)`. Raises LutError when it is unsupported. Needs TVM."""
    from .conv import conv
    from .depthwise import depthwise
    from .elementwise import add, avg_pool, max_pool, resample, table
    from .emit import Nest, code_size, compile_nest

    emitters: dict[str, Callable[..., int]] = {
        "conv2d": conv,
        "conv2d_add": conv,
        "linear": conv,
        "input": table,
        "add": add,
        "avg_pool": avg_pool,
        "max_pool": max_pool,
        "resample": resample,
    }
    key, chosen, machine = row_key(spec), get_isa(isa), target(isa)
    if (reason := supported(key)) is not None:
        raise LutError(f"{spec}: no kernel: {reason}")
    symbol = f"{key.kind}_{hashlib.sha256(repr((key, isa)).encode()).hexdigest()[:12]}"
    nest: Any = Nest()
    emit = depthwise if layout(key) == "depthwise" else emitters[key.kind]
    workspace = emit(nest, key, chosen)
    code = compile_nest(nest, symbol, machine)
    return Kernel(symbol, key, isa, code, arguments(key, isa, workspace), workspace, code_size(code))
