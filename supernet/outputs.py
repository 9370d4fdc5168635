"""What a network returns: its output tensors in the shapes and the structure that the user's model gives them.

A model returns a tensor, or structures of tensors (`containers.py`), nested at will. Every returned tensor is a leaf:
an output tensor (C, H, W) of the network with its axes in the order of the user's view (`views.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from lut.errors import InputError

from .containers import Container, Opened, build, opened
from .views import shape_of, sizes

Leaf = TypeVar("Leaf")
UNNAMED = ("tuple", "list")
"""Kinds whose items have no keys but their positions."""


@dataclass(frozen=True)
class Form:
    """tree: the position of a leaf, or a pair (kind of a structure, items): with their keys, ((key, item), ..), but for
    "tuple" and "list". leaves: for each, the position of its output tensor and the letters of its axes. softmax: the
    leaves that are their tensor's softmax over channels, which is no operator of the network. The default is one vector
    per image."""

    tree: Any = 0
    leaves: tuple[tuple[int, str], ...] = ((0, "nf"),)
    softmax: tuple[int, ...] = ()

    @property
    def lone(self) -> bool:
        """Whether the model returns a tensor, not a structure."""
        return isinstance(self.tree, int)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of every output tensor the first path that leads to it, such as `boxes.0`; '' for a lone one."""
        found: dict[int, str] = {}
        for path, leaf in _paths(self.tree):
            found.setdefault(self.leaves[leaf][0], path)
        return tuple(found[position] for position in sorted(found))

    def build(self, tensors: Sequence[Tensor]) -> Any:
        """The structure, of the output tensors (n, C, H, W)."""

        def made(leaf: int) -> Tensor:
            position, axes = self.leaves[leaf]
            return _viewed(tensors[position].softmax(1) if leaf in self.softmax else tensors[position], axes)

        return _mapped(self.tree, made)

    def is_softmax(self, position: int) -> bool:
        """Whether the model returns the softmax of an output tensor, by its position."""
        return any(self.leaves[leaf][0] == position for leaf in self.softmax)

    def to_json(self) -> dict[str, Any]:
        """As a file has it: the user's own types become tuples and dicts."""
        return {"tree": _standard(self.tree), "leaves": self.leaves, "softmax": self.softmax}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Form:
        leaves = tuple((position, axes) for position, axes in body["leaves"])
        return Form(_frozen(body["tree"]), leaves, tuple(body.get("softmax", ())))


def form_of(result: Any, leaf: Callable[[Any, str], Leaf], contents: Callable[[Any], Opened | None] = opened
            ) -> tuple[Any, list[Leaf]]:  # fmt: skip
    """(tree, leaves in order) of a structure. leaf: makes one of what is no structure, and its path. contents: what is
    in one.

    Raises InputError for an empty structure, and for keys that a file could not hold.
    """
    leaves: list[Leaf] = []

    def walk(value: Any, path: str) -> Any:
        if (found := contents(value)) is None:
            leaves.append(leaf(value, path))
            return len(leaves) - 1
        where = f"the model's output{f' {path}' if path else ''}"
        if not found.items:
            raise InputError(f"{where} is empty; return tensors")
        if odd := [key for key in found.keys if type(key) not in (str, int)]:
            raise InputError(f"{where} has the key {odd[0]!r}; only strings and integers can be")
        items = [walk(item, _join(path, key)) for key, item in zip(found.keys, found.items)]
        return found.kind, tuple(items if found.kind in UNNAMED else zip(found.keys, items))

    return walk(result, ""), leaves


def described(output: Any) -> str:
    """A network's result in words: `a tensor (8, 10)`, `a dict of cls, box`."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if (found := opened(output)) is None:
        return f"a {type(output).__name__}"
    named = isinstance(found.keys[0], str) if found.keys else False
    return f"a {type(output).__name__} of {', '.join(map(str, found.keys)) if named else len(found.items)}"


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _frozen(tree: Any) -> Any:
    return tuple(map(_frozen, tree)) if isinstance(tree, list) else tree


def _items(tree: Any) -> tuple[list[Any], list[Any]]:
    """(keys, items) of a structure."""
    kind, items = tree
    return (list(range(len(items))), list(items)) if kind in UNNAMED else ([k for k, _ in items], [i for _, i in items])


def _mapped(tree: Any, function: Callable[[int], Any]) -> Any:
    if isinstance(tree, int):
        return function(tree)
    keys, items = _items(tree)
    return build(tree[0], keys, [_mapped(item, function) for item in items])


def _standard(tree: Any) -> Any:
    if isinstance(tree, int):
        return tree
    keys, items = _items(tree)
    kind = tree[0].standard if isinstance(tree[0], Container) else tree[0]
    made = [_standard(item) for item in items]
    return kind, tuple(made if kind in UNNAMED else zip(keys, made))


def _paths(tree: Any, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(tree, int):
        yield path, tree
        return
    for key, item in zip(*_items(tree)):
        yield from _paths(item, _join(path, key))


def _viewed(y: Tensor, axes: str) -> Tensor:
    """(n, C, H, W) -> the user's axes; axes of one element may be absent."""
    if axes == "nchw":
        return y
    n, c, h, w = y.shape
    single = axes.replace("f", "chw").replace("s", "hw")
    order = single + "".join(letter for letter in "nchw" if letter not in single)
    return y.permute(["nchw".index(letter) for letter in order]).reshape(shape_of(axes, sizes((c, h, w), n)))
