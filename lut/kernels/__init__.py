"""Kernels that the tables measure and deployments are built from: one OpSpec in, one bare C function out.

`row_key` says what the generated code really depends on, `build` generates it, `pack_constants` lays a lowered
operator's constants out as the kernel reads them. TVM is imported by `build` alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lut.errors import LutError
from lut.spec import FLOAT_BITS, OpSpec

from .conv import canonical, unpacked_elsewhere
from .intrinsics import NARROW
from .isa import get_isa, isa_of_host, target
from .kinds import KINDS, WITH_WEIGHTS, supported
from .pack import arguments, layout, pack_constants
from .plain import untunable
from .schedule import candidates, parse
from .signature import Arg
from .traces import is_tuned, scheduled, variant_of

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
    "untunable",
    "variants",
]


@dataclass(frozen=True)
class Kernel:
    """A compiled operator. spec: its row key; args: the pointers it takes (lut/kernels/signature.py); object: ELF.

    variant: its schedule (lut/kernels/schedule.py), "" where there is but one. threads: how many parts it has;
    workspace_bytes: of all of them. shared: the object linked, or empty.
    """

    symbol: str
    spec: OpSpec
    isa: str
    object: bytes
    args: tuple[Arg, ...]
    workspace_bytes: int
    code_bytes: int
    variant: str = ""
    threads: int = 1
    shared: bytes = b""

    @property
    def stride(self) -> int:
        """Bytes from one part's workspace to the next one's, a multiple of 64 where there are several."""
        return self.workspace_bytes // self.threads


def kernel_source_hash() -> str:
    """First 16 hex digits of the SHA-256 over this package's sources: a table made by other kernels is stale."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def row_key(spec: OpSpec, isa: str) -> OpSpec:
    """What the generated code depends on: a code is a byte, whatever its bits; clamp and table are run-time values.

    AVX2 multiplies narrow inputs another way (`intrinsics.NARROW`).
    """

    def stored(bits: int) -> int:
        return 8 if bits <= 8 else bits

    w_bits = spec.w_bits if spec.kind in WITH_WEIGHTS else FLOAT_BITS if spec.is_float else 8
    first, *others = map(stored, spec.in_bits)
    if isa == "avx2" and layout(spec) == "conv" and spec.in_bits[0] <= NARROW:
        first = NARROW
    attrs = spec.attrs if spec.kind == "mul" or (spec.kind == "unary" and spec.is_float) else ""
    return replace(spec, w_bits=w_bits, in_bits=(first, *others), out_bits=stored(spec.out_bits), attrs=attrs, site="")


def variants(spec: OpSpec, isa: str, count: int, threads: int = 1) -> tuple[str, ...]:
    """Up to `count` schedules of the row's kernel, the default first; ("",) where there is but one."""
    key, chosen = row_key(spec, isa), get_isa(isa)
    if layout(key) != "conv":
        return ("",)
    loops = canonical(key, chosen.stage_bytes, threads)
    first, *others = candidates(loops, chosen, count, threads)
    return tuple(map(str, (first, *unpacked_elsewhere(loops, chosen, first, threads), *others)))[:count]


def build(spec: OpSpec, isa: str, variant: str = "", threads: int = 1, trace: str = "") -> Kernel:
    """Generate and compile the kernel of `row_key(spec)`. variant: one of `variants`, "" for the default.

    trace: of a schedule that MetaSchedule found (lut/kernels/traces.py), whose variant has the trace's name. Raises
    LutError when it is unsupported, or the trace is not the variant's or does not apply. Needs TVM.
    """
    from .emit import Nest, compile_nest
    from .targets import code_size

    if threads < 1:
        raise LutError(f"threads: {threads} is not positive")

    key, chosen, machine = row_key(spec, isa), get_isa(isa), target(isa)
    if (reason := supported(key)) is not None:
        raise LutError(f"{spec}: no kernel: {reason}")
    if trace or is_tuned(variant):
        return _build_tuned(key, isa, variant, threads, trace)
    if variant and layout(key) != "conv":
        raise LutError(f"{spec}: variant {variant!r}: its kernel has but one schedule")
    variant = variant or variants(key, isa, 1, threads)[0]
    symbol = _symbol(key, isa, variant, threads)
    nest: Any = Nest(threads)
    workspace = KINDS[key.kind].emit(nest, key, chosen, *([parse(variant)] if variant else []))
    if threads > 1:
        workspace = -(-workspace // 64) * 64 * threads
    code = compile_nest(nest, symbol, machine)
    return Kernel(symbol, key, isa, code, arguments(key, isa, workspace), workspace, code_size(code), variant, threads)


def _symbol(key: OpSpec, isa: str, variant: str, threads: int) -> str:
    return f"{key.kind}_{hashlib.sha256(repr((key, isa, variant, threads)).encode()).hexdigest()[:12]}"


def _build_tuned(key: OpSpec, isa: str, variant: str, threads: int, trace: str) -> Kernel:
    """The kernel that a trace makes of the operator's plain loops."""
    from .emit import compile_nest
    from .lowered import lower
    from .targets import code_size

    if (reason := untunable(key, isa, threads)) is not None:
        raise LutError(f"{key}: variant {variant}: not tunable: {reason}")
    if variant not in ("", variant_of(trace)):
        raise LutError(f"variant {variant}: its trace is missing, or another one's ({variant_of(trace)})")
    lowered = lower(*scheduled(key, isa, trace))
    symbol = _symbol(key, isa, variant_of(trace), threads)
    code, workspace = compile_nest(lowered, symbol, target(isa)), lowered.workspace_bytes
    return Kernel(symbol, key, isa, code, arguments(key, isa, workspace), workspace, code_size(code), variant_of(trace))
