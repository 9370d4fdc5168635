"""The sampling plan: what must be measured is, the rest is a partition, and small groups stay whole."""

from dataclasses import replace

import pytest

from lut.interpolate import group_of
from lut.plan import SMALL_GROUP, choose, plan
from lut.spec import OpSpec

CONV = OpSpec("conv2d", 1, 16, 16, 16, 16, (3, 3), pad=(1, 1, 1, 1))
SPACE = [replace(CONV, c_in=i, c_out=o, w_bits=b) for b in (4, 8) for i in range(4, 65, 4) for o in range(3, 65)]


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("share", [0.1, 0.35])
def test_corners_and_steps_are_measured(lanes, share):
    found = plan(SPACE, lanes, share)
    measured = set(found.measure)
    assert set(SPACE) == measured | set(found.interpolate)
    assert not measured & set(found.interpolate)
    for bits in (4, 8):
        rows = {(s.c_in, s.c_out) for s in measured if s.w_bits == bits}
        assert {(4, 3), (4, 64), (64, 3), (64, 64)} <= rows
        assert {(64, c) for c in range(lanes, 65, lanes)} <= rows, "full vectors"
        assert {(64, c + 1) for c in range(lanes, 64, lanes)} <= rows, "just above a step"
        size = sum(s.w_bits == bits for s in SPACE)
        assert abs(len(rows) - share * size) <= 1


def test_the_rest_spreads_over_the_plane():
    """No row is farther than an octave and a half from a measured one."""
    found = plan(SPACE, 8, 0.1)
    for spec in found.interpolate:
        near = [
            s
            for s in found.measure
            if s.w_bits == spec.w_bits and 1 / 2.9 < s.c_in / spec.c_in < 2.9 and 1 / 2.9 < s.c_out / spec.c_out < 2.9
        ]
        assert near, spec


def test_small_groups_are_measured_whole_and_duplicates_once():
    small = [replace(CONV, c_in=i, c_out=o) for i in (4, 8, 12, 16) for o in (4, 8, 12, 16)]
    found = plan(small * 3, 8, 0.1)
    assert len(small) == SMALL_GROUP
    assert set(found.measure) == set(small)
    assert len(found.measure) == len(small)
    assert not found.interpolate
    assert found.minutes(16) == 1
    assert plan([], 8).measure == ()


def test_corners_of_a_ragged_group_come_first():
    ragged = [replace(CONV, c_in=i, c_out=o) for i in range(4, 65, 4) for o in range(i, 65, 5)]
    chosen = {(s.c_in, s.c_out) for s in choose(ragged, 0, 64)}
    assert {(4, 4), (4, 64), (64, 64)} <= chosen
    assert len(chosen) < 6


def test_depthwise_group_is_one_line():
    line = [replace(CONV, c_in=c, c_out=c, groups=c) for c in range(2, 129, 2)]
    found = plan(line, 8, 0.3)
    assert len({group_of(s) for s in line}) == 1
    channels = {s.c_out for s in found.measure}
    assert {2, 8, 10, 16, 18, 128} <= channels
    assert len(channels) < len(line)


def test_share_of_everything_and_bad_share():
    assert not plan(SPACE, 8, 1.0).interpolate
    with pytest.raises(ValueError, match="share"):
        plan(SPACE, 8, 0)
