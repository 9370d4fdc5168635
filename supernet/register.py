"""What a user's own modules and functions are, in operators that the supernet knows.

register_op(MyBlock, lambda module: nn.Sequential(...))        # a module of known ones
register_op(my_clip, lambda high: ("act", {"high": high}))     # my_clip(x, high) is min(max(x, 0), high)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from lut.errors import InputError

from .unary import UNARY

OPERATORS: dict[str, frozenset[str]] = {
    "identity": frozenset(),
    "act": frozenset({"high"}),
    "unary": frozenset({"fn"}),
    "avg_pool": frozenset({"kernel", "stride"}),
    "max_pool": frozenset({"kernel", "stride", "pad"}),
    "pad": frozenset({"pad"}),
    "shuffle": frozenset({"groups"}),
    "split": frozenset({"start", "channels"}),
}
"""Operators of one tensor that a handler may name, and their attributes."""
DEFAULTS: dict[str, dict[str, Any]] = {"max_pool": {"pad": (0, 0, 0, 0)}}
"""Attributes that may be left out."""

Handler = Callable[..., "nn.Module | tuple[str, dict[str, Any]]"]
_HANDLERS: dict[Any, tuple[Handler, bool]] = {}


def register_op(target: type[nn.Module] | Callable[..., Any], handler: Handler | None, exact: bool = True) -> None:
    """Say what a module class or a function of the user's is, for every later `Supernet.from_model`.

    target: a subclass of nn.Module (its instances are not looked into), or a function that forward calls by a global
    name, whose first argument is its one tensor. handler: called with the module, or with the call's other arguments;
    returns a module made of known ones, or (operator, attributes):

        identity | act {high: upper bound} | unary {fn: a name in supernet.unary.UNARY}
        avg_pool {kernel, stride} | max_pool {kernel, stride, pad}: pairs; pad: (top, left, bottom, right), or left out
        pad {pad} | shuffle {groups} | split {start, channels}

    exact: what the handler returns computes what the target does; `from_model` holds the whole network against the
    model. False: it is meant to differ, and a network that has one is not held against its model.

    A later handler replaces an earlier one; None forgets it. Raises InputError for a target of another kind.
    """
    if not (inspect.isclass(target) and issubclass(target, nn.Module)) and not inspect.isroutine(target):
        raise InputError(f"register_op: {target!r} is neither a module class nor a function")
    if handler is None:
        _HANDLERS.pop(target, None)
    else:
        _HANDLERS[target] = handler, exact


def functions() -> tuple[Callable[..., Any], ...]:
    """The registered functions."""
    return tuple(target for target in _HANDLERS if not inspect.isclass(target))


def _found(target: Any) -> tuple[Handler, bool] | None:
    if isinstance(target, nn.Module):
        return next((_HANDLERS[kind] for kind in type(target).__mro__ if kind in _HANDLERS), None)
    return _HANDLERS.get(target) if inspect.isroutine(target) else None


def handler_of(target: Any) -> Handler | None:
    """Of a function, a module or its class."""
    found = _found(target)
    return None if found is None else found[0]


def is_exact(target: Any) -> bool:
    """Whether what stands in for a function or module is meant to compute the same."""
    found = _found(target)
    return found is None or found[1]


def checked(answer: Any, name: str) -> nn.Module | tuple[str, dict[str, Any]]:
    """What a handler answered. Raises InputError for what is no module and no known operator with its attributes."""
    if isinstance(answer, nn.Module):
        return answer
    pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str) and isinstance(answer[1], dict)
    if not pair or answer[0] not in OPERATORS:
        raise InputError(f"{name}: its handler returned {answer!r}; expected a module, or (operator, attributes) with "
                         f"an operator of {', '.join(OPERATORS)}")  # fmt: skip
    operator, given = answer
    attributes = DEFAULTS.get(operator, {}) | given
    if set(attributes) != OPERATORS[operator]:
        known = ", ".join(sorted(OPERATORS[operator])) or "none"
        raise InputError(f"{name}: {operator} has the attributes {known}; its handler gave {sorted(map(str, given))}")
    return operator, {word: _attribute(f"{name}: {operator}", word, value) for word, value in attributes.items()}


def _attribute(where: str, word: str, value: Any) -> Any:
    """The value of an operator's attribute. Raises InputError for one that it can't have."""
    match word:
        case "fn":
            allowed, fits = ", ".join(UNARY), isinstance(value, str) and value in UNARY
        case "high":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            allowed, fits = "a number above 0, math.inf for none", number and value > 0
        case "kernel" | "stride":
            allowed, fits = "two whole numbers from 1", _whole(value, 2, 1)
        case "pad":
            allowed, fits = "four whole numbers from 0: top, left, bottom, right", _whole(value, 4, 0)
        case "start":
            allowed, fits = "a whole number from 0", _whole((value,), 1, 0)
        case _:
            allowed, fits = "a whole number from 1", _whole((value,), 1, 1)
    if not fits:
        raise InputError(f"{where}: {word}: its handler gave {value!r}; expected {allowed}")
    return tuple(value) if isinstance(value, list) else value


def _whole(values: Any, count: int, low: int) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == count
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= low for v in values)
    )
