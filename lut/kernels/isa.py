"""Instruction sets that the kernels are written for, and how this machine's is found."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lut.errors import LutError

LANES = 16
"""Output channels per block: weights, biases and multipliers are padded to it; stores are not."""


@dataclass(frozen=True)
class Isa:
    """blocks: how many LANES-wide accumulators a register tile may hold. stage_bytes: a staged strip stays in L1."""

    name: str
    mcpu: str
    mattr: tuple[str, ...]
    needs: frozenset[str]  # flags of /proc/cpuinfo
    blocks: int
    stage_bytes: int = 24 << 10


ISAS = {
    "avx512vnni": Isa(
        "avx512vnni",
        "cascadelake",
        ("-prefer-256-bit",),
        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}),
        12,
    ),
    "avx2": Isa("avx2", "x86-64-v3", (), frozenset({"avx2", "fma", "bmi2"}), 6),
    "llvm": Isa("llvm", "", (), frozenset(), 4),
}
"""Best first; "llvm" is plain vector code for whatever LLVM takes this machine's architecture to be."""


def isa_of_host(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The best instruction set whose flags this machine has; "llvm" when that is unknown."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return "llvm"
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return next(name for name, isa in ISAS.items() if isa.needs <= flags)


def get_isa(name: str) -> Isa:
    if name not in ISAS:
        raise LutError(f"isa: {name!r} is unknown; expected one of {', '.join(ISAS)}")
    return ISAS[name]


def target(isa: str) -> dict[str, Any]:
    """TVM's target. TVM only logs an unknown mcpu and falls back to generic code, so the names are fixed here.

    Raises LutError when `isa` is unknown or belongs to another architecture.
    """
    chosen, machine = get_isa(isa), platform.machine()
    if chosen.needs and machine not in ("x86_64", "AMD64"):
        raise LutError(f"isa: {isa!r} is for x86-64, this machine is {machine}; expected 'llvm'")
    body: dict[str, Any] = {"kind": "llvm", "mtriple": f"{'x86_64' if machine == 'AMD64' else machine}-linux-gnu"}
    if chosen.mcpu:
        body["mcpu"] = chosen.mcpu
    if chosen.mattr:
        body["mattr"] = list(chosen.mattr)
    return body
