"""Instruction sets that the kernels are written for: how this machine's is found, and what LLVM is told to emit.

A kernel may be built for any of them on any machine (another architecture is cross-compiled); only what is loaded
into a process has to be the machine's own, which `require` checks before an instruction runs.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lut.errors import LutError

LANES = 16
"""Output channels per block: weights, biases and multipliers are padded to it; stores are not."""

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Isa:
    """machine: architecture, "" for whatever builds. vectors: registers that the hand-written forms are for, "" none.

    mcpu, mattr: LLVM's. needs: flags of /proc/cpuinfo. blocks: how many LANES-wide accumulators a register tile may
    hold. stage_bytes: a staged strip stays in the first-level cache.
    """

    name: str
    machine: str
    vectors: Literal["zmm", "ymm", "neon", ""]
    mcpu: str
    mattr: tuple[str, ...]
    needs: frozenset[str]
    blocks: int
    stage_bytes: int = 24 << 10


_V3 = frozenset({"avx2", "fma", "bmi2"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"})

_ISAS = (
    Isa("avx512vnni", "x86_64", "zmm", "cascadelake", ("-prefer-256-bit",), _AVX512, 24),
    Isa("avxvnni", "x86_64", "ymm", "x86-64-v3", ("+avxvnni",), _V3 | {"avx_vnni"}, 6),
    Isa("avx2", "x86_64", "ymm", "x86-64-v3", (), _V3, 6),
    Isa("neon-dot", "aarch64", "neon", "generic", ("+neon", "+dotprod"), frozenset({"asimd", "asimddp"}), 6),
    Isa("neon", "aarch64", "neon", "generic", ("+neon",), frozenset({"asimd"}), 6),
    Isa("llvm", "", "", "", (), frozenset(), 4),
)
ISAS = {isa.name: isa for isa in _ISAS}
"""Best first; "llvm" is plain vector code for whatever LLVM takes this machine's architecture to be."""


def host_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """This CPU's flags (x86) or features (Arm), as Linux names them; none where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    words = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(words, ()))


def isa_of_host(cpuinfo: Path = CPUINFO) -> str:
    """The best instruction set whose flags this machine has; "llvm" when that is unknown."""
    flags = host_flags(cpuinfo)
    return next(name for name, isa in ISAS.items() if isa.needs <= flags)


def get_isa(name: str) -> Isa:
    if name not in ISAS:
        raise LutError(f"isa: {name!r} is unknown; expected one of {', '.join(ISAS)}")
    return ISAS[name]


def require(name: str, cpuinfo: Path = CPUINFO) -> None:
    """Raise LutError with the flags that this CPU lacks, if it cannot run the instruction set."""
    missing = get_isa(name).needs - host_flags(cpuinfo)
    if missing:
        raise LutError(
            f"isa: {name!r} cannot run here: this CPU ({platform.machine()}) has no {', '.join(sorted(missing))}; "
            f"its own is {isa_of_host(cpuinfo)!r}"
        )


def host_machine() -> str:
    """This machine's architecture, as GNU names it."""
    here = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(here, here)


def machine_of(name: str) -> str:
    """The architecture of an instruction set."""
    return get_isa(name).machine or host_machine()


def target(isa: str) -> dict[str, Any]:
    """TVM's target. `emit.compile_nest` checks that TVM knows it. Raises LutError when `isa` is unknown."""
    chosen = get_isa(isa)
    body: dict[str, Any] = {"kind": "llvm", "mtriple": f"{machine_of(isa)}-linux-gnu"}
    if chosen.mcpu:
        body["mcpu"] = chosen.mcpu
    if chosen.mattr:
        body["mattr"] = list(chosen.mattr)
    return body
