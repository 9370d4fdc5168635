"""What the search may choose: bits of weights and activations, widths, and what is pinned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lut.errors import InputError
from lut.spec import FLOAT_BITS
from lut.strict import load_plain

FEWEST = {"weight_bits": 2, "act_bits": 1}
"""Bits: 1 bit has no symmetric code, which weights need."""
MOST = 8
PIN_WORDS = (*FEWEST, "width")
PIN_FORM = "{'conv1': {'weight_bits': 8, 'width': 1.0}}"


@dataclass(frozen=True)
class SearchSpace:
    """Options of every searchable decision.

    weight_bits, act_bits: ascending, 2 to 8 and 1 to 8 (or both the single option 32, the float32 network). widths:
    ascending fractions of each layer's channels in (0, 1]; rounded to a multiple of `channel_multiple`. pin: per layer
    name, fixed values {'conv1': {'weight_bits': 8}}; `first_last_bits` pins the weights of the first and the last
    layer, 2 to 8 (None leaves them free). Raises InputError naming the field, its value and what is allowed.
    """

    weight_bits: tuple[int, ...] = (2, 4, 8)
    act_bits: tuple[int, ...] = (4, 8)
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    channel_multiple: int = 4
    first_last_bits: int | None = 8
    pin: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*FEWEST, "widths"):
            object.__setattr__(self, name, self._ascending(name))
        for name, fewest in FEWEST.items():
            _check_bits(f"space.{name}", getattr(self, name), fewest)
        if (FLOAT_BITS in self.weight_bits) != (FLOAT_BITS in self.act_bits):
            raise InputError(
                f"space.act_bits: {list(self.act_bits)} beside weight_bits {list(self.weight_bits)}: float32 is the "
                "whole network's; give 32 alone for both, or for neither"
            )
        object.__setattr__(self, "widths", tuple(_fraction("space.widths", width) for width in self.widths))
        if not _whole(self.channel_multiple) or self.channel_multiple < 1:
            raise InputError(f"space.channel_multiple: {self.channel_multiple!r} is not a whole number of at least 1")
        ends, fewest = self.first_last_bits, FEWEST["weight_bits"]
        if ends is not None and not _in_range(ends, fewest):
            raise InputError(
                f"space.first_last_bits: {ends!r}: bits of weights are integers from {fewest} to {MOST}; None leaves "
                "the first and the last layer free"
            )
        object.__setattr__(self, "pin", self._checked_pins())

    def _ascending(self, name: str) -> tuple[Any, ...]:
        """A field's options: numbers, at least one."""
        given = getattr(self, name)
        if not isinstance(given, Iterable) or isinstance(given, str):
            usual = SearchSpace.__dataclass_fields__[name].default
            raise InputError(f"space.{name}: {given!r} is not a list; expected options such as {usual}")
        options = tuple(given)
        if not options:
            raise InputError(f"space.{name}: empty; give at least one option")
        for value in options:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"space.{name}: {value!r} is not a number")
        if list(options) != sorted(set(options)):
            raise InputError(f"space.{name}: {list(options)} is not strictly ascending")
        return options

    def _checked_pins(self) -> dict[str, dict[str, float]]:
        if not isinstance(self.pin, Mapping):
            raise InputError(f"space.pin: {self.pin!r} is not a mapping; expected {PIN_FORM}")
        found: dict[str, dict[str, float]] = {}
        for layer, pins in self.pin.items():
            if not isinstance(pins, Mapping):
                raise InputError(f"space.pin.{layer}: {pins!r} is not a mapping; pins are {PIN_FORM}")
            found[layer] = {word: self._checked_pin(f"space.pin.{layer}", word, value) for word, value in pins.items()}
        return found

    def _checked_pin(self, where: str, word: str, value: Any) -> float:
        if word not in PIN_WORDS:
            raise InputError(f"{where}: unknown word '{word}'; expected {', '.join(PIN_WORDS)}")
        where = f"{where}.{word}"
        if self.is_float:
            if isinstance(value, bool) or value != (1 if word == "width" else FLOAT_BITS):
                raise InputError(f"{where}: {value!r}: a float32 network has all channels, and 32 bits everywhere")
            return 1.0 if word == "width" else FLOAT_BITS
        if word == "width":
            return _fraction(where, value)
        if not _in_range(value, FEWEST[word]):
            raise InputError(f"{where}: {value!r}: bits are integers from {FEWEST[word]} to {MOST}")
        return int(value)

    @property
    def is_float(self) -> bool:
        return self.weight_bits == (FLOAT_BITS,)

    @staticmethod
    def channels_at(channels: int, fraction: float, multiple: int) -> int:
        """A fraction of `channels`, rounded to a multiple, at least one of it."""
        if fraction == 1:
            return channels
        return min(channels, max(multiple, round(channels * fraction / multiple) * multiple))

    def hash(self) -> str:
        """16 hex digits that change with any option."""
        body = json.dumps(asdict(self), sort_keys=True, default=list)
        return hashlib.sha256(body.encode()).hexdigest()[:16]

    @staticmethod
    def load(path: str | Path) -> SearchSpace:
        """Read a space.yaml. Raises InputError with the path for an unknown word, a wrong type or value."""
        body = load_plain(path)
        try:
            return SearchSpace.from_dict(body)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @staticmethod
    def from_dict(body: Mapping[str, object], where: str = "space") -> SearchSpace:
        known = SearchSpace.__dataclass_fields__
        for key in body:
            if key not in known:
                raise InputError(f"{where}: unknown option '{key}'; expected one of {', '.join(known)}")
        try:
            return SearchSpace(**{k: tuple(v) if isinstance(v, list) else v for k, v in body.items()})  # type: ignore
        except TypeError as error:
            raise InputError(f"{where}: {error}") from None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_range(bits: Any, fewest: int) -> bool:
    return _whole(bits) and fewest <= bits <= MOST


def _check_bits(where: str, options: tuple[Any, ...], fewest: int) -> None:
    if options == (FLOAT_BITS,) or all(_in_range(bits, fewest) for bits in options):
        return
    why = "; 1 bit has no symmetric code, 2 is ternary" if fewest > 1 and 1 in options else ""
    raise InputError(f"{where}: {list(options)}: bits are integers from {fewest} to 8 (or 32 alone: float32){why}")


def _fraction(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"{where}: {value!r}: widths are fractions of a layer's channels and must lie in (0, 1]")
    return float(value)
