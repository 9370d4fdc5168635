"""What a table's header declares free, equal or ignored: look-ups by hand, and what is refused."""

from dataclasses import replace

import pytest

from cost_models.table import TableLatency
from lut.calibrate import Calibration
from lut.errors import LutError
from lut.rules import NEUTRAL, Rules
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable

CONV = OpSpec("conv2d", 16, 8, 16, 14, 14, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 4, (4,), 8)
ADD = replace(CONV, kind="conv2d_add", batch=1, in_bits=(4, 6), out_bits=2)


def table(**provenance):
    return LatencyTable({CONV: Latency(7.0, 7.0, 7.0)}, provenance, "x.csv")


def test_nothing_is_free_equal_or_ignored_that_is_not_declared():
    plain = table()
    assert plain.missing([ADD, replace(CONV, batch=1), replace(CONV, kind="input"), CONV]) == [
        ADD,
        replace(CONV, batch=1),
        replace(CONV, kind="input"),
    ]


def test_rules_meet_in_one_look_up():
    declared = table(free="input add", alias="conv2d_add=conv2d", ignores="out_bits batch")
    assert declared.lookup(ADD).us == 7.0
    assert declared.lookup(replace(ADD, site="layer1")).us == 7.0
    assert declared.lookup(replace(CONV, kind="input")).us == 0.0
    promoting = table(promote="bits")
    assert promoting.lookup(replace(CONV, w_bits=2)).us == promoting.lookup(replace(CONV, in_bits=(2,))).us == 7.0
    assert promoting.missing([replace(CONV, w_bits=2, in_bits=(2,)), replace(CONV, w_bits=8)]) != []
    sited = table(free_sites="conv1 fc")
    assert sited.lookup(replace(CONV, c_in=3, site="conv1")).us == 0.0
    assert sited.missing([replace(CONV, c_in=3), replace(CONV, c_in=3, site="conv2")]) != []
    for other in (replace(ADD, c_in=4), replace(ADD, in_bits=(6, 4)), replace(CONV, kind="max_pool")):
        with pytest.raises(LutError, match="no row for"):
            declared.lookup(other)
    with pytest.raises(LutError, match="no row for"):
        table(alias="conv2d_add=conv2d", ignores="out_bits").lookup(ADD)


def test_a_row_of_the_site_wins_over_the_row_of_the_shape():
    rows = {CONV: Latency(7.0, 7.0, 7.0), replace(CONV, site="conv1"): Latency(9.0, 9.0, 9.0)}
    declared = LatencyTable(rows, {"ignores": "batch"})
    assert declared.lookup(replace(CONV, batch=1, site="conv1")).us == 9.0
    assert declared.lookup(replace(CONV, batch=1, site="conv2")).us == 7.0


def test_rows_that_ignoring_makes_equal_must_cost_the_same():
    rows = {CONV: Latency(7.0, 7.0, 7.0), replace(CONV, batch=1): Latency(7.5, 7.0, 8.0)}
    with pytest.raises(LutError, match=r"ignores: batch: but .* differ in nothing else and cost 7.0 and 7.5 us"):
        LatencyTable(rows, {"ignores": "batch"}).lookup(replace(CONV, batch=2))
    same = {spec: Latency(7.0, 7.0, 7.0) for spec in rows}
    assert LatencyTable(same, {"ignores": "batch"}).lookup(replace(CONV, batch=2)).us == 7.0


def test_what_is_free_costs_no_overhead_either():
    cost = TableLatency(table(free="input"), calibration=Calibration(2.0, 0.5, 3.0))
    assert (cost(CONV), cost(replace(CONV, kind="input")), cost.fixed) == (14.5, 0.0, 3.0)
    assert TableLatency(table(ignores="out_bits batch")).ignores == {"out_bits", "batch"}


@pytest.mark.parametrize("metric", ["cycles", "energy"])
def test_a_metric_that_the_rows_lack_is_refused(metric):
    with pytest.raises(LutError, match=rf"conv2d 8->16 .*: its row has no {metric}"):
        TableLatency(table(), metric)(CONV)
    rich = LatencyTable({CONV: Latency(7.0, 7.0, 7.0, cycles=5.0, energy_uj=5.0)}, {"free": "input"})
    calibrated = TableLatency(rich, metric, Calibration(2.0, 0.5, 3.0))
    assert calibrated(CONV) == 5.0, "a calibration is of times"
    assert calibrated(replace(CONV, kind="input")) == calibrated.fixed == 0.0


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"alias": "conv2d_add"}, "x.csv: alias: 'conv2d_add' is not kind=other"),
        ({"ignores": "outbits"}, "x.csv: ignores: 'outbits' .*did you mean out_bits"),
        ({"promote": "all"}, "x.csv: promote: 'all' is not bits"),
        ({"ignores": "kind"}, "x.csv: ignores: 'kind' is no field that rows may ignore"),
    ],
)
def test_mistakes(provenance, message):
    with pytest.raises(LutError, match=message):
        table(**provenance)


def test_every_field_has_a_neutral_value_but_kind():
    assert set(NEUTRAL) == set(OpSpec.__dataclass_fields__) - {"kind"}
    assert Rules.of({}) == Rules()
