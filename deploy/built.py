"""What is known of a built network: NAME.json beside NAME.so. Both are checked, since a folder may come from anywhere,
and a build that was interrupted may leave one of them without the other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from lut.columns import nearest
from lut.errors import InputError
from lut.kernels.isa import ISAS
from lut.strict import load

from .network_source import SCORES, identifier
from .results import Place, room

MOST = 2**31
"""Bytes of an image, numbers of the results: more is no network of this project."""


@dataclass(frozen=True)
class Description:
    """What NAME.json says. image: height, width, channels; library: the SHA-256 of NAME.so."""

    name: str
    isa: str
    image: tuple[int, int, int]
    outputs: tuple[Place, ...]
    scores: str
    ops: tuple[str, ...]
    arena_bytes: int
    constant_bytes: int
    code_bytes: int
    kernels: int
    threads: int
    library: str

    def __post_init__(self) -> None:
        if identifier(self.name) != self.name:
            raise ValueError(f"name: {self.name!r} is no C name")
        if self.isa not in ISAS:
            raise ValueError(f"isa: {self.isa!r} is not known; {nearest(self.isa, ISAS)}")
        if self.scores not in SCORES:
            raise ValueError(f"scores: {self.scores!r} is not known; {nearest(self.scores, SCORES)}")
        if min(self.image) < 1 or prod(self.image) > MOST:
            raise ValueError(f"image: {self.image} is not height, width and channels of an image")
        if not self.outputs or any(row.first < 0 or row.count < 1 for row in self.outputs) or room(self.outputs) > MOST:
            raise ValueError("outputs: one at least, of positive counts")
        if self.threads < 1:
            raise ValueError(f"threads: {self.threads} is not positive")

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def digest(library: bytes) -> str:
    return hashlib.sha256(library).hexdigest()


def describe(path: Path) -> Description:
    """Of the built network NAME.so. Raises InputError when there is none, when a field of NAME.json is not what `build`
    writes, and when the library is another than the one described."""
    try:
        library = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: no built network: {error.strerror}") from None
    about = load(Description, path.with_suffix(".json"))
    if digest(library) != about.library:
        raise InputError(f"{path}: not the library that {path.stem}.json describes; build the network again")
    return about
