"""Interpolation on costs whose closed form is known, and its own estimate of its error."""

from dataclasses import replace

import numpy as np
import pytest

from lut.interpolate import error_provenance, fit, group_of, held_out_errors, kriging
from lut.plan import plan
from lut.spec import Latency, OpSpec

CONV = OpSpec("conv2d", 1, 16, 16, 16, 16, (3, 3), pad=(1, 1, 1, 1))
LANES = 8


def staircase(spec):
    """A kernel that computes whole vectors: start-up, loads per input word, products per block, a masked tail."""
    blocks, fours = -(-spec.c_out // LANES), -(-spec.c_in // 4)
    return 0.4 + 0.02 * fours + 0.1 * blocks + 0.09 * fours * blocks + 0.3 * (spec.c_out % LANES > 0)


def table(specs, cost=staircase, noise=0.0, seed=0):
    generator = np.random.default_rng(seed)
    return {
        s: Latency(us, us, us) for s in specs for us in [cost(s) * (1 + noise * float(generator.standard_normal()))]
    }


def grid(ins, outs):
    return [replace(CONV, c_in=i, c_out=o) for i in ins for o in outs]


def test_groups():
    depthwise = replace(CONV, c_in=24, c_out=24, groups=24)
    assert group_of(depthwise) == group_of(replace(depthwise, c_in=32, c_out=32, groups=32, site="a"))
    assert group_of(depthwise) != group_of(CONV)
    assert group_of(CONV) == group_of(replace(CONV, c_in=3))
    assert group_of(CONV) != group_of(replace(CONV, w_bits=4))
    assert group_of(replace(CONV, groups=2)) != group_of(CONV)


def test_staircase_is_recovered_from_the_plan():
    space = grid(range(4, 65, 4), range(2, 65, 2))
    measured = plan(space, LANES).measure
    assert len(measured) < 0.4 * len(space)
    model = fit({s: staircase(s) for s in measured}, LANES)
    errors = [abs(model(s) / staircase(s) - 1) for s in space]
    assert max(errors) < 0.03
    step = [model(replace(CONV, c_in=32, c_out=c)) for c in (16, 18, 24, 26)]
    assert step[1] - step[0] > 3 * abs(step[2] - step[1])


def test_packed_codes_that_fill_no_whole_word_are_told_apart():
    """4-bit codes: eight channels fill a word; elsewhere every input code costs more."""
    space = [replace(spec, in_bits=(4,)) for spec in grid(range(4, 65, 4), range(8, 65, 8))]
    cost = {spec: staircase(spec) + (0.05 * spec.c_in if spec.c_in % 8 else 0) for spec in space}
    rows = {spec: Latency(us, us, us) for spec, us in cost.items()}
    measured = plan(space, LANES, word=32).measure
    assert len(measured) < 0.4 * len(space)
    ask = kriging({spec: rows[spec] for spec in measured}, {"lanes": "8", "word": "32"})
    assert max(abs(ask(spec).us / cost[spec] - 1) for spec in space) < 0.03
    without = kriging({spec: rows[spec] for spec in measured}, {"lanes": "8"})
    assert max(abs(without(spec).us / cost[spec] - 1) for spec in space) > 0.1
    assert max(held_out_errors(rows, LANES, 32)) < 0.03 < max(held_out_errors(rows, LANES))


def test_measured_rows_are_kept_and_range_is_respected():
    space = grid((4, 8, 16, 32), (8, 16, 32))
    rows = table(space, noise=0.05)
    ask = kriging(rows, {"lanes": "8"})
    assert all(ask(s).us == pytest.approx(rows[s].us, rel=0.06) for s in space)
    assert ask(replace(CONV, c_in=64)) is None
    assert ask(replace(CONV, c_in=2, c_out=8)) is None
    assert ask(replace(CONV, w_bits=2)) is None


def test_depthwise_is_one_dimensional():
    specs = [replace(CONV, c_in=c, c_out=c, groups=c) for c in range(8, 129, 8)]
    cost = {s: 0.3 + 0.05 * s.c_out for s in specs}
    model = fit({s: us for s, us in cost.items() if s.c_out % 32 == 0 or s.c_out == 8}, LANES)
    assert max(abs(model(s) / us - 1) for s, us in cost.items()) < 0.03


def test_correction_learns_what_the_trend_cannot():
    """A cache cliff is no sum of the features: with the correction the error at its foot is halved at least."""
    space = grid(range(4, 129, 8), range(8, 129, 8))

    def cliff(spec):
        return staircase(spec) * (1.0 if spec.c_in * spec.c_out < 4096 else 1.25)

    measured = set(space[::2])
    model = fit({s: cliff(s) for s in measured}, LANES)
    trend = replace_weights(model)
    errors = {
        name: np.mean([abs(m(s) / cliff(s) - 1) for s in space if s not in measured and m(s) is not None])
        for name, m in (("full", model), ("trend", trend))
    }
    assert errors["full"] < 0.5 * errors["trend"]


def replace_weights(model):
    from dataclasses import replace as change

    return change(model, weights=np.zeros_like(model.weights))


def test_held_out_error_sees_noise_and_nothing_else():
    space = grid((4, 8, 16, 24, 32), (8, 16, 24, 32, 48, 64))
    clean, noisy = (np.median(held_out_errors(table(space, noise=n), LANES)) for n in (0, 0.1))
    assert clean < 0.01 < noisy < 0.15
    assert held_out_errors(table(space), LANES) == held_out_errors(table(space), LANES)
    assert held_out_errors(table(space[:2]), LANES) == []


def test_interpolated_and_site_rows_teach_nothing():
    space = grid((4, 8, 16), (8, 16))
    rows = table(space)
    wrong = {replace(s, c_in=12): Latency(99, 99, 99, source="interpolated") for s in space}
    wrong |= {replace(s, site="x"): Latency(99, 99, 99) for s in space}
    asked = replace(CONV, c_in=12, c_out=16)
    assert kriging({**rows, **wrong}, {})(asked) == kriging(rows, {})(asked)


def test_error_provenance():
    assert error_provenance([]) == {}
    assert error_provenance([0.01] * 9 + [0.5])["held_out_error"] == "0.0100"
    assert error_provenance([0.1, 0.2])["held_out_rows"] == "2"
