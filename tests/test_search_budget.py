import random

import pytest

from lut.errors import InputError
from search.budget import UNITS, Budget, BudgetError, at_least, quantity


@pytest.mark.parametrize(
    ("text", "metric", "limit", "unit", "described"),
    [
        ("latency=5ms", "latency", 5000, "us", "latency <= 5 ms"),
        ("latency.p90 = 250 µs", "latency.p90", 250, "us", "latency.p90 <= 250 us"),
        ("latency=1e-3s", "latency", 1000, "us", "latency <= 1 ms"),
        ("ram=64KiB", "ram", 65536, "B", "ram <= 64 KiB"),
        ("weights=.5MiB", "weights", 524288, "B", "weights <= 512 KiB"),
        ("macs=12M", "macs", 12e6, "", "macs <= 12 M"),
        ("bitops=1.5G", "bitops", 1.5e9, "", "bitops <= 1.5 G"),
        ("params=100", "params", 100, "", "params <= 100"),
        ("latency=60%", "latency", 0.6, "%", "latency <= 60 % of the uniform 8-bit network"),
    ],
)
def test_parse(text, metric, limit, unit, described):
    budget = Budget.parse(text)
    assert (budget.metric, budget.unit) == (metric, unit)
    assert budget.limit == pytest.approx(limit)
    assert budget.describe() == described


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("latency", "not of the form metric=limit"),
        ("latency<5ms", "not of the form metric=limit"),
        ("speed=5ms", "'speed' is no metric; it is one of latency,"),
        ("latency=5", "the unit is missing; write latency=60% or latency=5us or latency=5ms"),
        ("latency=5KiB", "'KiB' is no unit of latency"),
        ("ram=64KB", "'KB' is no unit of ram; write ram=60% or ram=5B or ram=5KiB"),
        ("ram=64", "the unit is missing"),
        ("macs=12m", "'m' is no unit of macs"),
        ("latency=ms", "no number with a unit"),
        ("latency=1.2.3ms", "no number with a unit"),
        ("latency=0ms", "must be positive"),
        ("latency=-3ms", "must be positive"),
        ("macs=1e999", "must be positive and finite"),
    ],
)
def test_errors_name_what_is_right(text, problem):
    with pytest.raises(InputError) as caught:
        Budget.parse(text)
    assert problem in str(caught.value)
    assert text in str(caught.value)


def test_a_share_is_resolved_against_the_reference():
    budget = Budget.parse("ram=50%")
    with pytest.raises(ValueError, match="resolve it"):
        budget.fits(1.0)
    resolved = budget.resolve({"ram": 2048.0})
    assert resolved == Budget("ram", 1024.0, "B")
    assert resolved.resolve({}) == resolved
    assert resolved.fits(1024.0)
    assert not resolved.fits(1024.1)


def test_quantity_takes_the_unit_that_reads_best():
    assert quantity("ram", 1023) == "1023 B"
    assert quantity("latency", 0.5) == "0.5 us"
    assert quantity("macs", 12_345_678) == "12.35 M"
    assert quantity("energy", 2500) == "2.5 mJ"
    assert [next(iter(units)) for units in UNITS.values()] == ["us", "us", "uJ", "", "B", "B", "B", "", "", ""]


def test_what_is_at_least_needed_is_enough_as_a_budget():
    assert at_least("ram", 1234567) == "1.178 MiB"
    assert at_least("ram", 10760) == "10.51 KiB"
    assert at_least("latency", 5000) == "5 ms"
    assert at_least("ram", 1024 * (0.1 + 0.2)) == "307.2 B", "rounding errors are not rounded up"
    generator = random.Random(0)
    for _ in range(200):
        cost = 10 ** generator.uniform(0, 9)
        for metric in ("ram", "latency", "macs"):
            assert Budget.parse(f"{metric}={at_least(metric, cost)}").fits(cost)


def test_exit_status_of_an_unreachable_budget():
    assert BudgetError("no", {"ram": 1.0}).exit_code == 3
    assert InputError.exit_code == 2
