"""One architecture: the option of every choice, as written to arch.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType

from lut.errors import InputError
from lut.files import atomic_write

SCHEMA = 1


@dataclass(frozen=True)
class Arch:
    """choices: value by choice name. space: the hash of the search space that it belongs to ('' = unknown).

    predicted: cost by metric name, in the metric's unit. seed: that of the search.
    """

    choices: Mapping[str, int]
    space: str = ""
    predicted: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def to_json(self) -> str:
        body = {"schema": SCHEMA, "space": self.space, "seed": self.seed}
        return json.dumps({**body, "choices": dict(self.choices), "predicted": dict(self.predicted)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "arch.json") -> Arch:
        """Raises InputError when the text is no JSON object of this schema."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {error}") from None
        if not isinstance(body, dict) or not isinstance(body.get("choices"), dict):
            raise InputError(f"{where}: no architecture: expected an object with 'schema' and 'choices'")
        if body.get("schema") != SCHEMA:
            raise InputError(f"{where}: schema {body.get('schema')!r}; this version reads schema {SCHEMA}")
        for name, value in body["choices"].items():
            if not _is_a(value, int):
                raise InputError(f"{where}: choices.{name}: {value!r} is not an integer option")
        space, predicted, seed = body.get("space", ""), body.get("predicted") or {}, body.get("seed", 0)
        if not isinstance(space, str):
            raise InputError(f"{where}: space: {space!r} is not a hash, or '' for an unknown one")
        if not isinstance(predicted, dict) or not all(_is_a(value, int | float) for value in predicted.values()):
            raise InputError(f"{where}: predicted: {predicted!r} is not an object of numbers")
        if not _is_a(seed, int):
            raise InputError(f"{where}: seed: {seed!r} is not a whole number")
        return Arch(body["choices"], space, {metric: float(value) for metric, value in predicted.items()}, seed)

    def write(self, path: str | Path) -> None:
        atomic_write(path, self.to_json())

    @staticmethod
    def read(path: str | Path) -> Arch:
        try:
            text = Path(path).read_text()
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as text: {error}") from None
        return Arch.from_json(text, str(path))


def _is_a(value: object, kind: type | UnionType) -> bool:
    """Whether a JSON value is a number of this kind; true and false are none."""
    return isinstance(value, kind) and not isinstance(value, bool)
