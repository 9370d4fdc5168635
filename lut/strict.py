"""Strict reading of YAML into frozen dataclasses: every mistake is an error with its dotted path.

A field's type is its schema: str, int, float, bool, tuple[T, ...], Literal, another dataclass, and `T | None`.
A field whose metadata has a `parse` takes the raw value through it (quantities with units).
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .columns import nearest
from .errors import InputError

T = TypeVar("T")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_yaml(path: Path, error: type[InputError] = InputError) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `error` with the line for what is no YAML, no mapping, or not there."""
    import yaml

    try:
        body = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise error(f"{path}:{line}: not YAML: {problem.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error(f"{path}:1: not YAML: {problem}") from None
    if not isinstance(body, dict):
        raise error(f"{path}:1: expected a mapping of names to values")
    return body


def read_dataclass(cls: type[T], body: Mapping[str, Any], where: str, error: type[InputError] = InputError) -> T:
    """An instance of `cls` from a mapping. Raises `error`: `where: dotted.path: what is wrong`."""
    return _dataclass(cls, body, where, "", error)


def _dataclass(cls: Any, body: Any, where: str, path: str, error: type[InputError]) -> Any:
    if not isinstance(body, Mapping):
        raise error(f"{where}: {path}: {body!r} is not a mapping of names to values")
    known = {f.name: f for f in fields(cls)}
    prefix = f"{path}." if path else ""
    for key in body:
        if key not in known:
            raise error(f"{where}: {prefix}{key}: unknown key; {nearest(str(key), known)}")
    hints, values = get_type_hints(cls), {}
    for name, item in known.items():
        if name in body:
            try:
                raw = item.metadata["parse"](body[name]) if "parse" in item.metadata else body[name]
            except ValueError as problem:
                raise error(f"{where}: {prefix}{name}: {problem}") from None
            values[name] = _value(hints[name], raw, where, prefix + name, error)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise error(f"{where}: {prefix}{name}: is missing")
    try:
        return cls(**values)
    except ValueError as problem:
        raise error(f"{where}: {prefix}{problem}") from None


def _value(hint: Any, raw: Any, where: str, path: str, error: type[InputError]) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in parts:
            return None
        return _value(next(p for p in parts if p is not type(None)), raw, where, path, error)
    if is_dataclass(hint):
        return _dataclass(hint, raw, where, path, error)
    if origin is Literal:
        if raw not in parts:
            raise error(f"{where}: {path}: {raw!r} is none of {', '.join(map(str, parts))}")
        return raw
    if origin is tuple:
        if not isinstance(raw, list | tuple):
            raise error(f"{where}: {path}: {raw!r} is not a list")
        return tuple(_value(parts[0], item, where, f"{path}[{i}]", error) for i, item in enumerate(raw))
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, hint) or (isinstance(raw, bool) and hint is not bool):
        raise error(f"{where}: {path}: {raw!r} is not {_WORDS[hint]}")
    return raw
