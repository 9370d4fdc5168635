"""Kernels and networks in RTL: outputs as in QEMU, cycles as the fit says, and nothing hangs or is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_toys import POOLS, conv
from mcu_toys import CV32E40P, IBEX, VEXRISCV, needs_riscv, needs_rtl
from test_mcu_project import images, program

from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import build, on_rtl, simulate, write_images
from deploy.predict import rows_of
from lut.build import build_table
from lut.device import Device
from lut.errors import LutError
from lut.mcu import emit, rtl, toolchain
from lut.mcu.fit import errors, observe
from lut.mcu.riscv import fitted
from lut.mcu.rows import build as build_rows
from lut.mcu.rows import declare
from lut.mcu.rtl import run_rtl
from lut.process import Hang
from lut.profilers.mcu import McuProfiler
from lut.spec import Latency

BOTH = pytest.mark.parametrize("device", [IBEX, CV32E40P], ids=lambda device: device.name)
MOVED = [replace(POOLS[name], c_in=7, c_out=other) for name, other in (("pad", 7), ("split", 6), ("concat", 11))]
SPECS = [conv(12, 10, 5, 3), conv(16, 8, 4, 3, 4), conv(7, 9, 5, 1, 2), replace(conv(12, 12, 7, 3), groups=12),
         conv(8, 5, 3, 3, 4, residual=True), POOLS["add"], POOLS["max"], POOLS["global"], *MOVED]  # fmt: skip


@needs_rtl
@needs_riscv
@BOTH
def test_cycles_are_those_of_the_fit(device: Device) -> None:
    """Of kernels that it was not fitted on; `observe` compares the outputs."""
    assert device.core is not None
    samples = observe(device, [emit.kernel(spec, "packed") for spec in SPECS])
    assert np.abs(errors(samples, fitted(device.core.rtl))).max() < 0.001
    assert sum(sample.counts["split"] for sample in samples) > 50


@needs_rtl
@needs_riscv
@BOTH
def test_a_network_in_rtl(device: Device, tmp_path: Path) -> None:
    """Scores are the reference's, cycles the rows', RAM as planned."""
    net = program(4)
    project = write(net, device, tmp_path / "net")
    ran = simulate(project, net, device, images(100))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(100)))
    assert (ran.source, ran.ram_bytes) == ("rtl", project.ram_bytes) and 0 < ran.stack_bytes < 2048
    table = build_table(device, [op.spec for op in net.ops], tmp_path / "t.csv", every_row=True, progress=False)
    rows = rows_of(net, table)
    assert {row.source for row in table.values()} == {"cycle-model"}
    assert sum(row.us for row in rows.values()) == pytest.approx(ran.us, rel=0.02)


@needs_rtl
@needs_riscv
def test_other_scores_in_rtl_are_an_error(tmp_path: Path) -> None:
    elf = build(write(program(8), IBEX, tmp_path), IBEX)
    with pytest.raises(LutError, match="small_8: RTL's scores are not QEMU's"):
        on_rtl(elf, IBEX, images(1), bytes(20))


def network_of(body: str, folder: Path, device: Device = IBEX) -> Path:
    """An image whose network does something else."""
    project = write(program(8), device, folder)
    source = folder / f"{project.name}.c"
    text = source.read_text()
    start = text.index(f"void {project.name}_run")
    source.write_text(text[:start] + f"void {project.name}_run(const uint8_t *image, int16_t *scores) {{\n{body}\n}}\n")
    write_images(images(1), folder)
    return build(project, device)


@needs_rtl
@needs_riscv
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('__asm__ volatile(".word 0");', "exit status 99: fault: a trap went to 0x00000000"),
        ("*(volatile int *)0x20000000 = 1;", "exit status 99: fault: no memory at 0x20000000"),
        ("(void)*(volatile int *)0x1000;", "exit status 99: fault: no memory at 0x00001000"),
    ],
)
@pytest.mark.parametrize("device", [IBEX, VEXRISCV], ids=lambda device: device.name)
def test_a_fault_in_rtl_is_told(device: Device, body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(LutError, match=said):
        run_rtl(device, network_of(body, tmp_path, device), tmp_path, 60)


@needs_rtl
@needs_riscv
def test_a_hang_in_rtl_is_killed(tmp_path: Path) -> None:
    image = network_of('for (;;) __asm__ volatile("");', tmp_path)
    with pytest.raises(Hang, match=r"ibex-[0-9a-f]{16}: the image did not end within 1 s"):
        run_rtl(IBEX, image, tmp_path, 1)
    running = subprocess.run(["ps", "-A", "-o", "ppid=,comm="], capture_output=True, text=True, check=True).stdout
    assert f"{os.getpid()} ibex-" not in running


@needs_riscv
def test_a_fault_and_a_hang_in_qemu_are_rows_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, bodies = emit.kernel, {21: "for (;;);", 22: "__builtin_trap();"}

    def other(spec, storage):
        made = kernel(spec, storage)
        start = made.source.index("    const struct conv")
        return replace(made, source=f"{made.source[:start]}{bodies[spec.c_out]}}}\n") if spec.c_out in bodies else made

    monkeypatch.setattr("lut.mcu.emit.kernel", other)
    specs = [SPECS[0], conv(8, 21, 4, 1), conv(8, 22, 4, 1)]
    answers = dict(McuProfiler(seconds=1.5).measure(specs, IBEX))
    fine, hang, fault = (answers[spec] for spec in specs)
    assert isinstance(fine, Latency) and fine.source == "cycle-model" and fine.us == pytest.approx(fine.cycles / 100)
    assert str(hang).endswith("qemu-system-riscv32: the image did not end within 1.5 s")
    assert "fault: status 0x0000000" in str(fault)


@needs_riscv
def test_the_project_builds_alone(tmp_path: Path) -> None:
    """Moved elsewhere, with nothing but its own files."""
    project = write(program(8), IBEX, tmp_path / "net")
    moved = replace(project, folder=Path(shutil.move(project.folder, tmp_path / "elsewhere")))
    assert build(moved, IBEX).exists()
    makefile = (moved.folder / "Makefile").read_text()
    assert "qemu-system-riscv32 -bios none -M virt" in makefile and str(tmp_path) not in makefile
    assert "smlad" not in "".join(path.read_text() for path in moved.folder.glob("*.h"))


@needs_riscv
def test_a_kernel_of_an_image_lies_at_a_multiple_of_four(tmp_path: Path) -> None:
    """So its cycles do not depend on the image."""
    made = emit.kernel(SPECS[0], "packed")
    (one,) = declare(IBEX, [made], tmp_path)
    assert one.exists()
    image, _ = build_rows(IBEX, [emit.kernel(spec, "packed") for spec in SPECS], tmp_path)
    names = subprocess.run([toolchain.toolchain("riscv").nm, str(image)], capture_output=True, text=True, check=True)
    (address,) = (int(line.split()[0], 16) for line in names.stdout.splitlines() if line.endswith(made.symbol))
    assert address % 4 == 0


def renamed(**fields: str) -> Device:
    assert IBEX.core is not None
    return replace(IBEX, core=replace(IBEX.core, **fields))


def test_what_is_wrong_with_a_device_is_said(tmp_path: Path) -> None:
    with pytest.raises(LutError, match=r"core.rtl: 'ibx' is unknown; did you mean ibex"):
        run_rtl(renamed(rtl="ibx"), tmp_path, tmp_path, 1)
    with pytest.raises(LutError, match=r"device rv32-ibex: core.rtl is missing; it names the RTL to simulate: ibex"):
        run_rtl(renamed(rtl=""), tmp_path, tmp_path, 1)
    with pytest.raises(LutError, match=r"core.cycle_model: 'cv32e40' is unknown; did you mean cv32e40p"):
        list(McuProfiler().measure(SPECS, renamed(cycle_model="cv32e40")))


@pytest.fixture
def fresh() -> Callable[[], None]:
    """Forget what was found on this machine."""

    def forget() -> None:
        for cached in (toolchain.toolchain, rtl.versions, rtl.simulator):
            cached.cache_clear()

    forget()
    yield forget
    forget()


def test_what_is_missing_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            LutError, match=r"riscv64-unknown-elf-gcc: not found; install it: make toolchain, or apt-get"
        ):
            list(McuProfiler().measure(SPECS, IBEX))
        with pytest.raises(LutError, match=r"verilator: not found; install it: make toolchain, or apt-get"):
            rtl.simulator("ibex")
    tool = tmp_path / "verilator"
    tool.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setitem(__import__("sys").modules, "pythondata_cpu_ibex", None)
    with pytest.raises(LutError, match=r"pythondata-cpu-ibex: not found; install it: pip install 'lutier\[rtl\]'"):
        rtl.simulator("ibex")


def test_a_simulator_that_is_not_built_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    pytest.importorskip("pythondata_cpu_ibex", reason="pip install 'lutier[rtl]'")
    tool = tmp_path / "bin" / "verilator"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Verilator 5.006 || { echo no room >&2; exit 1; }\n')
    tool.chmod(0o755)
    for name in ("g++", "make"):
        (tool.parent / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(LutError, match="verilator: no room"):
        rtl.simulator("ibex")
    assert list((tmp_path / "cache" / "lutier" / "rtl").iterdir()) == []
