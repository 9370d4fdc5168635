"""That LLVM knows a target, that an object is for it, and how large its code is.

What LLVM does not know TVM only logs, and generic code comes out; here it is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from lut.columns import nearest
from lut.errors import LutError

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
"""e_machine of an ELF file's header, by the first part of mtriple."""


def llvm_target(body: Mapping[str, Any]) -> Any:
    """TVM's target. Raises LutError when LLVM lacks its mcpu or one of its mattr."""
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_cpu_archlist, llvm_get_cpu_features

    triple, mcpu = body["mtriple"], body.get("mcpu")
    plain = Target({"kind": "llvm", "mtriple": triple})
    if mcpu and mcpu not in (known := [str(name) for name in llvm_get_cpu_archlist(plain)]):
        raise LutError(f"mcpu: LLVM has no {mcpu!r} for {triple}; {nearest(mcpu, known)}")
    target = Target(dict(body))
    wanted = [name[1:] for name in body.get("mattr", ()) if name.startswith("+")]
    if missing := set(wanted) - llvm_get_cpu_features(target):
        raise LutError(f"mattr: LLVM has no {', '.join(sorted(missing))} for {triple}")
    return target


def check_object(elf: bytes, body: Mapping[str, Any]) -> bytes:
    """The object itself. Raises LutError when it is for another architecture than the target's."""
    machine = body["mtriple"].partition("-")[0]
    (found,) = struct.unpack_from("<H", elf, 18) if elf[:4] == b"\x7fELF" else (0,)
    if machine in ELF_MACHINES and found != ELF_MACHINES[machine]:
        names = {number: name for name, number in ELF_MACHINES.items()}
        came = names.get(found, f"machine {found}")
        raise LutError(f"mtriple: asked for {body['mtriple']}, LLVM emitted {came} code")
    return elf


def code_size(elf: bytes) -> int:
    """Bytes of a 64-bit ELF object's allocated sections (code and constants), TVM's half-precision helpers aside."""
    (at,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", elf, at + i * size) for i in range(count)]
    strings = sections[names][4]
    total = 0
    for name, kind, flags, _, _, length in sections:
        title = elf[strings + name : elf.index(b"\0", strings + name)]
        if flags & 2 and kind == 1 and title.startswith((b".text", b".rodata")) and b"fp16" not in title:
            total += length
    return total
