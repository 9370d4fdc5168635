"""Architectures that one option at a time leads to, where a program can't be asked: a memory plan has no linear bound
that is exact.

Every round ranks all architectures that differ from the present one in a single choice, and takes each change that
still makes it better, best first; it ends where no single change does (steepest descent in coordinates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from supernet.choice import Choice
from supernet.schedule import Values


def improved(
    choices: Sequence[Choice], values: Values, key: Callable[[Values], Any], allowed: Callable[[Values], bool]
) -> dict[str, int]:
    """`values` with options changed for others as long as that makes the key, what is minimised, smaller, and is
    allowed. Of equal ones the first in the order of `choices`."""
    best, now = key(values), dict(values)
    while True:
        changes = [{c.name: option} for c in choices for option in c.options if option != now[c.name]]
        ranked = sorted(((key({**now, **change}), i) for i, change in enumerate(changes)), key=lambda each: each[0])
        before = best
        for alone, i in ranked:
            if not alone < before:
                break
            new = {**now, **changes[i]}
            reached = key(new)
            if reached < best and allowed(new):
                best, now = reached, new
        if best == before:
            return now
