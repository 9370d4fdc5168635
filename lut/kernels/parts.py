"""What several threads share: a kernel on T threads is T calls, `part` = 0 .. T - 1, in any order or all at once.

Of n equal units a part does those from floor(n part / T) to floor(n (part + 1) / T) (`emit.Nest.share`). Units are rows
of the output wherever these come out even: the next operator then mostly reads what its own core wrote, and hardly a
cache line is written by two. Else they are blocks of channels, each part then staging the whole input for itself.
"""

from __future__ import annotations

UNEVEN = 1.25
"""How much longer the largest share of rows may be than the largest of another axis, both relative to an equal one."""


def unevenness(units: int, threads: int) -> float:
    """The largest of the shares over an equal share: ceil(n / T) T / n."""
    return -(-units // threads) * threads / units


def shared_axis(threads: int, **units: int) -> tuple[str, float]:
    """(name, unevenness) of the axis to share: the first, unless another one is more even by more than UNEVEN."""
    found = {name: unevenness(count, threads) for name, count in units.items()}
    first, best = next(iter(found)), min(found, key=lambda name: found[name])
    chosen = first if found[first] <= UNEVEN * found[best] else best
    return chosen, found[chosen]
