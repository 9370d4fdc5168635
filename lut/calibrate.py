"""What a whole network costs beyond the sum of its rows, learned from networks that were built and run.

    predict(sum, n, kib) = scale * sum + n * op_us + kib * kib_us + call_us

sum: the rows' sum in microseconds; n: the number of operators; kib: of activations that they read. op_us, kib_us: what
an operator, and a KiB that it reads, costs inside a network beyond its row (cold lines, jumps, what another core
wrote); call_us: entering and leaving the network, measured on an empty one, not fitted; scale: the rest that grows with
the work. The constants live in the table's header, so that every user of it predicts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from .header import check_header
from .spec import FLOAT_BITS, OpSpec
from .table import LatencyTable

SCALE_NEEDS = 3
"""Networks from which on the scale is fitted too; below, it stays 1."""


@dataclass(frozen=True)
class Network:
    """A network that was run as a whole: sum of its rows, number of its operators, and its measured time."""

    sum_us: float
    n_ops: int
    measured_us: float


def read_kib(spec: OpSpec) -> float:
    """KiB of activations that an operator reads, a byte each or four in float32, its second input not counted."""
    size = 4 if spec.in_bits[0] == FLOAT_BITS and spec.kind != "input" else 1
    return spec.batch * spec.c_in * spec.height * spec.width * size / 1024


@dataclass(frozen=True)
class Calibration:
    scale: float = 1.0
    op_us: float = 0.0
    call_us: float = 0.0
    kib_us: float = 0.0

    def predict(self, sum_us: float, n_ops: int, kib: float = 0.0) -> float:
        """Microseconds of a whole network."""
        return self.scale * sum_us + n_ops * self.op_us + kib * self.kib_us + self.call_us

    def of_row(self, us: float, spec: OpSpec) -> float:
        """What an operator adds to a network, its row being `us`."""
        return self.scale * us + self.op_us + read_kib(spec) * self.kib_us

    def error(self, network: Network) -> float:
        """predicted / measured - 1"""
        return self.predict(network.sum_us, network.n_ops) / network.measured_us - 1

    def into(self, table: LatencyTable) -> LatencyTable:
        """The table with these constants in its header."""
        constants: dict[str, Any] = {f"calibration_{name}": repr(value) for name, value in asdict(self).items()}
        return table.replace(**constants)

    @staticmethod
    def of(table: LatencyTable) -> Calibration:
        """The constants of a table's header, the plain sum where it has none. Raises LutError for what is no number."""
        check_header(table.provenance, table.path)
        texts = {each.name: table.provenance.get(f"calibration_{each.name}") for each in fields(Calibration)}
        return Calibration(**{name: float(text) for name, text in texts.items() if text is not None})


def fit(networks: Sequence[Network], call_us: float = 0.0) -> Calibration:
    """Least squares on relative errors. One or two networks give op_us alone, three or more scale and op_us.

    kib_us is 0: few networks tell it from op_us. op_us is held at 0 or above: a network does not run an operator
    faster than its row. Raises ValueError without networks or for one that took no time.
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
