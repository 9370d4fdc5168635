"""The YAML of ProxylessNAS and Once-for-All: an operator's whole description is the key of its statistics.

    expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0:
      count: 158
      mean: 4.38
      var: 0.18

Sizes are height x width x channels. Read event by event: keys, and numbers one level below them; a tag, an anchor, an
alias, a list or a deeper level is refused where it stands, and so is a key given twice.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from ..errors import LutError
from ..spec import Latency, OpSpec
from .blocks import float_op, mbconv
from .common import known, latency, microseconds, number, read_text, show, whole

MAX_YAML = 2**20
_N = "([1-9][0-9]{0,5})"
_SHAPES = f"-input:{_N}x{_N}x{_N}-output:{_N}x{_N}x{_N}"
_BLOCK = re.compile(
    f"expanded_conv{_SHAPES}-expand:{_N}-kernel:{_N}-stride:{_N}-idskip:([01])(?:-se:([01])-hs:([01]))?"
)
_PLAIN = re.compile(f"(Conv|Conv_1|Conv_2|AvgPool2D){_SHAPES}")
_LOGITS = re.compile(f"Logits-input:{_N}x{_N}x{_N}-output:{_N}")


@dataclass(frozen=True)
class Entry:
    """The numbers below one key, as they are written, and the key's line."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """One operator's statistics in milliseconds: mean, standard deviation, and how many samples they stand on."""

    mean: float
    sigma: float
    count: int

    def row(self) -> Latency:
        return latency(self.mean * 1000, self.sigma * 1000, self.count)


def read_entries(path: str | Path) -> dict[str, Entry]:
    """Key -> entry. Raises LutError `path:line: ...`, for a last line without an end too: such a file was cut off."""
    text = read_text(path, MAX_YAML)
    if not text.endswith("\n"):
        raise LutError(f"{path}:{text.count(chr(10)) + 1}: the last line does not end; the file is cut off")
    try:
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise LutError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or show(str(error))}") from None
    except (ValueError, OverflowError, RecursionError) as error:  # an escape beyond Unicode
        raise LutError(f"{path}: not YAML: {error}") from None
    return _entries(events, path)


def _entries(events: list[yaml.Event], path: str | Path) -> dict[str, Entry]:
    def fail(event: yaml.Event, message: str) -> NoReturn:
        raise LutError(f"{path}:{event.start_mark.line + 1}: {message}")

    def scalar(event: yaml.Event, what: str) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            fail(event, f"expected {what}; lists, aliases and deeper levels are not read")
        if event.anchor is not None or event.tag is not None or event.style:
            fail(event, f"{show(event.value)}: anchors, tags and quotes are not read")
        return str(event.value)

    def opens(event: yaml.Event, what: str) -> None:
        if not isinstance(event, yaml.MappingStartEvent) or event.anchor is not None or event.tag is not None:
            fail(event, f"expected {what}, plain `name: number` lines")

    entries: dict[str, Entry] = {}
    body = [event for event in events if not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent)]
    if sum(isinstance(event, yaml.DocumentStartEvent) for event in body) != 1:
        raise LutError(f"{path}: expected one YAML document, here are none or several")
    stream = iter(body[1:])
    opens(next(stream), "operators")
    while not isinstance(event := next(stream), yaml.MappingEndEvent):
        key = scalar(event, "an operator's key")
        if key in entries:
            fail(event, f"{show(key)}: given twice; keep one of the two (the first is in line {entries[key].line})")
        line, fields = event.start_mark.line + 1, dict[str, str]()
        opens(next(stream), "the operator's statistics")
        while not isinstance(event := next(stream), yaml.MappingEndEvent):
            name = scalar(event, "a statistic's name")
            if name in fields:
                fail(event, f"{show(name)}: given twice; keep one of the two")
            fields[name] = scalar(next(stream), "a number")
        entries[key] = Entry(line, fields)
    return entries


def measured(entry: Entry, spread: str, where: str) -> Measured:
    """count, mean and the `spread` that the format has: `var` (in ms^2) or `std` (in ms). Raises LutError."""
    known(entry.fields, ("count", "mean", spread), where)
    values = {name: _number(text, f"{where}: {name}") for name, text in entry.fields.items()}
    count = whole(int(values["count"]) if values["count"].is_integer() else values["count"], f"{where}: count")
    microseconds(values["mean"], "ms", f"{where}: mean")
    sigma = math.sqrt(values[spread]) if spread == "var" else values[spread]
    if sigma > 1000 * values["mean"]:
        raise LutError(f"{where}: {spread}: {values[spread]} is out of proportion to the mean, {values['mean']}")
    return Measured(values["mean"], sigma, count)


def _number(text: str, where: str) -> float:
    if not re.fullmatch(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        raise LutError(f"{where}: {show(text)} is not a number")
    return number(float(text), where)


def operator(key: str, names: tuple[str, ...], flags: bool, where: str) -> OpSpec:
    """The operator that a key describes, in float32 and for one image. Raises LutError for any other key.

    names: the layers beside `expanded_conv` that the format has. flags: whether blocks carry se and hs (then `expand`
    is the number of middle channels) or neither (then it is the ratio and the activation ReLU6).
    """
    name = key.split("-", 1)[0]
    if name not in (*names, "expanded_conv"):
        raise LutError(f"{where}: unknown layer {show(name)}; expected one of: {', '.join((*names, 'expanded_conv'))}")
    if match := _BLOCK.fullmatch(key):
        if (match[11] is None) == flags:
            raise LutError(f"{where}: se and hs {'are missing' if flags else 'belong to another format'}")
        return _block([int(n or 0) for n in match.groups()], flags, where)
    if match := _PLAIN.fullmatch(key):
        return _plain(match[1], *(int(n) for n in match.groups()[1:]), where=where)
    if match := _LOGITS.fullmatch(key):
        return float_op("linear", int(match[3]), int(match[4]), 1, 1)
    raise LutError(f"{where}: not a key of this format; expected {name}-input:HxWxC-output:.. with sizes from 1 on")


def _block(numbers: list[int], flags: bool, where: str) -> OpSpec:
    height, width, c_in, rows, cols, c_out, expand, kernel, stride, residual, se, hswish = numbers
    _check_output((height, width), (rows, cols), stride, where)
    if kernel % 2 == 0 or kernel > 99:
        raise LutError(f"{where}: kernel:{kernel} is not an odd number below 100")
    if residual and (stride != 1 or c_in != c_out):
        raise LutError(f"{where}: idskip:1 needs stride 1 and as many channels out as in")
    act = ("relu", "hswish")[hswish] if flags else "relu6"
    mid = expand if flags else c_in * expand
    return mbconv(c_in, c_out, height, width, kernel, stride, mid, act=act, residual=bool(residual), se=bool(se))


def _plain(name: str, height: int, width: int, c_in: int, rows: int, cols: int, c_out: int, *, where: str) -> OpSpec:
    if name == "AvgPool2D":
        if (rows, cols) != (1, 1) or c_in != c_out:
            raise LutError(f"{where}: a pool over the whole image has the output 1x1x{c_in}")
        return float_op("avg_pool", c_in, c_out, height, width, (height, width), (height, width))
    kernel, stride = (3, 2) if name == "Conv" else (1, 1)
    _check_output((height, width), (rows, cols), stride, where)
    return float_op("conv2d", c_in, c_out, height, width, (kernel,) * 2, (stride,) * 2, kernel // 2)


def _check_output(size: tuple[int, int], output: tuple[int, int], stride: int, where: str) -> None:
    expected = tuple((n - 1) // stride + 1 for n in size)
    if output != expected:
        right = "x".join(map(str, expected))
        raise LutError(f"{where}: output {output[0]}x{output[1]}, but stride {stride} makes it {right}")
