"""The Cortex-M4 cycle model on snippets whose cycles the Technical Reference Manual gives."""

from __future__ import annotations

from collections import Counter

import pytest

from lut.errors import LutError
from lut.mcu.cortex_m4 import cycles, register_count
from lut.mcu.trace import Region, listing, regions


def code(*lines: str) -> dict:
    """Instructions of four bytes each, from address 0."""
    return listing("\n".join(f"{4 * i:8x}:\t{line}" for i, line in enumerate(lines)))


def straight(*lines: str) -> int:
    """Cycles of executing them once, after a branch to the first."""
    return cycles(Region(len(lines), Counter({(0, len(lines)): 1})), code(*lines))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["add\tr0, r1", "smlad\tr0, r1, r2, r0", "smmlar\tr0, r1, r2, r3", "smlal\tr0, r1, r2, r3"], 4),
        (["uxtb16\tr0, r1, ror #8", "movs\tr0, #1", "usat\tr0, #8, r0", "uqsub8\tr0, r1, r2", "itt\tgt"], 5),
        (["ldr\tr0, [r1, #0]"], 2),
        (["ldr\tr0, [r1]", "ldr\tr1, [r2]"], 3),
        (["ldr\tr0, [r1, r2]", "str\tr0, [r3, #20]"], 3),
        (["ldr\tr0, [r1, r2]", "str\tr1, [r3, r2]"], 3),
        (["ldr\tr0, [r1, r5]", "ldr\tr1, [r2]", "ldr\tr2, [r3, #4]"], 4),
        (["ldr\tr0, [r1]", "ldr\tr2, [r0]"], 4),
        (["ldrb\tr0, [r1], #1", "strb\tr0, [r2, r3]"], 3),
        (["str\tr0, [r1, #4]", "ldr\tr2, [r1]"], 3),
        (["str\tr0, [r1, r2]"], 2),
        (["ldmia.w\tr0!, {r4, r5, r6}"], 4),
        (["stmia\tr0!, {r1-r8}"], 9),
        (["push\t{r4, r5, lr}", "ldrd\tr0, r1, [sp, #8]"], 7),
        (["ldr\tr0, [r1]", "ldmia.w\tr2!, {r4, r5}"], 5),
        (["add.w\tr0, r1, r2", "ldr\tr3, [r0, #4]"], 4),
        (["add.w\tr0, r1, r2", "ldr\tr3, [r1, r2]"], 3),
        (["smlad\tr3, r1, r2, r3", "ldmia.w\tr3!, {r4, r5}"], 5),
        (["bne.n\t0 <loop>"], 1),
        (["sdiv\tr0, r1, r2"], 7),
    ],
)
def test_the_manuals_pairs(lines: list[str], expected: int) -> None:
    assert straight(*lines) == expected


def test_a_taken_branch_refills_the_pipeline_and_pairs_with_nothing() -> None:
    """ldr; ldr; subs; bne, five times round: the first load never pairs."""
    program = code("ldr\tr0, [r1], #4", "ldr\tr3, [r2], #4", "subs\tr4, #1", "bne.n\t0 <loop>", "nop")
    region = Region(20, Counter({(0, 4): 5}), Counter({(12, 0): 4, (12, 16): 1}))
    assert cycles(region, program) == 5 * (2 + 1 + 1 + 1) + 4 * 2


def test_entered_from_both_sides() -> None:
    """The second load pairs only where the first came before it."""
    program = code("ldr\tr0, [r1]", "ldr\tr2, [r3]", "b.n\t4 <x>")
    region = Region(7, Counter({(0, 3): 1, (4, 2): 2}), Counter({(8, 4): 2}))
    assert cycles(region, program) == 2 + (1 + 2 * 2) + 3 + 2 * 2


def test_unaligned_accesses_cost_what_was_counted() -> None:
    region = Region(1, Counter({(0, 1): 3}), unaligned=Counter({0: 4}))
    assert cycles(region, code("ldr\tr0, [r1]")) == 3 * 2 + 4


def test_register_lists() -> None:
    assert [register_count(text) for text in ("{r4}", "r0!, {r4-r7, lr}", "{r4-r9, sl, fp, pc}")] == [1, 5, 9]


def test_an_unknown_instruction_is_an_error() -> None:
    with pytest.raises(LutError, match=r"no cycles are known for vfma.f32 s0, s1"):
        straight("vfma.f32\ts0, s1, s2")


def test_code_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(LutError, match=r"address 0x40 was executed"):
        Region(1, Counter({(0x40, 1): 1})).times(code("nop"))


def test_counts_of_a_plugin_are_read() -> None:
    (region,) = regions(["R 7", "B 100 3 2", "E 108 100 1", "U 104 5"])
    assert (region.instructions, region.blocks, region.edges) == (7, {(0x100, 3): 2}, {(0x108, 0x100): 1})
    assert region.unaligned == {0x104: 5}


@pytest.mark.parametrize("line", ["X 1", "B 1", "R", "B zz 1 1", ""])
def test_damaged_counts_are_an_error(line: str) -> None:
    with pytest.raises(LutError, match=r"counts:2: no record of the plugin"):
        regions(["R 1", line])
