"""Boards on a serial line: the protocol against what a line can do wrong, and rows and networks over a pseudo-terminal
behind which QEMU runs the boards' own firmware."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import flash_qemu
import numpy as np
import pytest
from kernel_toys import POOLS, SHAPES, conv
from mcu_toys import M4, compare, needs_toolchain
from test_lut_process import ends
from test_mcu_profiler import broken
from test_mcu_project import images, program

import lut.mcu.board
from deploy.board import run_on_board
from deploy.c_project import write
from deploy.integer import run_program
from deploy.mcu import build
from lut.build import build_table
from lut.device import Device, Serial
from lut.errors import LutError
from lut.mcu import board_rows, emit
from lut.mcu.board import CONSENT, flash, serial_of
from lut.mcu.image import memories
from lut.mcu.serial_line import SerialLine, Silent, Unreachable, open_line
from lut.profilers.base import Failure
from lut.profilers.mcu import McuProfiler
from lut.spec import Latency

NUCLEO = Device.load("nucleo-l4r5zi")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A Cortex-M4 behind a pseudo-terminal."""
    pytest.importorskip("serial", reason="needs pyserial: pip install 'lutier[serial]'")
    monkeypatch.setenv(CONSENT, "1")
    port = tmp_path / "port"
    command = (sys.executable, str(Path(flash_qemu.__file__)), "{image}", str(port))
    yield replace(M4, name="m4-board", runner="serial", serial=Serial(str(port), flash=command, seconds=5.0))
    flash_qemu.stop(port)


@needs_toolchain
def test_rows_on_a_board_are_equal_to_the_oracle(board: Device) -> None:
    specs = [*(SHAPES[name] for name in ("odd", "residual", "depthwise", "linear")), *POOLS.values()]
    results = compare(specs, device=board, execute=board_rows.execute)
    assert all(0 < result.stack_bytes < 2048 and result.cycles > 0 for result in results)


@needs_toolchain
def test_a_table_of_a_board_survives_what_breaks(
    board: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(
        monkeypatch,
        {
            21: '    for (;;) __asm__ volatile("");\n',
            22: "    __builtin_trap();\n",
            23: "    ((char *)out)[368] = 0;\n",
        },
    )
    specs = [conv(8, 4, 4, 3), *(conv(8, c_out, 4, 1) for c_out in (21, 22, 23)), POOLS["add"]]
    assert board.serial is not None
    quick = replace(board, serial=replace(board.serial, seconds=1.0))
    answers = dict(McuProfiler().measure(specs, quick))
    good = [answers[spec] for spec in (specs[0], specs[-1])]
    assert all(isinstance(row, Latency) and row.source == "board" for row in good)
    failures = [str(answers[spec]) for spec in specs[1:4]]
    assert all(isinstance(answers[spec], Failure) for spec in specs[1:4])
    assert "timeout" in failures[0] and "the board hangs" in failures[0]
    assert "the board says: " in failures[1] or "fault" in failures[1]
    assert "wrote behind one of its arguments" in failures[2]
    table = build_table(quick, [specs[0]], tmp_path / "board.csv", every_row=True, progress=False)
    assert table.provenance["cpu"] == "cortex-m4 at 120 MHz, mps2-an386"


@needs_toolchain
def test_a_network_on_a_board_is_equal_to_its_reference(board: Device, tmp_path: Path) -> None:
    net = program(4)
    project = write(net, board, tmp_path / "net")
    ran = run_on_board(project, net, board, images(20))
    np.testing.assert_array_equal(ran.scores, run_program(net, images(20)))
    assert (ran.source, ran.ram_bytes) == ("board", project.ram_bytes)
    assert ran.cycles > 0 and 0 < ran.stack_bytes < 2048


@needs_toolchain
def test_another_program_on_the_board_is_found_out(board: Device, tmp_path: Path) -> None:
    project = write(program(8), board, tmp_path / "net")
    with pytest.raises(Unreachable, match=r"the board runs 'small_8-[0-9a-f]{8}', not 'other'; flash it again"):
        run_on_board(replace(project, program="other"), program(8), board, images(1))


@needs_toolchain
def test_the_nucleo_links_rows_and_networks_where_its_memories_are(tmp_path: Path) -> None:
    """Not run: there is no board here."""
    project = write(program(8), NUCLEO, tmp_path / "net")
    elf = build(project, NUCLEO)
    assert memories(NUCLEO, elf)["ram"] == project.ram_bytes
    rows, _ = board_rows.build(NUCLEO, [emit.kernel(conv(8, 4, 4, 3))], tmp_path, "1")
    for image in (elf, rows):
        header = image.read_bytes()
        entry = int.from_bytes(header[24:28], "little")
        assert 0x08000000 <= entry < 0x08000000 + (2 << 20)
    assert memories(NUCLEO, rows)["ram"] <= 640 << 10
    assert (
        "openocd -f board/st_nucleo_l4.cfg -c 'program small_8.elf verify" in (project.folder / "Makefile").read_text()
    )


def test_a_board_without_firmware_for_its_line_is_refused(tmp_path: Path) -> None:
    assert M4.core is not None
    core = replace(M4.core, machine="mps2-an500")
    other = replace(M4, name="m7", core=core, runner="serial", serial=Serial("/dev/x"))
    with pytest.raises(LutError, match=r"no serial line for board mps2-an500; for: mps2-an386, nucleo-l4r5zi"):
        write(program(8), other, tmp_path)


def test_make_flash_runs_what_the_device_says(tmp_path: Path) -> None:
    """To the letter: neither make nor the shell reads the words."""
    said = tmp_path / "said"
    words = ("sh", "-c", f'printf %s "$0" > {said}', "$HOME `id` {image}")
    board = replace(NUCLEO, serial=Serial("/dev/x", flash=words))
    project = write(program(8), board, tmp_path / "net")
    (project.folder / f"{project.name}.elf").touch()
    command = ["make", "-s", "-o", f"{project.name}.elf", "-C", str(project.folder), "flash"]
    subprocess.run(command, check=True, timeout=60)
    assert said.read_text() == f"$HOME `id` {project.name}.elf"


def test_a_flash_command_that_hangs_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONSENT, "1")
    monkeypatch.setattr(lut.mcu.board, "FLASH_SECONDS", 1.0)
    script = f"sh -c 'echo $$ > {tmp_path}/pid; sleep 600' & wait; true {{image}}"
    board = replace(NUCLEO, serial=Serial("/dev/x", flash=("sh", "-c", script)))
    with pytest.raises(Unreachable, match=r"not done after 1 s"):
        flash(board, tmp_path / "net.elf")
    assert ends(int((tmp_path / "pid").read_text()), 5)


class Stream:
    """What a board says, whatever it is asked, `{token}` being the number of the last HELLO."""

    def __init__(self, *said: bytes):
        self.said, self.buffer, self.timeout = list(said), b"", 0.0

    def write(self, data: bytes) -> None:
        token = data.split()[1] if data.startswith(b"HELLO") else b""
        self.buffer += self.said.pop(0).replace(b"{token}", token) if self.said else b""

    def read(self, count: int) -> bytes:
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_until(self, end: bytes, count: int) -> bytes:
        at = self.buffer.find(end) + 1
        return self.read(min(at or len(self.buffer), count))


def line(*said: bytes) -> SerialLine:
    return SerialLine(Stream(*said), "tty9", 9600, 0.1)


def out(data: bytes, checksum: int | None = None, end: bytes = b"CYCLES 12\nSTACK 34\n") -> bytes:
    return b"OUT %d %x\n" % (len(data), zlib.crc32(data) if checksum is None else checksum) + data + end


def test_an_answer() -> None:
    asked = line(out(b"ab\ncd"), b"CYCLES 11\n")
    answer = asked.ask(b"x", 5)
    assert (answer.output, answer.cycles, answer.stack_bytes) == (b"ab\ncd", 12, 34)
    assert asked.again() == 11


def test_ready_is_the_answer_to_the_last_question() -> None:
    line(b"noise\nREADY net\n", b"READY net 1000000\nREADY net {token}\r\n").wait_ready("net", 1.0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", r"tty9: nothing in 0.1 s; is the board powered, flashed, at this port, at 9600 baud\?"),
        (b"\x80\xff\x00\n", r"tty9: b'\\x80\\xff\\x00' instead of READY; is 9600 the board's baud rate\?"),
        (b"READY other {token}\n", "tty9: the board runs 'other', not 'net'; flash it again"),
    ],
)
def test_a_board_that_does_not_get_ready(said: bytes, error: str) -> None:
    with pytest.raises(Unreachable, match=error):
        line(said, said).wait_ready("net", 0.1)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "no OUT within .* s: the board hangs, or the line is cut"),
        (b"ERROR an input does not have its checksum\n", "the board says: an input does not have its checksum"),
        (b"OUT 2 1\na", "1 of an output's 2 bytes arrived: the line is cut"),
        (b"OUT 99999999 1\nab", "an output of 99999999 bytes; expected 2: the line is disturbed"),
        (out(b"ab", 1), "an output of 2 bytes does not have its checksum: the line is disturbed"),
        (b"OUT two 1\n", "b'OUT two 1' instead of OUT: the line is disturbed"),
        (b"O\xffT 2 1\n", "instead of OUT: the line is disturbed"),
        (out(b"ab", end=b"CYCLES -5\n"), "b'CYCLES -5' instead of CYCLES: the line is disturbed"),
        (out(b"ab", end=b"CYCLES 0\n"), "0 cycles: the board's cycle counter stands still"),
        (out(b"ab", end=b""), "no CYCLES within"),
        (out(b"ab", end=b"CYCLES 5\n"), "no STACK within"),
    ],
)
def test_a_line_that_is_silent_or_garbled(said: bytes, error: str) -> None:
    with pytest.raises(LutError, match=error):
        line(said).ask(b"x", 2)


class Chatter(Stream):
    """A board that says something else all the time."""

    def read_until(self, end: bytes, count: int) -> bytes:
        return b"tick" + end


def test_a_board_that_never_ends_talking_is_left() -> None:
    with pytest.raises(Unreachable, match=r"b'tick' instead of READY"):
        SerialLine(Chatter(), "tty9", 9600).wait_ready("net", 0.1)


def test_silence_is_told_from_disturbance() -> None:
    with pytest.raises(Silent):
        line(b"").ask(b"x", 2)
    with pytest.raises(Silent):
        line().again()


def test_a_port_that_is_not_there() -> None:
    pytest.importorskip("serial", reason="needs pyserial: pip install 'lutier[serial]'")
    with (
        pytest.raises(Unreachable, match=r"port /dev/nowhere: .*serial.tools.list_ports"),
        open_line("/dev/nowhere", 9600),
    ):
        pass


def test_nothing_is_flashed_without_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    device = replace(NUCLEO, serial=Serial("tty9", flash=("touch", str(victim), "{image}")))
    monkeypatch.delenv(CONSENT, raising=False)
    with pytest.raises(
        Unreachable, match=rf"this runs\n    touch {victim} x.elf\nread it, and allow it with {CONSENT}=1"
    ):
        flash(device, Path("x.elf"))
    assert not victim.exists()
    monkeypatch.setenv(CONSENT, "1")
    flash(device, tmp_path / "x.elf")
    assert victim.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ((), r"serial.flash is empty, so x.elf cannot be put on the board; for example"),
        (("no-such-program", "{image}"), "no-such-program: not found"),
        (("cat", "{image}"), "cat x.elf: cat: x.elf: No such file"),
    ],
)
def test_a_flash_command_that_does_not_do(
    command: tuple[str, ...], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONSENT, "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unreachable, match=error):
        flash(replace(NUCLEO, serial=Serial("tty9", flash=command)), Path("x.elf"))


def test_descriptions_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"serial.flash: openocd does not say where \{image\} goes"):
        Serial("tty9", flash=("openocd",))
    with pytest.raises(ValueError, match="port must be named, baud and seconds positive"):
        Serial("", 0)
    with pytest.raises(ValueError, match="runner: serial needs serial"):
        replace(NUCLEO, serial=None)
    with pytest.raises(ValueError, match=r"core.cycle_model: runner: simulator needs one"):
        replace(NUCLEO, runner="simulator")
    with pytest.raises(LutError, match="device cortex-m4: runner: simulator; a board has runner: serial"):
        serial_of(M4)
    with pytest.raises(LutError, match="few to measure rows"):
        board_rows.build(replace(NUCLEO, ram=8 << 10), [], tmp_path, "1")
