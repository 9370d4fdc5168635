import pytest

from cost_models.base import discrete_cost
from cost_models.table import TableLatency, TableWorkspace
from lut.calibrate import Calibration
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from supernet.schedule import SearchOp

CONV = OpSpec("conv2d", 1, 16, 16, 8, 8, (3, 3), pad=(1, 1, 1, 1))
POOL = OpSpec("avg_pool", 1, 16, 16, 8, 8, (8, 8))
TABLE = LatencyTable({CONV: Latency(12.0, 11.0, 14.0, workspace_bytes=256), POOL: Latency(3.0, 2.5, 3.5)})


@pytest.mark.parametrize(("metric", "total"), [("latency", 15.0), ("latency.p90", 17.5)])
def test_sum_of_rows_and_constants(metric, total):
    ops = [SearchOp(s.kind, (), (), lambda values, s=s: s, (), "y") for s in (CONV, POOL)]
    assert discrete_cost(ops, TableLatency(TABLE, metric), {}) == total
    calibrated = TableLatency(TABLE, metric, Calibration(scale=2.0, op_us=0.25, call_us=2.0, kib_us=0.5))
    assert discrete_cost(ops, calibrated, {}) == 2 * total + 2.5 + 2 * 0.5  # each reads 16 x 8 x 8 bytes: 1 KiB
    assert calibrated.calibration.predict(total, len(ops), 2.0) == 2 * total + 3.5


def test_workspace_is_the_rows():
    assert [TableWorkspace(TABLE)(spec) for spec in (CONV, POOL)] == [256, 0]


def test_bits_are_ignored_only_where_the_table_says_so():
    assert TableLatency(TABLE).ignores == frozenset()
    assert TableLatency(TABLE.replace(collapse="act_bits")).ignores == {"in_bits", "out_bits"}
