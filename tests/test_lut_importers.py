"""Importers: the contract of all, the CSV map's values and its mistakes."""

import pytest
from import_samples import COLUMNS, CONSTANTS, CSV, OPTIONS, SAMPLES, attempt, options, sample

from lut.errors import LutError
from lut.importers import FORMATS, IMPORTERS, sniff
from lut.importers.sniff import KNOWN
from lut.spec import OpSpec
from lut.table import LatencyTable


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text(CSV)
    return path


def test_every_format_has_a_sample():
    assert set(IMPORTERS) == set(FORMATS) == set(SAMPLES) == set(KNOWN)


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_contract(name, tmp_path):
    """Rows are imported ones, provenance says so, and the table survives its file and refuses no machine."""
    source = tmp_path / "source"
    source.write_bytes(sample(name))
    table = IMPORTERS[name](source, **options(name))
    assert len(table) > 0
    assert {row.source for row in table.values()} == {"imported"}
    assert all(0 < row.p10 <= row.us <= row.p90 and row.n >= 1 for row in table.values())
    assert table.provenance["profiler"] == "imported"
    assert table.provenance["device"] == "pixel-1"
    assert table.provenance["origin"] == "source"
    assert table.provenance["unit"] == (FORMATS[name].unit or "ms")
    table.check({"cpu": "mine"})
    table.write(tmp_path / "t.csv")
    again = LatencyTable.read(tmp_path / "t.csv")
    assert dict(again) == dict(table)
    assert again.provenance == table.provenance
    assert all(table.lookup(spec) == row for spec, row in table.items())
    assert table.rules.ignores <= set(OpSpec.__dataclass_fields__)


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_what_is_no_file(name, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "blank").write_bytes(b"\n \n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xe9\xff" * 9)
    for other in ("absent", "empty", "blank", "folder", "latin"):
        with pytest.raises(LutError, match=other):
            IMPORTERS[name](tmp_path / other, **options(name))
    with pytest.raises(LutError, match="looks like no known format; choose one with --format: apq, csv"):
        sniff(tmp_path / "latin")


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_formats_are_told_apart(name, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(sample(name))
    assert sniff(source) == name
    for other in sorted(set(IMPORTERS) - {name}):
        with pytest.raises(LutError) as error:
            IMPORTERS[other](source, **options(other))
        if name != "csv":  # most text could be CSV
            assert f"this looks like {name}, not {other}; use --format {name}" in str(error.value)


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_a_file_that_was_cut_off(name, tmp_path):
    """It is refused, or, where it ends between two rows, holds true rows only. A number cut in two can't be told."""
    content, source = sample(name), tmp_path / "source"
    source.write_bytes(content)
    whole = IMPORTERS[name](source, **options(name))
    mark = {"csv": b",", "fbnet": b" "}.get(name)  # their last cell may be cut in two
    last = content.rindex(mark) if mark else len(content) - 1
    refused = 0
    for end in sorted({1, 2, *range(3, last, max(1, last // 50))}):
        source.write_bytes(content[:end])
        part = attempt(name, source)
        if isinstance(part, str):
            refused += 1
            assert str(source) in part
        else:
            assert dict(part).items() <= dict(whole).items()
    assert refused > 0


def test_values(theirs):
    table = IMPORTERS["csv"](theirs, device="d", **OPTIONS["csv"])
    first = OpSpec("conv2d", 1, 16, 32, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 8, (8,), 8)
    assert table[first].us == table[first].p10 == 500
    assert [row.us for row in table.values()] == [500, 1250]


@pytest.mark.parametrize("unit", [("ns", 0.0005), ("us", 0.5), ("s", 5e5)])
def test_units(theirs, unit):
    table = IMPORTERS["csv"](theirs, device="d", **{**OPTIONS["csv"], "unit": unit[0]})
    assert next(iter(table.values())).us == pytest.approx(unit[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "minutes"}, "unit: 'minutes' is unknown"),
        ({"columns": {**COLUMNS, "latency_us": "lta"}}, ":1: lta: no such column for latency_us; did you mean lat?"),
        ({"columns": {**COLUMNS, "channels_in": "ic"}}, "column map: channels_in: no column of a table"),
        ({"columns": {**COLUMNS, "kind": "note"}}, "kind: has both a column and a constant"),
        ({"constants": {k: v for k, v in CONSTANTS.items() if k != "groups"}}, ":1: groups: neither a column nor"),
        ({"constants": {**CONSTANTS, "groups": "one"}}, "constants: groups: 'one' is not a whole number"),
    ],
)
def test_bad_maps(theirs, change, message):
    with pytest.raises(LutError, match=message):
        IMPORTERS["csv"](theirs, device="d", **{**OPTIONS["csv"], **change})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-1,16,32,9,8,3,1,1,x", ":4: latency_us: -1 is not positive"),
        (",16,32,9,8,3,1,1,x", ":4: latency_us: is empty"),
        ("1,16,32,9,8,3,1,1", ":4: the number of cells differs"),
        ("1,16,32,9,8,3,1,1,x,y", ":4: the number of cells differs"),
        ("1,16,32,8,8,3,1,1,x", ":4: .*duplicate of an earlier row"),
    ],
)
def test_bad_rows(theirs, row, message):
    theirs.write_text(CSV + row + "\n")
    with pytest.raises(LutError, match=message):
        IMPORTERS["csv"](theirs, device="d", **OPTIONS["csv"])
