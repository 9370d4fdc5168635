"""Classes of RISC-V instructions on snippets that were counted by hand, and what a fit makes of samples."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from lut.errors import LutError
from lut.mcu.cycles import RISCV_CORES
from lut.mcu.fit import Sample, errors, fit
from lut.mcu.riscv import CLASSES, FITS, classes, cycles, fitted, needs, result
from lut.mcu.trace import Instruction, Region, listing


def code(*lines: str, at: int = 0, size: int = 4) -> dict:
    return listing("\n".join(f"{at + size * i:8x}:\t{line}" for i, line in enumerate(lines)))


def straight(*lines: str) -> Counter:
    return classes(Region(len(lines), Counter({(0, len(lines)): 1})), code(*lines))


def test_every_instruction_has_its_class() -> None:
    said = straight(
        "lw\ta0,8(a1)", "mul\ta2,a3,a4", "mulhu\ta2,a3,a4", "sw\ta2,0(a1)", "beqz\ta2,4 <x>", "j\t4 <x>", "ret"
    )
    assert said == {
        **dict.fromkeys(("marks", "load", "mul", "mulh", "store", "branch", "jump", "indirect"), 1),
        "split": 0,
    }


@pytest.mark.parametrize(
    ("pair", "waits"),
    [
        (("lw\ta0,0(a1)", "add\ta2,a0,a3"), 1),
        (("lw\ta0,0(a1)", "add\ta0,a2,a3"), 0),
        (("lbu\ta0,0(a1)", "sw\ta0,0(a2)"), 1),
        (("lw\ta0,0(a1)", "lw\ta2,0(a0)"), 1),
        (("lw\ta0,0(a1)", "li\ta0,3"), 0),
        (("lw\tra,0(sp)", "ret"), 1),
        (("add\ta0,a1,a2", "add\ta3,a0,a2"), 0),
        (("sw\ta0,0(a1)", "add\ta2,a0,a0"), 0),
    ],
)
def test_what_waits_for_a_load(pair: tuple[str, str], waits: int) -> None:
    assert straight(*pair)["load_use"] == waits


def test_a_load_is_not_waited_for_by_what_was_jumped_to() -> None:
    """lw; add; bne to the add, five times: once behind the load."""
    program = code("lw\ta0,0(a1)", "add\ta2,a0,a2", "bnez\ta2,4 <x>", "nop")
    region = Region(12, Counter({(0, 3): 1, (4, 2): 4}), Counter({(8, 4): 4, (8, 12): 1}))
    said = classes(region, program)
    assert (said["load_use"], said["taken"], said["branch"], said["target"]) == (1, 4, 5, 0)


def test_a_target_across_two_words_is_counted() -> None:
    program = code("add\ta2,a0,a2", "bnez\ta2,2 <x>", "nop", at=2)
    assert classes(Region(8, Counter({(2, 2): 4}), Counter({(6, 2): 3})), program)["target"] == 3
    short = {2: Instruction("add", "a2,a0,a2", 4), 4: Instruction("bnez", "a2,2 <x>", 6)}
    assert classes(Region(8, Counter({(2, 2): 4}), Counter({(4, 2): 3})), short)["target"] == 0


def test_registers() -> None:
    store = Instruction("sw", "a0,-4(s11)", 4)
    assert (result(store), needs(store)) == ("", {"a0", "s11"})
    load = Instruction("lbu", "t0,12(sp)", 4)
    assert (result(load), needs(load)) == ("t0", {"sp"})


def test_an_unknown_instruction_is_an_error() -> None:
    with pytest.raises(LutError, match="riscv: no cycles are known for div a0,a1,a2"):
        straight("div\ta0,a1,a2")


def test_a_fit_finds_the_cycles_that_made_its_samples() -> None:
    rng, true = np.random.default_rng(0), dict(zip(CLASSES, np.arange(1, 1 + len(CLASSES)) / 2))
    counts = [Counter({name: int(rng.integers(1, 1000)) for name in CLASSES}) for _ in range(40)]
    samples = [Sample("k", c, round(sum(true[n] * v for n, v in c.items()))) for c in counts]
    found = fit(samples)
    assert found == pytest.approx(true, abs=0.02) and np.abs(errors(samples, found)).max() < 1e-3
    assert min(fit([Sample("k", counts[0], 1), *samples]).values()) >= 0


@pytest.mark.parametrize("core", RISCV_CORES)
def test_the_fits_that_ship(core: str) -> None:
    """Their cycles are those of the cores' manuals."""
    price, made = fitted(core), json.loads((FITS / f"{core}.json").read_text())
    known = {"ibex": {"mulh": 2, "taken": 1}, "cv32e40p": {"mulh": 5, "taken": 2}}[core]
    always = dict.fromkeys(("alu", "mul", "load", "load_use", "store", "branch"), 1)
    for name, count in (always | {"jump": 2} | known).items():
        assert price[name] == pytest.approx(count, abs=0.01), name
    assert set(price) == set(CLASSES) and made["held_out"]["kernels"] >= 20
    assert made["held_out"]["largest_error"] < 0.005


def test_a_core_without_a_fit() -> None:
    with pytest.raises(LutError, match=r"there is no fit; make it: python scripts/fit_cycles\.py"):
        cycles(Region(0), {}, "rocket")
