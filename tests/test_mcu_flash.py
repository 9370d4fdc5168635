"""Reads of flash behind caches, counted by the plugin, against closed forms; and what they cost a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kernel_toys import conv
from mcu_toys import needs_toolchain
from test_mcu_project import images, program

from deploy.c_project import write
from deploy.mcu import simulate
from deploy.predict import rows_of
from lut.build import build_table
from lut.device import Device
from lut.machine import differences, this_machine
from lut.mcu import emit, rows
from lut.mcu.flash import plugin_options, waits
from lut.mcu.trace import Region, regions
from lut.profilers.mcu import random_arguments

pytestmark = needs_toolchain

BOARD = Device.load("stm32l4r5")
SPEC = conv(32, 32, 8, 1)


def stalls(body: str) -> int:
    """Reads of flash of a kernel with this body, the empty body's apart."""
    kernels = []
    for symbol, text in (("empty", ""), ("full", body)):
        made = emit.kernel(SPEC)
        source = f'#include "stage.h"\nKERNEL({symbol}) {{\n(void)in2; (void)bias; (void)mult; (void)params;\n'
        source += "(void)workspace; (void)in; (void)out; (void)weights;\n" + text + "}\n"
        kernels.append(replace(made, symbol=symbol, source=source))
    empty, full = rows.execute(BOARD, kernels, [random_arguments(kernel) for kernel in kernels])
    assert (full.waits - empty.waits) % BOARD.wait_states == 0
    return (full.waits - empty.waits) // BOARD.wait_states


def loads(name: str, words: int, passes: int, step: int = 1) -> str:
    return (
        f"for (int pass = 0; pass < {passes}; pass++)\n"
        f"    for (int i = 0; i < {words}; i += {step}) (void)((const volatile uint32_t *){name})[i];\n"
    )


def test_data_is_read_once_while_it_fits() -> None:
    """Lines of 32 bytes, eight of them, in reads of 8; a ninth line makes every pass read all again."""
    base = stalls(loads("in", 64, 3))
    assert base < 12  # the loop itself, and nothing for RAM
    assert stalls(loads("weights", 64, 1)) - base == pytest.approx(32, abs=1)
    assert stalls(loads("weights", 64, 3)) - base == pytest.approx(32, abs=1)
    assert stalls(loads("weights", 72, 3)) - base == pytest.approx(3 * 36, abs=1)
    assert stalls(loads("weights", 64, 1, 8)) - base == pytest.approx(8, abs=1)  # one read of every line


def test_instructions_are_fetched_once_while_they_fit() -> None:
    """Two bytes each: 480 are 960 bytes of the cache's 1024; 640 do not fit, and every pass fetches them again."""

    def code(count: int, passes: int) -> int:
        return stalls(
            f'for (int pass = 0; pass < {passes}; pass++) __asm__ volatile(".rept {count}\\n nop\\n .endr\\n");\n'
        )

    assert code(480, 1) == pytest.approx(120, abs=6)
    assert code(480, 9) == code(480, 8) == pytest.approx(120, abs=6)
    assert code(640, 5) == pytest.approx(5 * 160, abs=20)


def test_a_networks_waits_are_its_rows(tmp_path: Path) -> None:
    net = program(8)
    ran = simulate(write(net, BOARD, tmp_path / "net"), net, BOARD, images(5))
    table = build_table(BOARD, [op.spec for op in net.ops], tmp_path / "b.csv", every_row=True, progress=False)
    assert 0.05 * ran.cycles < ran.waits < 0.5 * ran.cycles
    assert sum(row.us for row in rows_of(net, table).values()) == pytest.approx(ran.us, rel=0.03)


def test_without_wait_states_nothing_is_asked_and_tables_tell_them_apart() -> None:
    none = replace(BOARD, wait_states=0)
    assert plugin_options(none) == "" and waits(none, Region(1, fetched=9)) == 0
    assert waits(BOARD, Region(1, fetched=9, loaded=4)) == 65
    assert [text.partition(":")[0] for text in differences(this_machine(BOARD), this_machine(none))] == ["cpu"]


def test_reads_are_read_from_the_counts() -> None:
    (region,) = regions(["R 7", "F 12 34"])
    assert (region.fetched, region.loaded) == (12, 34)
