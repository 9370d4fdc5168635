"""Can a table be believed? scripts/bench_profile.py --again, on a machine whose neighbours are the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_kernels import CONV, HOST, fake_engine

from scripts.bench_profile import again


def test_two_passes_differ_where_timings_are_few_and_agree_where_they_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = replace(fake_engine(tmp_path, monkeypatch), processes=5)
    ways = {"enough": replace(engine, most=30), "few": replace(engine, most=5)}
    found = again([replace(CONV, kind="busy", c_in=c) for c in range(4, 34)], HOST, ways)
    assert found["enough"] | {"seconds": 0, "disturbed": ""} == {
        "rows": 30,
        "seconds": 0,
        "disturbed": "",
        "above 3% apart": "0.0%",
        "above 5% apart": "0.0%",
        "above 10% apart": "0.0%",
        "at most": "0.0%",
        "in the median": "0.00%",
    }
    assert float(found["few"]["above 10% apart"].rstrip("%")) > 20
    assert found["enough"]["seconds"] > found["few"]["seconds"] > 0
    assert all(0.4 < float(share) < 0.75 for share in found["enough"]["disturbed"].split(", "))
