"""Importers: the contract of all, the CSV map's values and its mistakes, and the command line."""

import json

import pytest

from lut.errors import LutError
from lut.importers import IMPORTERS
from lut.spec import OpSpec
from lut.table import LatencyTable
from scripts.import_lut import main

THEIRS = "lat,ic,oc,h,w,k,s,p,note\n0.5,16,32,8,8,3,1x1,1,first\n1.25,32,32,8,8,1,2x2,0,second\n"
COLUMNS = {
    "latency_us": "lat",
    "c_in": "ic",
    "c_out": "oc",
    "height": "h",
    "width": "w",
    "kernel": "k",
    "stride": "s",
    "pad": "p",
}
CONSTANTS = {
    "kind": "conv2d",
    "batch": "1",
    "dilation": "1",
    "groups": "1",
    "w_bits": "8",
    "in_bits": "8",
    "out_bits": "8",
}
OPTIONS = {"csv": {"columns": COLUMNS, "constants": CONSTANTS, "unit": "ms"}}
SAMPLES = {"csv": THEIRS}


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text(THEIRS)
    return path


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_contract(name, tmp_path):
    """Rows are imported ones, provenance says so, and the table survives its file and refuses no machine."""
    source = tmp_path / "source"
    source.write_text(SAMPLES[name])
    table = IMPORTERS[name](source, device="pixel-1", **OPTIONS[name])
    assert len(table) > 0
    assert {row.source for row in table.values()} == {"imported"}
    assert table.provenance["profiler"] == "imported"
    assert table.provenance["device"] == "pixel-1"
    table.check({"cpu": "mine"})
    table.write(tmp_path / "t.csv")
    assert dict(LatencyTable.read(tmp_path / "t.csv")) == dict(table)
    with pytest.raises(LutError):
        IMPORTERS[name](tmp_path / "absent", device="pixel-1", **OPTIONS[name])


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
    theirs.write_text(THEIRS + row + "\n")
    with pytest.raises(LutError, match=message):
        IMPORTERS["csv"](theirs, device="d", **OPTIONS["csv"])


def test_command_line(theirs, tmp_path, capsys):
    out = tmp_path / "t.csv"
    columns = ",".join(f"{ours}={name}" for ours, name in COLUMNS.items())
    constants = [f"{name}={value}" for name, value in CONSTANTS.items()]
    command = [str(theirs), "--columns", columns, "--device", "pixel-1", "--unit", "ms", "--out", str(out)]
    assert main([*command, "--set", *constants, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert len(LatencyTable.read(out)) == 2
    before = out.read_bytes()
    assert main([*command, "--set", *constants[:-1]]) == 2
    assert "out_bits: neither a column nor a constant" in capsys.readouterr().err
    assert main([*command, "--set", "kind"]) == 2
    assert "'kind' is not name=value" in capsys.readouterr().err
    assert out.read_bytes() == before
