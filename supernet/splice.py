"""A module's primitives put in place of it: candidates of a MixedOp, and what a user registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from lut.errors import InputError

from .mixed import MixedOp
from .primitives import RawOp, Traced

Trace = Callable[[nn.Module, Tensor], Traced]
"""A module and a batch -> its primitives."""


def spliced(path: str, module: nn.Module, source: str, example: Tensor, trace: Trace) -> tuple[list[RawOp], str]:
    """(primitives of `module` that read `source`, the name of its output), under names that begin with `path`."""
    try:
        traced = trace(nn.Sequential(module).train(module.training), example)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not traced.form.lone:
        raise InputError(f"{path}: it returns several outputs ({', '.join(traced.form.labels)}); expected one tensor")
    first, *inner = traced.ops
    renamed = _renamed(path, [raw.name for raw in inner]) | {first.name: source}
    for raw in inner:
        raw.name, raw.inputs = renamed[raw.name], [renamed[i] for i in raw.inputs]
        raw.when = tuple((renamed[mix], at) for mix, at in raw.when)
        raw.block = raw.block and replace(raw.block, name=_inside(path, raw.block.name))
    return inner, renamed[traced.outputs[0]]


def candidates(name: str, mixed: MixedOp, source: str, example: Tensor, trace: Trace) -> list[RawOp]:
    """The primitives of every candidate, reading `source`, and the `mix` that joins them."""
    ops: list[RawOp] = []
    ends: list[str] = []
    for i, candidate in enumerate(mixed.candidates):
        if isinstance(candidate, nn.Identity):
            ends.append(source)
            continue
        inner, end = spliced(f"{name}.candidates.{i}", candidate, source, example, trace)
        for raw in inner:
            raw.when = ((name, i), *raw.when)
        ops += inner
        ends.append(end)
    _, channels, height, width = example.shape
    shapes = {raw.name: raw.shape for raw in ops} | {source: (channels, height, width)}
    if len({shapes[end] for end in ends}) > 1:
        each = ", ".join("x".join(map(str, shapes[end])) for end in ends)
        raise InputError(f"MixedOp '{name}': candidates of one edge must agree in their output's shape: {each}")
    return [*ops, RawOp(name, "mix", ends, shapes[ends[0]])]


def _renamed(path: str, names: list[str]) -> dict[str, str]:
    """Names in nn.Sequential(module) as those below the module's path, its own layers' first."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda name: not _is_layer(name)):
        new = _inside(path, name)
        while new in taken:
            new += "_"
        found[name] = new
        taken.add(new)
    return found


def _is_layer(name: str) -> bool:
    """Whether it is a path in nn.Sequential(module)."""
    return name == "0" or name.startswith("0.")


def _inside(path: str, name: str) -> str:
    return path + name[1:] if _is_layer(name) else f"{path}.{name}"
