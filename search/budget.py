"""Budgets as a person states them: a metric, a limit and its unit, or a share of the uniform 8-bit network's cost.

latency=5ms   latency.p90=5ms   energy=2mJ   cycles=20M   ram=64KiB   weights=40KiB   flash=64KiB   macs=12M
bitops=1.5G   params=100k   latency=60%
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

from lut.errors import InputError

_TIME = {"us": 1.0, "ms": 1e3, "s": 1e6}
_ENERGY = {"uJ": 1.0, "mJ": 1e3, "J": 1e6}
_BYTES = {"B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2}
_COUNT = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS: dict[str, Mapping[str, float]] = {
    "latency": _TIME,
    "latency.p90": _TIME,
    "energy": _ENERGY,
    "cycles": _COUNT,
    "ram": _BYTES,
    "weights": _BYTES,
    "flash": _BYTES,
    "macs": _COUNT,
    "bitops": _COUNT,
    "params": _COUNT,
}
"""Metric -> what its units are worth in the base unit (us, uJ, B, a count), which comes first."""
EXAMPLES = (
    "latency=5ms, latency.p90=5ms, energy=2mJ, cycles=20M, ram=64KiB, weights=40KiB, flash=64KiB, macs=12M, "
    "bitops=1.5G, params=100k, latency=60%"
)
SLACK = 1e-9
"""Relative rounding error that a cost inside its budget may show."""


class BudgetError(InputError):
    """No architecture of the space fits. `smallest`: reachable cost by metric, in base units."""

    exit_code = 3

    def __init__(self, message: str, smallest: Mapping[str, float]):
        super().__init__(message)
        self.smallest = dict(smallest)


@dataclass(frozen=True)
class Budget:
    """cost <= limit. limit: in the metric's base unit (us, uJ, B or a count), or `%`, a share to be resolved."""

    metric: str
    limit: float
    unit: str

    @staticmethod
    def parse(text: str) -> Budget:
        """Raises InputError, which names the valid forms."""
        metric, equals, quantity = (part.strip() for part in text.partition("="))
        if not equals:
            raise InputError(f"budget {text!r}: not of the form metric=limit; examples: {EXAMPLES}")
        if metric not in UNITS:
            raise InputError(f"budget {text!r}: {metric!r} is no metric; it is one of {', '.join(UNITS)}")
        units = UNITS[metric]
        right = f"{metric}=60% or " + " or ".join(f"{metric}=5{unit}" for unit in units)
        match = re.fullmatch(r"([0-9.eE+-]+?)\s*([A-Za-zµ%]*)", quantity)
        number = _number(match[1]) if match else None
        if match is None or number is None:
            raise InputError(f"budget {text!r}: {quantity!r} is no number with a unit; write {right}")
        if not (number > 0 and math.isfinite(number)):
            raise InputError(f"budget {text!r}: the limit must be positive and finite")
        unit = match[2].replace("µ", "u")
        if unit == "%":
            return Budget(metric, number / 100, "%")
        if unit not in units:
            problem = f"{unit!r} is no unit of {metric}" if unit else "the unit is missing"
            raise InputError(f"budget {text!r}: {problem}; write {right}")
        return Budget(metric, number * units[unit], next(iter(units)))

    @property
    def relative(self) -> bool:
        return self.unit == "%"

    def resolve(self, reference: Mapping[str, float]) -> Budget:
        """The same in the base unit; `reference` is the uniform 8-bit network's cost by metric, in base units."""
        if not self.relative:
            return self
        return Budget(self.metric, self.limit * reference[self.metric], next(iter(UNITS[self.metric])))

    def fits(self, cost: float) -> bool:
        """Whether a cost in the base unit is inside; ValueError for a share that was not resolved."""
        if self.relative:
            raise ValueError(f"{self.describe()}: resolve it against the reference first")
        return cost <= self.limit * (1 + SLACK)

    def describe(self) -> str:
        """Such as `latency <= 5 ms`."""
        if self.relative:
            return f"{self.metric} <= {100 * self.limit:g} % of the uniform 8-bit network"
        return f"{self.metric} <= {quantity(self.metric, self.limit)}"


def quantity(metric: str, cost: float) -> str:
    """A cost in the base unit, written in the largest unit that keeps it at or above 1: `5 ms`, `40 KiB`, `12 M`."""
    value, name = _scaled(metric, cost)
    return f"{value:.4g} {name}".rstrip()


def at_least(metric: str, cost: float) -> str:
    """Like `quantity`, rounded up: as a budget, what is read there holds the cost."""
    value, name = _scaled(metric, cost)
    above = Context(prec=4, rounding=ROUND_CEILING).create_decimal(f"{value:.12g}")
    return f"{float(above):.4g} {name}".rstrip()


def _scaled(metric: str, cost: float) -> tuple[float, str]:
    """A cost in the base unit as (value, unit), in the largest unit that keeps it at or above 1."""
    units = sorted(UNITS[metric].items(), key=lambda item: item[1])
    name, worth = next(((u, w) for u, w in reversed(units) if abs(cost) >= w), units[0])
    return cost / worth, name


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
