"""Modules that a network may do without: depth as a choice, without a change to the model's source.

A module that makes of one tensor another of the same shape becomes `MixedOp(module, Identity())`: its edge may be
skipped, as by ProxylessNAS's ZeroOperation (Cai et al. 2019, arXiv:1812.00332, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from lut.errors import InputError

from .mixed import MixedOp


def could_be_skipped(model: nn.Module, example: Tensor) -> list[str]:
    """Names of the modules with convolutions that are called once, from one tensor to another of its shape."""
    calls: dict[str, list[bool]] = {}

    def note(name: str, given: tuple[Any, ...], output: Any) -> None:
        tensors = len(given) == 1 and isinstance(given[0], Tensor) and isinstance(output, Tensor)
        calls.setdefault(name, []).append(tensors and given[0].shape == output.shape)

    def watch(name: str) -> Any:
        return model.get_submodule(name).register_forward_hook(lambda _, given, output: note(name, given, output))

    inside = [name for name, module in model.named_modules() if name and _convolves(module)]
    hooks = [watch(name) for name in inside]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return [name for name in inside if calls.get(name) == [True]]


def _convolves(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def skippable(model: nn.Module, patterns: Sequence[str], example: Tensor) -> nn.Module:
    """The model, changed in place: what matches a pattern (`layer1.*`, as in a shell) may be skipped, by default none.

    example: (n, C, H, W). InputError for a pattern that nothing matches, or a module whose output has another shape.
    """
    if not patterns:
        return model
    able, every = could_be_skipped(model, example), [name for name, _ in model.named_modules() if name]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matched = [name for name in able if fnmatchcase(name, pattern)]
        if not matched:
            why = "its output has another shape than its input" if pattern in every else "no such module"
            raise InputError(f"space.skip: {pattern!r}: {why}; what could be skipped: {', '.join(able) or 'nothing'}")
        chosen |= dict.fromkeys(matched)
    for name in sorted(chosen, key=lambda name: -name.count(".")):  # inner ones first: names of outer ones stay
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, MixedOp(model.get_submodule(name), nn.Identity()))
    return model
