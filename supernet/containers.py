"""Structures of tensors: what is in one, and how one of its type is made again.

Beside tuples, lists and dicts these are named tuples, subclasses of dict, and whatever torch.utils._pytree knows: a
ModelOutput of the transformers library, dataclasses that were registered there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict, namedtuple
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import SUPPORTED_NODES

STANDARD: dict[type, str] = {kind: kind.__name__ for kind in (tuple, list, dict, OrderedDict)}
"""Types that a network names; a file has a namedtuple beside them, of any name."""


@dataclasses.dataclass(frozen=True)
class Container:
    """Another type of structure. context: what pytree needs to make one, None where it does not know the type."""

    type: Any
    context: Any = None

    @property
    def standard(self) -> str:
        """The one that stands in for it where the user's code is not at hand."""
        return "namedtuple" if issubclass(self.type, tuple) else "dict"

    def build(self, keys: Sequence[Any], items: Sequence[Any]) -> Any:
        if issubclass(self.type, tuple):
            return self.type(*items)
        if self.type in SUPPORTED_NODES:
            return SUPPORTED_NODES[self.type].unflatten_fn(items, self.context)
        return self.type(zip(keys, items))


class Opened(NamedTuple):
    """kind: a name or a Container. keys: of the items in order, what their paths are made of."""

    kind: str | Container
    keys: tuple[Any, ...]
    items: list[Any]


def opened(value: Any) -> Opened | None:
    """What is in a structure; None for anything else."""
    kind = type(value)
    if kind in STANDARD or kind.__module__.startswith("torch.fx"):  # fx makes lists and dicts of its own
        if isinstance(value, dict):
            return Opened(STANDARD.get(kind, "dict"), tuple(value), list(value.values()))
        if isinstance(value, (tuple, list)):
            name = "list" if isinstance(value, list) else "tuple"
            return Opened(name, tuple(range(len(value))), list(value))
        return None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return Opened(Container(kind), kind._fields, list(value))
    if kind in SUPPORTED_NODES and not issubclass(kind, torch.Size):
        found, context = SUPPORTED_NODES[kind].flatten_fn(value)
        items = list(found)
        return Opened(Container(kind, context), _keys(value, items), items)
    if issubclass(kind, dict):
        return Opened(Container(kind), tuple(value), list(value.values()))
    return None


def _keys(value: Any, items: list[Any]) -> tuple[Any, ...]:
    """Names of what pytree found in a structure: keys of a dict, fields of a dataclass, else positions."""
    names: list[Any] = []
    if isinstance(value, dict):
        names = list(value)
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    return tuple(names) if len(names) == len(items) else tuple(range(len(items)))


@functools.cache
def _named(keys: tuple[str, ...]) -> Any:
    return namedtuple("Output", keys)  # type: ignore[misc]


def build(kind: str | Container, keys: Sequence[Any], items: list[Any]) -> Any:
    """The structure that `opened` took apart, of other items."""
    match kind:
        case Container():
            return kind.build(keys, items)
        case "tuple":
            return tuple(items)
        case "list":
            return items
        case "OrderedDict":
            return OrderedDict(zip(keys, items))
        case "namedtuple":
            return _named(tuple(keys))(*items)
    return dict(zip(keys, items))
