"""JSON files of a run folder, held against what their readers need of them.

A check takes a value and its place in the file, and raises ValueError `place: what is wrong`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lut.errors import InputError

Check = Callable[[Any, str], None]


def read_stored(path: Path, check: Check, cure: str) -> Any:
    """What the file holds. Raises InputError, which ends with `cure`, when it is not JSON or does not pass."""
    try:
        body = json.loads(read_text(path, cure))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON: {error}; {cure}") from None
    require(body, check, path, cure)
    return body


def read_text(path: Path, cure: str) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; {cure}") from None


def require(body: Any, check: Check, path: Path, cure: str) -> None:
    try:
        check(body, "")
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}; {cure}") from None


def text(value: Any, at: str) -> None:
    _require(isinstance(value, str), value, at, "text")


def number(value: Any, at: str) -> None:
    _require(isinstance(value, int | float) and not isinstance(value, bool), value, at, "a number")


def anything(value: Any, at: str) -> None:
    return None


def maybe(check: Check) -> Check:
    """What passes, or null."""

    def checked(value: Any, at: str) -> None:
        if value is not None:
            check(value, at)

    return checked


figure = maybe(number)


def each(check: Check) -> Check:
    """A list of what passes."""

    def checked(value: Any, at: str) -> None:
        _require(isinstance(value, list), value, at, "a list")
        for i, item in enumerate(value):
            check(item, f"{at}[{i}]")

    return checked


def values(check: Check) -> Check:
    """An object whose values pass, whatever their names."""

    def checked(value: Any, at: str) -> None:
        _require(isinstance(value, dict), value, at, "an object")
        for key, item in value.items():
            check(item, f"{at}.{key}")

    return checked


def fields(needed: Sequence[str] = (), **checks: Check) -> Check:
    """An object with the `needed` keys, in which the named ones pass; others are not looked at."""

    def checked(value: Any, at: str) -> None:
        _require(isinstance(value, dict), value, at, "an object")
        if missing := [key for key in needed if key not in value]:
            raise ValueError(f"{at}: no {missing[0]}".lstrip(".: "))
        for key, check in checks.items():
            if key in value:
                check(value[key], f"{at}.{key}")

    return checked


def _require(holds: bool, value: Any, at: str, what: str) -> None:
    if not holds:
        shown = json.dumps(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise ValueError(f"{at.removeprefix('.') or 'the file'}: {shown} is not {what}")
