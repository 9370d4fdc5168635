"""Cycles of a Cortex-M4 with memories of zero wait states, from exact counts of what it executed.

The table is that of the Technical Reference Manual (Arm 100166_0001, 3.3.1; DDI 0439, 3.3.1), with its rules for
pairs of loads and stores:
  arithmetic, multiplication (32 x 32 + 64 too), saturation, parallel arithmetic   1
  load                 2; 1 right after a single load whose result is not part of the address
  store                1 with an immediate offset; 2 with a register offset, 1 right after a single load
  LDM, STM, PUSH, POP, LDRD, STRD   1 + registers
  branch               1, and P when it is taken
  load or store whose address the data-processing instruction before it made   one more
  unaligned word or halfword   one more for each additional access
Where the manual gives a range, one value is taken: a pipeline refill P of 2 (1 to 3), a division 7 (2 to 12), IT 1 (0
when it is folded). What a fetch and a literal load may lose to each other is not counted.
"""

from __future__ import annotations

import re
from collections import Counter

from lut.errors import LutError

from .trace import Instruction, Listing, Region

REFILL, DIVISION = 2, 7

_CONDITION = "(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
_PLAIN = re.compile(
    "(?:add|addw|adc|sub|subw|sbc|rsb|mov|movw|movt|mvn|and|orr|orn|eor|bic|lsl|lsr|asr|ror|rrx|neg|cmp|cmn|tst|teq|adr"
    "|clz|rbit|rev|rev16|revsh|bfc|bfi|[su]bfx|[su]xta?[bh]|[su]xta?b16|pkhbt|pkhtb|[su]sat|[su]sat16|sel|usada?8|nop"
    "|qd?add|qd?sub|(?:s|u|q|uq|sh|uh)(?:add|sub)(?:8|16)|(?:s|u|q|uq|sh|uh)(?:asx|sax)"
    "|mul|mla|mls|[su]mull|[su]mlal|umaal|smul[bt][bt]|smla[bt][bt]|smlal[bt][bt]|smulw[bt]|smlaw[bt]|smuadx?|smusdx?"
    "|smladx?|smlsdx?|smlaldx?|smlsldx?|smmulr?|smmlar?|smmlsr?)s?" + _CONDITION
)
_BRANCH = re.compile(f"b{_CONDITION}|bl|blx|bx{_CONDITION}|cbn?z")
_SINGLE = re.compile(f"(ldr|str)(?:b|h|sb|sh)?{_CONDITION}")
_MULTIPLE = re.compile(f"(?:ldm|stm)(?:ia|db|fd|ea)?{_CONDITION}|push{_CONDITION}|pop{_CONDITION}")
_DOUBLE = re.compile(f"(?:ldrd|strd){_CONDITION}")
_NUMBERS = {"sb": 9, "sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}


def _number(register: str) -> int:
    return _NUMBERS[register] if register in _NUMBERS else int(register[1:])


def register_count(operands: str) -> int:
    """Of a list such as {r4, r6-r8, lr}."""
    total = 0
    for part in operands[operands.index("{") + 1 : operands.index("}")].split(","):
        first, _, last = part.strip().partition("-")
        total += _number(last) - _number(first) + 1 if last else 1
    return total


def _address(instruction: Instruction) -> set[str]:
    """Registers that a load or store takes its address from."""
    inside = re.search(r"\[([^\]]*)\]", instruction.operands)
    text = inside[1] if inside else instruction.operands.partition(",")[0].rstrip("!")
    if instruction.mnemonic.startswith(("push", "pop")):
        return {"sp"}
    return set(re.findall(r"\b(?:r\d+|sb|sl|fp|ip|sp|lr)\b", text))


def _result(instruction: Instruction) -> str:
    return instruction.operands.partition(",")[0].strip()


def _single(mnemonic: str) -> str:
    """`ldr`, `str`, or nothing for what is no single load or store."""
    match = _SINGLE.fullmatch(mnemonic)
    return match[1] if match else ""


def cost(instruction: Instruction, before: Instruction | None) -> int:
    """Cycles when it follows `before` in sequence (None: it was branched to), an untaken branch's for a branch.

    LutError for an instruction that the table does not have.
    """
    name = instruction.mnemonic
    if _PLAIN.fullmatch(name) or _BRANCH.fullmatch(name) or re.fullmatch("i[te]{1,4}", name):
        return 1
    if re.fullmatch(f"[su]div{_CONDITION}", name):
        return DIVISION
    if name in ("tbb", "tbh"):
        return 4
    late = 0
    if before is not None and _PLAIN.fullmatch(before.mnemonic):
        late = 1 if _result(before) in _address(instruction) else 0
    if _DOUBLE.fullmatch(name):
        return 3 + late
    if _MULTIPLE.fullmatch(name):
        return 1 + register_count(instruction.operands) + late
    kind = _single(name)
    if not kind:
        raise LutError(f"cortex-m4: no cycles are known for {name} {instruction.operands}")
    paired = before is not None and _single(before.mnemonic) == "ldr" and _result(before) not in _address(instruction)
    if kind == "str":
        by_register = re.search(r"\[[^,\]]+, *[a-z]", instruction.operands) is not None
        return (2 if by_register and not paired else 1) + late
    return (1 if paired else 2) + late


def cycles(region: Region, listing: Listing) -> int:
    """Of everything between two marks."""
    previous = {instruction.next: instruction for instruction in listing.values()}
    entered: Counter[int] = Counter()
    total = sum(region.unaligned.values())
    for (last, to), times in region.edges.items():
        if listing[last].next != to:
            entered[to] += times
            total += times * REFILL
    for address, times in region.times(listing).items():
        jumped = min(entered[address], times)
        instruction = listing[address]
        if jumped < times:
            total += (times - jumped) * cost(instruction, previous.get(address))
        if jumped:
            total += jumped * cost(instruction, None)
    return total
