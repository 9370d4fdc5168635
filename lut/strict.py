"""YAML to dataclasses, strictly: a typo must not silently become a default.

Every value is checked against the field's annotation (bool, int, float, str, Literal, X | None, tuple, list, dict,
nested dataclass) and against its range (`ranged`); a field whose metadata has a `parse` takes the raw value through it
(quantities with units). An error reads `file.yaml:7: search.alpha_lr: ...` and is followed by what would be right;
unknown keys get the nearest valid name. Tags and aliases are refused: nothing is built but plain values.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from .columns import nearest
from .errors import InputError

T = TypeVar("T")
Path_ = tuple[str, ...]
Lines = dict[Path_, int]
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
DEPTH = 64
"""Of nested sections and lists, at most: PyYAML's time grows with its square."""
COMMAND_LINE = 0
"""The line number of a value that `--set` gave."""
TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null"))


def ranged(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field whose number (or every number of its tuple) must lie in [low, high]."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def load(cls: type[T], path: str | Path, overrides: Sequence[str] = (), error: type[InputError] = InputError) -> T:
    """Read a YAML file into the dataclass `cls`; `overrides` are `a.b=value`, the value in YAML.

    Raises `error` for a missing file, broken YAML, an unknown or repeated key, a wrong type, a value out of range.
    """
    return loads(cls, _text(path, error), str(path), overrides, error)


def load_plain(path: str | Path, error: type[InputError] = InputError) -> dict[str, Any]:
    """A YAML file's mapping as dicts, lists and scalars, for what no dataclass describes. Raises as `load`."""
    return _mapping(_text(path, error), str(path), {}, error)


def _text(path: str | Path, error: type[InputError]) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: not a text file in UTF-8") from None


def loads(
    cls: type[T],
    text: str,
    where: str = "config",
    overrides: Sequence[str] = (),
    error: type[InputError] = InputError,
) -> T:
    """As `load`, from text; `where` names it in errors."""
    lines: Lines = {}
    tree = _mapping(text, where, lines, error)
    for item in overrides:
        _override(tree, item, lines, error)
    return _Builder(where, lines, error).section(cls, tree, ())


def dump(value: Any) -> str:
    """The dataclass as YAML that `loads` reads back to an equal object."""
    return yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True, width=100)


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as dicts, lists and scalars."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _mapping(text: str, where: str, lines: Lines, error: type[InputError]) -> dict[str, Any]:
    tree = _parse(text, where, lines, error)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise error(f"{where}:1: {_show(tree)} is not a section; expected `name: value` lines")
    return tree


def _parse(text: str, where: str, lines: Lines, error: type[InputError]) -> Any:
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise error(f"{where}:{event.start_mark.line + 1}: nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise error(f"{where}:{event.start_mark.line + 1}: *{event.anchor}: aliases are not read; write it out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _plain_node(node, (), where, lines, error)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise error(f"{where}{line}: not YAML: {getattr(problem, 'problem', None) or problem}") from None


def _plain_node(node: yaml.Node, path: Path_, where: str, lines: Lines, error: type[InputError]) -> Any:
    """A YAML node as plain Python; the line of every key goes into `lines`."""
    lines.setdefault(path, node.start_mark.line + 1)
    if node.tag not in TAGS:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        raise error(f"{where}:{node.start_mark.line + 1}: {'.'.join(path)}: {kind} values are not read")
    if isinstance(node, yaml.MappingNode):
        tree: dict[str, Any] = {}
        for key_node, item in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in tree:
                raise error(f"{where}:{line}: {'.'.join((*path, key))}: given twice; keep one of the two lines")
            lines[(*path, key)] = line
            tree[key] = _plain_node(item, (*path, key), where, lines, error)
        return tree
    if isinstance(node, yaml.SequenceNode):
        return [_plain_node(item, (*path, str(i)), where, lines, error) for i, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except (ValueError, KeyError, IndexError):  # such as !!int x
        place = ": ".join(filter(None, (f"{where}:{node.start_mark.line + 1}", ".".join(path))))
        raise error(f"{place}: {_show(node.value)} is no {node.tag.removeprefix('tag:yaml.org,2002:')}") from None


def _scalar(node: yaml.Node) -> Any:
    """As YAML 1.1 has it, but 1e-3, which it takes for text, is a number."""
    if node.tag == "tag:yaml.org,2002:str" and node.style is None and "e" in node.value.lower():
        try:
            return float(node.value)
        except ValueError:
            return node.value
    return yaml.SafeLoader("").construct_object(node)


def _override(tree: Any, item: str, lines: Lines, error: type[InputError]) -> None:
    dotted, equals, text = item.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise error(f"--set {item}: expected section.name=value")
    value = _parse(text, f"--set {dotted}", {}, error)
    for key in path[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[path[-1]] = value
    lines[path] = COMMAND_LINE


class _Builder:
    """Checks one tree; knows where every value stood."""

    def __init__(self, where: str, lines: Lines, error: type[InputError]) -> None:
        self.where, self.lines, self.error = where, lines, error

    def fail(self, path: Path_, message: str) -> NoReturn:
        known = (path[:n] for n in range(len(path), -1, -1))
        line = next((self.lines[p] for p in known if p in self.lines), None)
        place = "--set" if line == COMMAND_LINE else (f"{self.where}:{line}" if line else self.where)
        raise self.error(": ".join(part for part in (place, ".".join(path), message) if part))

    def section(self, cls: type[T], tree: Any, path: Path_) -> T:
        if not isinstance(tree, dict):
            self.fail(path, f"{_show(tree)} is not a section; expected `name: value` lines")
        hints = get_type_hints(cls)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        values = {}
        for key, item in tree.items():
            if key not in fields:
                self.fail((*path, key), f"unknown key; {nearest(key, fields)}")
            values[key] = self.value(hints[key], self.parsed(fields[key].metadata, item, (*path, key)), (*path, key))
            self.check_range(fields[key].metadata, values[key], (*path, key))
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in values:
                self.fail((*path, name), "missing")
        try:
            return cls(**values)
        except ValueError as problem:  # a check of the dataclass itself: `field: what is wrong`
            name, _, rest = str(problem).partition(": ")
            at, message = ((*path, name), rest) if name in fields else (path, str(problem))
            self.fail(at, message)

    def parsed(self, metadata: Mapping[str, Any], item: Any, path: Path_) -> Any:
        try:
            return metadata["parse"](item) if "parse" in metadata else item
        except ValueError as problem:
            self.fail(path, str(problem))

    def check_range(self, limits: Mapping[str, Any], value: Any, path: Path_) -> None:
        low, high = limits.get("low"), limits.get("high")
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            if (low is not None and number < low) or (high is not None and number > high):
                self.fail(path, f"{number} is out of range; expected {_interval(low, high)}")

    def value(self, kind: Any, item: Any, path: Path_) -> Any:
        origin, args = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):  # X | None
            return None if item is None else self.value(next(a for a in args if a is not type(None)), item, path)
        if origin is Literal:
            if item not in args:
                self.fail(path, f"{_show(item)} is not valid; {nearest(str(item), [str(a) for a in args])}")
            return item
        if dataclasses.is_dataclass(kind):
            return self.section(kind, item, path)  # type: ignore[arg-type]
        if origin is tuple:
            return self.sequence(args, item, path)
        if origin is dict:
            if not isinstance(item, dict):
                self.fail(path, f"{_show(item)} is not a mapping; expected `name: value` lines")
            return {key: self.value(args[1], value, (*path, key)) for key, value in item.items()}
        return self.scalar(kind, item, path)

    def sequence(self, args: tuple[Any, ...], item: Any, path: Path_) -> Any:
        if not isinstance(item, list):
            self.fail(path, f"{_show(item)} is not a list; expected [..]")
        kinds: Sequence[Any] = [args[0]] * len(item) if args[-1] is Ellipsis else args
        if len(kinds) != len(item):
            self.fail(path, f"{len(item)} values; expected {len(kinds)}")
        return tuple(self.value(k, x, (*path, str(i))) for i, (k, x) in enumerate(zip(kinds, item)))

    def scalar(self, kind: Any, item: Any, path: Path_) -> Any:
        if kind is float and isinstance(item, int) and not isinstance(item, bool):
            return float(item)
        if kind is int and isinstance(item, float) and item.is_integer():  # 1e3
            return int(item)
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
            self.fail(path, f"{_show(item)} is not {WORDS[kind]}")
        if isinstance(item, float) and not math.isfinite(item):
            self.fail(path, f"{item} is not a finite number")
        return item


def _interval(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if high is None else f"at most {high}"


def _show(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 60 else text[:57] + "..."
