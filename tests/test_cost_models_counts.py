import pytest
from schedules import assignments, random_schedule

from cost_models.base import discrete_cost
from cost_models.counts import COUNTS
from lut.errors import InputError
from lut.spec import OpSpec

CONV = OpSpec("conv2d", 1, 16, 32, 32, 32, (3, 3), (2, 2), pad=(1, 1, 1, 1), w_bits=4, in_bits=(2,))
DEPTHWISE = OpSpec("conv2d", 1, 5, 5, 7, 9, (3, 3), pad=(1, 1, 1, 1), groups=5, w_bits=2, in_bits=(8,))


@pytest.mark.parametrize(
    ("op", "macs", "params", "bitops", "weights"),
    [
        (CONV, 16 * 16 * 32 * 144, 32 * 144 + 32, 16 * 16 * 32 * 144 * 8, 32 * 144 // 2 + 8 * 32),
        (DEPTHWISE, 63 * 45, 50, 63 * 45 * 16, 12 + 40),  # 90 bits are 12 bytes
        (OpSpec("linear", 1, 64, 10, 1, 1, in_bits=(8,)), 640, 650, 640 * 64, 640 + 80),
        (OpSpec("linear", 1, 64, 10, 1, 1, w_bits=32, in_bits=(32,), out_bits=32), 640, 650, 640 * 1024, 2600),
        (OpSpec("max_pool", 1, 64, 64, 8, 8, (2, 2), (2, 2)), 0, 0, 0, 0),
    ],
)
def test_closed_forms(op, macs, params, bitops, weights):
    counted = {name: count(op) for name, count in COUNTS.items()}
    assert counted == {"macs": macs, "params": params, "bitops": bitops, "weights": weights}


def test_unknown_kind_is_named():
    with pytest.raises(InputError, match="'MBConv' cannot be counted"):
        COUNTS["macs"](OpSpec("MBConv", 1, 16, 16, 8, 8))


def test_absent_operators_cost_nothing():
    _, schedule = random_schedule(1, layers=1, skip=True)
    choices, schedule = next(
        (c, s) for c, s in (random_schedule(i, layers=1, skip=True) for i in range(20)) if c[-1].options == (0, 8)
    )
    for values in assignments(choices):
        cost = discrete_cost(schedule.ops, COUNTS["params"], values)
        assert (cost == 0) == (values["conv0.weight_bits"] == 0)
