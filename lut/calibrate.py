"""What a whole network costs beyond the sum of its rows, learned from networks that were built and run.

    predict(sum, n) = scale * sum + n * op_us + call_us

sum: the rows' sum in microseconds; n: the number of operators. op_us: what one operator costs inside a network beyond
its row (cold lines, jumps); call_us: entering and leaving the network, measured on an empty one, not fitted; scale: the
rest that grows with the work. The constants live in the table's header, so that every user of it predicts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .header import check_header
from .table import LatencyTable

SCALE_NEEDS = 3
"""Networks from which on the scale is fitted too; below, it stays 1."""


@dataclass(frozen=True)
class Network:
    """A network that was run as a whole: sum of its rows, number of its operators, and its measured time."""

    sum_us: float
    n_ops: int
    measured_us: float


@dataclass(frozen=True)
class Calibration:
    scale: float = 1.0
    op_us: float = 0.0
    call_us: float = 0.0

    def predict(self, sum_us: float, n_ops: int) -> float:
        """Microseconds of a whole network."""
        return self.scale * sum_us + n_ops * self.op_us + self.call_us

    def error(self, network: Network) -> float:
        """predicted / measured - 1"""
        return self.predict(network.sum_us, network.n_ops) / network.measured_us - 1

    def into(self, table: LatencyTable) -> LatencyTable:
        """The table with these constants in its header."""
        return table.replace(
            calibration_scale=repr(self.scale),
            calibration_op_us=repr(self.op_us),
            calibration_call_us=repr(self.call_us),
        )

    @staticmethod
    def of(table: LatencyTable) -> Calibration:
        """The constants of a table's header, the plain sum where it has none. Raises LutError for what is no number."""
        check_header(table.provenance, table.path)
        texts = {name: table.provenance.get(f"calibration_{name}") for name in ("scale", "op_us", "call_us")}
        return Calibration(**{name: float(text) for name, text in texts.items() if text is not None})


def fit(networks: Sequence[Network], call_us: float = 0.0) -> Calibration:
    """Least squares on relative errors. One or two networks give op_us alone, three or more scale and op_us.

    op_us is held at 0 or above: a network does not run an operator faster than its row. Raises ValueError without
    networks or for one that took no time.
    """
    if not networks or any(n.measured_us <= 0 or n.sum_us <= 0 or n.n_ops < 1 for n in networks):
        raise ValueError("calibration needs networks with positive times and at least one operator")
    measured = np.array([n.measured_us for n in networks])
    sums, ops = np.array([n.sum_us for n in networks]) / measured, np.array([n.n_ops for n in networks]) / measured
    target = 1 - call_us / measured
    if len(networks) < SCALE_NEEDS:
        return Calibration(1.0, max(0.0, float(ops @ (target - sums) / (ops @ ops))), call_us)
    scale, op_us = np.linalg.lstsq(np.stack([sums, ops], 1), target, rcond=None)[0]
    if op_us < 0:
        scale, op_us = sums @ target / (sums @ sums), 0.0
    return Calibration(float(scale), float(op_us), call_us)
