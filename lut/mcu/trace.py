"""What the simulator counted between two marks (plugin/count.c), and the instructions that it counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lut.errors import LutError


@dataclass(frozen=True)
class Instruction:
    """As objdump prints it: mnemonic without its width (.n, .w), operands without comments; `next`: the address of
    what follows it, -1 for the last."""

    mnemonic: str
    operands: str
    next: int


Listing = Mapping[int, Instruction]


@dataclass
class Region:
    """blocks: (first address, instructions) -> times; edges: (last address, next address) -> times; unaligned:
    additional accesses by address of the instruction; fetched, loaded: reads of flash for instructions and data."""

    instructions: int
    blocks: Counter[tuple[int, int]] = field(default_factory=Counter)
    edges: Counter[tuple[int, int]] = field(default_factory=Counter)
    unaligned: Counter[int] = field(default_factory=Counter)
    fetched: int = 0
    loaded: int = 0

    def times(self, listing: Listing) -> Counter[int]:
        """How often each instruction was executed, by its address. LutError for code that objdump did not list."""
        counts: Counter[int] = Counter()
        for (address, length), times in self.blocks.items():
            for _ in range(length):
                if address not in listing:
                    raise LutError(f"address {address:#x} was executed, but is no instruction of the image")
                counts[address] += times
                address = listing[address].next
        return counts


def regions(lines: Iterable[str]) -> list[Region]:
    """Of the plugin's file. LutError when it is damaged, as by a simulator that was killed."""
    found: list[Region] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            match words[0]:
                case "R":
                    found.append(Region(int(words[1])))
                case "B":
                    found[-1].blocks[int(words[1], 16), int(words[2])] += int(words[3])
                case "E":
                    found[-1].edges[int(words[1], 16), int(words[2], 16)] += int(words[3])
                case "U":
                    found[-1].unaligned[int(words[1], 16)] += int(words[2])
                case "F":
                    found[-1].fetched, found[-1].loaded = int(words[1]), int(words[2])
                case _:
                    raise ValueError
        except (ValueError, IndexError):
            raise LutError(f"counts:{number}: no record of the plugin: {line.strip()!r}") from None
    return found


def listing(disassembly: str) -> dict[int, Instruction]:
    """By address, from `objdump -d --no-show-raw-insn`."""
    lines = re.findall(r"^ *([0-9a-f]+):\t(\S+)(?:[ \t]+(.*))?$", disassembly, re.MULTILINE)
    addresses = [int(address, 16) for address, _, _ in lines]
    following = [*addresses[1:], -1]
    return {
        address: Instruction(re.sub(r"\.[nw]$", "", mnemonic), re.split(r"[;@]|\s#\s", operands)[0].strip(), after)
        for address, after, (_, mnemonic, operands) in zip(addresses, following, lines)
    }
