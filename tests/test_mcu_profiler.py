"""Rows of microcontrollers: the same number every time, resumed, and every failure an answer with its reason."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_toys import POOLS, conv
from mcu_toys import M4, needs_toolchain

from lut import LatencyTable
from lut.build import build_table, profiler_of
from lut.errors import LutError
from lut.machine import differences, this_machine
from lut.mcu import emit, rows, toolchain
from lut.process import Hang
from lut.profilers.base import Built, Failure
from lut.profilers.journal import Journal
from lut.profilers.mcu import McuProfiler, latency
from lut.spec import Latency

SPECS = [conv(8, 4, 4, 3), conv(8, 6, 4, 1, 4), POOLS["add"]]


def broken(monkeypatch: pytest.MonkeyPatch, bodies: dict[int, str]) -> None:
    """Kernels of so many output channels have another body."""
    kernel = emit.kernel

    def other(spec, storage):
        made = kernel(spec, storage)
        body = bodies.get(spec.c_out)
        start = made.source.index("    const struct conv")
        return made if body is None else replace(made, source=made.source[:start] + body + "}\n")

    monkeypatch.setattr("lut.mcu.emit.kernel", other)


@needs_toolchain
def test_a_row_is_the_same_number_every_time_and_in_any_company() -> None:
    first = dict(McuProfiler().measure(SPECS, M4))
    assert first == dict(McuProfiler(batch=1).measure(reversed(SPECS), M4))
    for row in first.values():
        assert isinstance(row, Latency)
        assert (row.source, row.n, row.p10, row.p90) == ("cycle-model", 1, row.us, row.us)
        assert row.cycles is not None and row.us == pytest.approx(row.cycles / 120) and row.code_bytes > 50


@needs_toolchain
def test_what_breaks_is_an_answer_and_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = {
        21: '    for (;;) __asm__ volatile("");\n',
        22: "    __builtin_trap();\n",
        23: "    ((char *)out)[COUNT] = 0;\n".replace("COUNT", str(16 * 23)),
        24: "    this is no C;\n",
    }
    broken(monkeypatch, bodies)
    specs = [*SPECS, *(conv(8, c_out, 4, 1) for c_out in bodies)]
    answers = dict(McuProfiler(seconds=1.5).measure(specs, M4))
    assert all(isinstance(answers[spec], Latency) for spec in SPECS)
    hang, fault, over, wrong = (answers[spec] for spec in specs[len(SPECS) :])
    assert hang == Failure("timeout", "qemu-system-arm: the image did not end within 1.5 s")
    assert fault.reason == "error" and "fault: status 0x00010000" in fault.detail
    assert "wrote behind one of its arguments" in over.detail
    assert "error: unknown type name" in wrong.detail
    running = subprocess.run(["ps", "-A", "-o", "ppid=,comm="], capture_output=True, text=True, check=True).stdout
    assert f"{os.getpid()} qemu-system" not in running


@needs_toolchain
def test_a_table_is_built_and_an_interrupted_one_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m4.csv"
    with Journal.open(tmp_path / "m4.journal.jsonl", this_machine(M4)) as journal:
        (first, *_) = McuProfiler(batch=1, journal=journal).measure(SPECS[:1], M4)
    broken(monkeypatch, {SPECS[0].c_out: "    this would not compile;\n"})
    table = build_table(M4, SPECS, path, every_row=True, progress=False)
    read = LatencyTable.read(path)
    assert dict(table) == dict(read) and table[first[0]] == first[1]
    assert {row.source for row in read.values()} == {"cycle-model"}
    assert read.provenance["cpu"] == "cortex-m4 at 120 MHz, mps2-an386, cycles by cortex-m4"


@needs_toolchain
def test_a_row_whose_record_was_removed_from_the_journal_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "m4.journal.jsonl"
    with Journal.open(path, this_machine(M4)) as journal:
        expected = dict(McuProfiler(journal=journal).measure(SPECS[:2], M4))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"built"' not in line))
    with Journal.open(path, this_machine(M4)) as journal:
        assert dict(McuProfiler(journal=journal).measure(SPECS[:2], M4)) == expected


@needs_toolchain
def test_provenance_is_the_simulated_cores() -> None:
    machine, faster = this_machine(M4), this_machine(replace(M4, clock=168e6))
    assert "arm-none-eabi-gcc" in machine["compiler"] and "mps2-an386" in machine["profiler"]
    assert [text.partition(":")[0] for text in differences(machine, faster)] == ["cpu"]
    assert M4.core is not None
    spread = this_machine(replace(M4, core=replace(M4.core, places=3)))
    assert spread["cpu"] == "cortex-m4 at 120 MHz, mps2-an386, cycles by cortex-m4, median of 3 places"
    for other in (replace(M4, act_storage="byte"), replace(M4, core=replace(M4.core, flags=("-O1",)))):
        assert [text.partition(":")[0] for text in differences(machine, this_machine(other))] == ["flags"]


def test_a_simulator_that_always_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def execute(device: object, kernels: list[object], *_: object) -> None:
        asked.append(len(kernels))
        raise Hang("qemu: the image did not end within 60 s")

    monkeypatch.setattr(rows, "execute", execute)
    specs = [conv(8, c_out, 4, 1) for c_out in range(8, 24)]
    with pytest.raises(LutError, match=r"cortex-m4: 3 rows one after another: timeout: qemu: the image did not end"):
        list(McuProfiler().measure(specs, M4))
    assert asked == [16, 8, 4, 2, 1, 1, 2, 1]


def test_what_is_wrong_with_a_device_is_said() -> None:
    assert M4.core is not None
    with pytest.raises(LutError, match=r"core.cycle_model: 'cortex-m5' is unknown; did you mean cortex-m4"):
        list(McuProfiler().measure(SPECS, replace(M4, core=replace(M4.core, cycle_model="cortex-m5"))))
    with pytest.raises(LutError, match=r"core.machine: 'mps2-an38' is unknown; did you mean mps2-an386"):
        list(McuProfiler().measure(SPECS, replace(M4, core=replace(M4.core, machine="mps2-an38"))))
    with pytest.raises(LutError, match=r"cortex-m4: ram: 8388608 bytes; board mps2-an386 has 4194304"):
        list(McuProfiler().measure(SPECS, replace(M4, ram=8 << 20)))
    with pytest.raises(LutError, match="schedules: 2; a microcontroller's kernels have one"):
        list(replace(profiler_of(M4), schedules=2).measure(SPECS, M4))


def test_without_a_toolchain_an_error_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    toolchain.toolchain.cache_clear()
    with pytest.raises(LutError, match=r"arm-none-eabi-gcc: not found; install it: make toolchain, or apt-get install"):
        list(McuProfiler().measure(SPECS, M4))
    assert this_machine(M4)["compiler"].startswith("none: arm-none-eabi-gcc: not found; install it: make toolchain")
    old = tmp_path / "arm-none-eabi-gcc"
    old.write_text("#!/bin/sh\necho 'arm-none-eabi-gcc (15:8-2019-q3-1+b1) 8.3.1 20190703'\n")
    old.chmod(0o755)
    with pytest.raises(LutError, match=r"arm-none-eabi-gcc: version 8.3.1 is too old, 10 is the least; make toolchain"):
        toolchain.toolchain()
    monkeypatch.undo()
    toolchain.toolchain.cache_clear()


@needs_toolchain
def test_a_row_of_several_places_is_their_median_and_the_journal_keeps_them(tmp_path: Path) -> None:
    """Memory without a cache: every place costs the same, and their outputs are compared."""
    assert M4.core is not None
    device = replace(M4, core=replace(M4.core, places=3))
    path = tmp_path / "m4.csv"
    table, alone = (
        build_table(device, SPECS, path, every_row=True, progress=False),
        dict(McuProfiler().measure(SPECS, M4)),
    )
    for spec, row in alone.items():
        assert isinstance(row, Latency) and table[spec] == replace(row, n=3)
    with Journal.open(tmp_path / "m4.journal.jsonl", this_machine(device)) as journal:
        assert all(len(runs) == 3 for (runs,) in journal.samples.values()) and len(journal.samples) == len(SPECS)
        assert dict(McuProfiler(journal=journal).measure(SPECS, device)) == dict(table)


def test_places() -> None:
    assert not rows.gaps(0).any()
    several = np.array([rows.gaps(place) for place in range(1, 9)])
    assert (several % 64 == 0).all() and (several < rows.SPREAD).all()
    assert all(len(np.unique(each)) > 5 for each in several.T)
    assert M4.core is not None
    with pytest.raises(ValueError, match=r"core.places: 0 is not positive"):
        replace(M4.core, places=0)


def test_quantiles_of_a_row_enclose_its_median() -> None:
    assert M4.clock is not None
    built = Built(b"", 0, 100)
    two, five = (latency(runs, M4, built, "rtl") for runs in ([240, 120], [120, 600, 240, 480, 360]))
    assert (two.us, two.p10, two.p90, two.n, two.cycles) == (1.0, 1.0, 2.0, 2, 120)
    assert (five.us, five.p10, five.p90, five.cycles) == (3.0, 1.0, 5.0, 360)


def test_an_output_that_depends_on_the_place_is_refused(tmp_path: Path) -> None:
    kernel = emit.kernel(SPECS[0], "byte")
    record = np.r_[np.frombuffer(np.uint32(40).tobytes(), np.uint8), np.arange(kernel.sizes["out"]) % 251]
    other = record.copy()
    other[:4] = np.frombuffer(np.uint32(48).tobytes(), np.uint8)
    np.r_[record, other].astype(np.uint8).tofile(tmp_path / "rows.out")
    ((stack, output),) = rows.read_outputs([kernel], tmp_path, 2)
    assert stack == 48 and np.array_equal(output, record[4:])
    other[-1] += 1
    np.r_[record, other].astype(np.uint8).tofile(tmp_path / "rows.out")
    with pytest.raises(LutError, match="its output depends on where its arguments lie"):
        rows.read_outputs([kernel], tmp_path, 2)
