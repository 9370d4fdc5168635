"""Cycles of an in-order RV32IMC core with memories of zero wait states, from exact counts of what it executed.

    cycles = marks + sum over classes of (cycles of the class x how often it was executed)

Classes are those that such pipelines tell apart; a core's cycles per class are fitted to its RTL (fits/<core>.json,
made by scripts/fit_cycles.py). One class is counted on top of another: `taken` of `branch`, `load_use` of `load`.
  alu, mul, mulh, load, store, branch, jump, indirect   every instruction is one of these; kernels do not divide
  taken          a conditional branch that was
  load_use       an instruction that needs what the load right before it brings
  target         a jump to a four-byte instruction that does not start at a multiple of 4
  split          a load or store across two words
  marks          1: the instructions around what is measured
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from pathlib import Path

from lut.errors import LutError

from .trace import Instruction, Listing, Region

FITS = Path(__file__).parent / "fits"
CLASSES = (
    "marks", "alu", "mul", "mulh", "load", "load_use", "store", "split", "branch", "taken", "jump", "indirect",
    "target",
)  # fmt: skip

_KINDS = {
    "alu": "add|addi|sub|and|andi|or|ori|xor|xori|not|neg|sll|slli|srl|srli|sra|srai|slt|slti|sltu|sltiu|seqz|snez|sltz"
    "|sgtz|sgt|sgtu|zext\\.b|li|lui|mv|auipc|nop",
    "mul": "mul",
    "mulh": "mulh|mulhu|mulhsu",
    "load": "lb|lbu|lh|lhu|lw",
    "store": "sb|sh|sw",
    "branch": "beq|bne|blt|bltu|bge|bgeu|bgt|bgtu|ble|bleu|beqz|bnez|bltz|bgez|blez|bgtz",
    "jump": "j|jal",
    "indirect": "jr|jalr|ret",
}
_KIND = {name.replace("\\", ""): kind for kind, names in _KINDS.items() for name in names.split("|")}
_REGISTER = re.compile(r"\b(?:ra|sp|gp|tp|t[0-6]|s1[01]|s[0-9]|a[0-7])\b")


def kind_of(instruction: Instruction) -> str:
    """LutError for an instruction that no class has."""
    if instruction.mnemonic not in _KIND:
        raise LutError(f"riscv: no cycles are known for {instruction.mnemonic} {instruction.operands}")
    return _KIND[instruction.mnemonic]


def result(instruction: Instruction) -> str:
    """The register that it writes, or nothing."""
    kind = kind_of(instruction)
    return "" if kind in ("store", "branch", "jump", "indirect") else instruction.operands.partition(",")[0]


def needs(instruction: Instruction) -> set[str]:
    """Registers that it reads."""
    text = instruction.operands
    if instruction.mnemonic == "ret":
        return {"ra"}
    if result(instruction):
        text = text.partition(",")[2]
    return set(_REGISTER.findall(text))


def _waits(instruction: Instruction, before: Instruction) -> bool:
    """Whether it needs what the load before it brings; what lies before need not be code."""
    return _KIND.get(before.mnemonic) == "load" and result(before) in needs(instruction)


def classes(region: Region, listing: Listing) -> Counter[str]:
    """How often each class was executed between two marks."""
    counts, entered = Counter({"marks": 1, "split": sum(region.unaligned.values())}), Counter[int]()
    for (last, to), times in region.edges.items():
        if listing[last].next == to:
            continue
        entered[to] += times
        if kind_of(listing[last]) == "branch":
            counts["taken"] += times
        if to % 4 and listing[to].next - to == 4:
            counts["target"] += times
    previous = {instruction.next: instruction for instruction in listing.values()}
    for address, times in region.times(listing).items():
        instruction = listing[address]
        counts[kind_of(instruction)] += times
        before, sequential = previous.get(address), times - min(entered[address], times)
        if before is not None and _waits(instruction, before):
            counts["load_use"] += sequential
    return counts


@functools.cache
def fitted(core: str) -> dict[str, float]:
    """Cycles per class. LutError when the core has no fit."""
    path = FITS / f"{core}.json"
    if not path.exists():
        raise LutError(f"{path}: there is no fit; make it: python scripts/fit_cycles.py --device DEVICE")
    return {name: float(cycles) for name, cycles in json.loads(path.read_text())["cycles"].items()}


def cycles(region: Region, listing: Listing, core: str) -> int:
    """Of everything between two marks."""
    price = fitted(core)
    return round(sum(price[name] * count for name, count in classes(region, listing).items()))
