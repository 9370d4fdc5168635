"""Two tables: ranks of small permutations, common rows, and what is said where there are none."""

import math
from dataclasses import replace

import pytest
from table_toys import CONV, LINEAR, ROWS, row

from lut.compare import compare, spearman
from lut.errors import LutError


@pytest.mark.parametrize(
    ("first", "second", "rank"),
    [
        ([1.0, 2.0, 5.0, 9.0], [math.exp(x) for x in (1.0, 2.0, 5.0, 9.0)], 1.0),
        ([1.0, 2.0, 5.0, 9.0], [-1.0, -2.0, -5.0, -9.0], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 1 - 6 * 4 / (5 * 24)),  # 1 - 6 sum d^2 / (n (n^2 - 1))
        ([1, 2, 3], [1, 1, 2], math.sqrt(3) / 2),  # ranks 1.5 1.5 3
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], None),
        ([1.0], [2.0], None),
    ],
)
def test_spearman_by_hand(first, second, rank):
    assert spearman(first, second) == (None if rank is None else pytest.approx(rank, abs=1e-12))


def test_common_rows():
    second = {s: row(latency.us * f) for (s, latency), f in zip(ROWS.items(), (2, 3, 4, 5, 6))}
    found = compare(ROWS, second)
    assert [pair.ratio for pair in found.pairs] == [2, 3, 4, 5, 6] and found.ratio == 4 and found.by_site
    assert [pair.interpolated for pair in found.pairs] == [False, False, False, True, False]
    assert found.spearman == pytest.approx(math.sqrt(0.95))  # ranks 3 2 4 5 1 and 3 1.5 4 5 1.5


def test_common_rows_without_sites():
    first = {replace(CONV, site=f"layer{i}"): row(us) for i, us in enumerate((1.0, 2.0, 9.0))}
    second = {replace(CONV, site="conv"): row(6.0), replace(LINEAR, site="fc"): row(1.0)}
    found = compare(first, second)
    assert [(p.spec, p.first_us, p.second_us) for p in found.pairs] == [(CONV, 2.0, 6.0)] and not found.by_site
    assert not compare(first, {CONV: row(6.0, "interpolated")}).by_site
    assert compare(first, {CONV: row(6.0, "interpolated")}).pairs[0].interpolated
    both = compare({**first, LINEAR: row(1.0)}, {**second, LINEAR: row(5.0)})
    assert both.by_site and [p.spec for p in both.pairs] == [LINEAR], "sites are left away only where nothing is equal"


def test_no_common_rows_name_the_nearest_pair():
    second = {replace(CONV, kind="add"): row(1.0), replace(CONV, stride=(2, 2), c_in=5): row(1.0),
              replace(LINEAR, in_bits=(4,)): row(1.0)}  # fmt: skip
    message = (
        r"a \(7 rows\) and b \(3 rows\) have no row in common, sites aside; the nearest pair is "
        r"linear 32->10 1x1 k1x1 s1x1 g1 w8 a8>16 and linear 32->10 1x1 k1x1 s1x1 g1 w8 a4>16: in_bits 8 and 4$"
    )
    with pytest.raises(LutError, match=message):
        compare(ROWS, second, ("a", "b"))
    with pytest.raises(LutError, match=r"b \(0 rows\) have no row in common, sites aside$"):
        compare(ROWS, {}, ("a", "b"))
