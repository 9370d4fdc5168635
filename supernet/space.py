"""What the search may choose: bits of weights and activations, widths, and what is pinned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lut.errors import InputError
from lut.strict import load_plain

PIN_WORDS = ("weight_bits", "act_bits", "width")


@dataclass(frozen=True)
class SearchSpace:
    """Options of every searchable decision.

    weight_bits, act_bits: ascending, 1 to 8 (or the single option 32, the float32 network). widths: ascending
    fractions of each layer's channels in (0, 1]; rounded to a multiple of `channel_multiple`. pin: per layer name,
    fixed values {'conv1': {'weight_bits': 8}}; `first_last_bits` pins the weights of the first and the last layer
    (None leaves them free). Raises InputError naming the field.
    """

    weight_bits: tuple[int, ...] = (2, 4, 8)
    act_bits: tuple[int, ...] = (4, 8)
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    channel_multiple: int = 4
    first_last_bits: int | None = 8
    pin: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits", "widths"):
            options = tuple(getattr(self, name))
            object.__setattr__(self, name, options)
            if not options:
                raise InputError(f"space.{name}: empty; give at least one option")
            if list(options) != sorted(set(options)):
                raise InputError(f"space.{name}: {list(options)} is not strictly ascending")
        for name in ("weight_bits", "act_bits"):
            options = getattr(self, name)
            if options != (32,) and any(not isinstance(b, int) or not 1 <= b <= 8 for b in options):
                raise InputError(f"space.{name}: {list(options)}: bits are integers from 1 to 8 (or 32 alone: float32)")
        if 1 in self.weight_bits:
            raise InputError("space.weight_bits: 1 bit has no symmetric code; the smallest is 2 (ternary)")
        if any(not 0 < w <= 1 for w in self.widths):
            raise InputError(f"space.widths: {list(self.widths)}: fractions must lie in (0, 1]")
        if self.channel_multiple < 1:
            raise InputError(f"space.channel_multiple: {self.channel_multiple} is below 1")
        for layer, pins in self.pin.items():
            for word in pins:
                if word not in PIN_WORDS:
                    raise InputError(f"space.pin.{layer}: unknown word '{word}'; expected {', '.join(PIN_WORDS)}")

    @property
    def is_float(self) -> bool:
        return self.weight_bits == (32,)

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
        """Read a space.yaml. Raises InputError with the path for an unknown word or a wrong type."""
        return SearchSpace.from_dict(load_plain(path), str(path))

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
