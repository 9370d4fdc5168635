"""A board's program over a serial line: inputs go there, outputs, cycles and stack come back (firmware/serve.c has the
protocol).

Every wait has a limit, every payload a checksum (CRC-32), and what the board says is read as text, so a line that is
silent or garbled, a fault and a wrong program end as an error that says which.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lut.errors import LutError

INSTALL = "pip install 'lutier[serial]'"
LINE_BYTES = 200
TOKENS = itertools.count()
"""A number for every HELLO, so that its answer is told from earlier ones'."""
BITS_PER_BYTE = 10
"""On the line: a start bit, eight of data, a stop bit."""


class Unreachable(LutError):
    """There is no line to the program, whatever it is asked."""


class Silent(LutError):
    """The board did not answer within its limit."""


@dataclass(frozen=True)
class Answer:
    """output: bytes; cycles of the computation; stack: bytes that it used."""

    output: bytes
    cycles: int
    stack_bytes: int


class SerialLine:
    """A program that is ready. `stream` reads and writes bytes and has a `timeout` in seconds, as pyserial's do;
    seconds: that a computation may take."""

    def __init__(self, stream: Any, where: str, baud: int, seconds: float = 30.0):
        self.stream, self.where, self.baud, self.seconds = stream, where, baud, seconds

    def wait_ready(self, program: str, seconds: float = 5.0) -> None:
        """Ask until the board says that `program` is there. Raises Unreachable when another is, or none."""
        heard = b""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            token = next(TOKENS)
            self.stream.write(b"HELLO %d\n" % token)
            while time.monotonic() < until and (line := self._raw(0.5)):
                heard = line
                words = line.decode("ascii", "replace").split()
                if words[:1] != ["READY"] or words[2:] != [str(token)]:
                    continue  # what was said before
                if words[1] != program:
                    raise Unreachable(f"{self.where}: the board runs {words[1]!r}, not {program!r}; flash it again")
                return
        if heard:
            raise Unreachable(f"{self.where}: {heard[:60]!r} instead of READY; is {self.baud} the board's baud rate?")
        raise Unreachable(
            f"{self.where}: nothing in {seconds:g} s; is the board powered, flashed, at this port, at {self.baud} baud?"
        )

    def ask(self, payload: bytes, size: int) -> Answer:
        """What the board computes of an input: `size` bytes. Raises LutError with its complaint, and Silent."""
        self.stream.write(b"IN %d %x\n" % (len(payload), zlib.crc32(payload)) + payload)
        given, checksum = self._numbers("OUT", (10, 16), self._travel(len(payload)) + self.seconds)
        if given != size:
            raise LutError(f"{self.where}: an output of {given} bytes; expected {size}: the line is disturbed")
        output = self._exactly(size)
        if zlib.crc32(output) != checksum:
            raise LutError(f"{self.where}: an output of {size} bytes does not have its checksum: the line is disturbed")
        cycles = self._cycles()
        (stack,) = self._numbers("STACK", (10,), 2.0)
        return Answer(output, cycles, stack)

    def again(self) -> int:
        """Cycles of the last input's computation, once more."""
        self.stream.write(b"AGAIN\n")
        return self._cycles()

    def _cycles(self) -> int:
        (cycles,) = self._numbers("CYCLES", (10,), self.seconds)
        if not cycles:
            raise LutError(f"{self.where}: 0 cycles: the board's cycle counter stands still")
        return cycles

    def _travel(self, count: int) -> float:
        """Seconds that so many bytes take on the line, twice over for buffers in between, and one more."""
        return 1 + 2 * BITS_PER_BYTE * count / self.baud

    def _numbers(self, name: str, bases: Sequence[int], seconds: float) -> list[int]:
        """Those behind `name` on the next line."""
        line = self._raw(seconds)
        if line is None:
            raise Silent(f"{self.where}: no {name} within {seconds:.0f} s: the board hangs, or the line is cut")
        text = line.decode("ascii", "replace")
        if text.startswith("ERROR "):
            raise LutError(f"{self.where}: the board says: {text[6:]}")
        word, *numbers = text.split() or [""]
        try:
            if word != name or len(numbers) != len(bases) or not all(number.isalnum() for number in numbers):
                raise ValueError
            return [int(number, base) for number, base in zip(numbers, bases)]
        except ValueError:
            raise LutError(f"{self.where}: {line[:60]!r} instead of {name}: the line is disturbed") from None

    def _raw(self, seconds: float) -> bytes | None:
        """The next line without its end, or None. A line has an end within LINE_BYTES, or is cut there."""
        self.stream.timeout = seconds
        line: bytes = self.stream.read_until(b"\n", LINE_BYTES)
        return line.strip(b"\r\n") if line else None

    def _exactly(self, count: int) -> bytes:
        self.stream.timeout = self._travel(count)
        data: bytes = self.stream.read(count)
        if len(data) != count:
            raise Silent(f"{self.where}: {len(data)} of an output's {count} bytes arrived: the line is cut")
        return data


@contextmanager
def open_line(port: str, baud: int, seconds: float = 30.0) -> Iterator[SerialLine]:
    """The line at a port such as /dev/ttyACM0 or COM3. Raises Unreachable when there is none or pyserial is missing."""
    try:
        import serial
    except ImportError:
        raise Unreachable(f"a board on a serial line needs pyserial: {INSTALL}") from None
    try:
        stream = serial.Serial(port, baud, exclusive=True, write_timeout=seconds)
    except (OSError, ValueError) as error:  # pyserial's own errors are OSErrors
        raise Unreachable(f"port {port}: {error}; list those there are: python -m serial.tools.list_ports") from None
    with stream:
        try:
            yield SerialLine(stream, port, baud, seconds)
        except (OSError, serial.SerialException) as error:
            raise Unreachable(f"port {port}: {error}; was the board unplugged?") from None
