"""scripts/import_lut.py: the format told from the file, options that a format has or has not, units that contradict."""

import json

import pytest
from import_samples import COLUMNS, CONSTANTS, CSV, SAMPLES, sample

from lut.importers import FORMATS
from lut.table import LatencyTable
from scripts.import_lut import FLAGS, main

NEEDED = {"fbnet_hwnasbench": ["--source-device", "raspi4"], "fbnet_lines": ["--unit", "ms"]}


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"csv"}))
@pytest.mark.parametrize("how", ["auto", "named"])
def test_every_format(name, how, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "t.csv"
    source.write_bytes(sample(name))
    named = ["--format", name] if how == "named" else []
    assert main([str(source), "--device", "d", "--out", str(out), "--json", *named, *NEEDED.get(name, [])]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["format"] == name
    assert result["rows"] == len(LatencyTable.read(out))


def test_csv(tmp_path, capsys):
    source, out = tmp_path / "theirs.csv", tmp_path / "t.csv"
    source.write_text(CSV)
    columns = ",".join(f"{ours}={name}" for ours, name in COLUMNS.items())
    constants = [f"{name}={value}" for name, value in CONSTANTS.items()]
    command = [str(source), "--columns", columns, "--device", "pixel-1", "--unit", "ms", "--out", str(out)]
    assert main([*command, "--set", *constants, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert len(LatencyTable.read(out)) == 2
    before = out.read_bytes()
    assert main([*command, "--set", *constants[:-1]]) == 2
    assert "out_bits: neither a column nor a constant" in capsys.readouterr().err
    assert main([*command, "--set", "kind"]) == 2
    assert "'kind' is not name=value" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("haq", ["--unit", "ms"], "--unit ms: haq files hold cycles; leave --unit out"),
        ("ofa", ["--unit", "us"], "--unit us: ofa files hold ms"),
        ("fbnet_lines", [], "--unit: fbnet_lines files do not say their unit"),
        ("csv", [], "--unit: csv files do not say their unit"),
        ("ofa", ["--network", "ResNet18"], "--network is for hawq, and"),
        ("haq", ["--clock", "500"], "--clock: '500' is not a positive number and a unit"),
        ("haq", ["--clock", "0 MHz"], "--clock: '0 MHz' is not a positive number and a unit"),
        ("haq", ["--format", "ofa"], "this looks like haq, not ofa; use --format haq"),
        ("fbnet_hwnasbench", [], "choose a source device of ['raspi4', 'eyeriss']"),
        ("hawq", ["--network", "ResNet19"], "'ResNet19' is not there or of unknown layers; did you mean ResNet18?"),
    ],
)
def test_mistakes(name, arguments, message, tmp_path, capsys):
    source = tmp_path / "source"
    source.write_bytes(sample(name))
    assert main([str(source), "--device", "d", "--out", str(tmp_path / "t.csv"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_the_clock_turns_cycles_into_time(tmp_path):
    source, out = tmp_path / "source", tmp_path / "t.csv"
    source.write_bytes(sample("haq"))
    assert main([str(source), "--device", "d", "--out", str(out), "--clock", "500 MHz"]) == 0
    table = LatencyTable.read(out)
    assert table.provenance["clock"] == "500.0 MHz"
    assert all(row.us == pytest.approx(row.cycles / 500) for row in table.values())


def test_a_unit_that_agrees_is_no_contradiction(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(sample("ofa"))
    assert main([str(source), "--device", "d", "--out", str(tmp_path / "t.csv"), "--unit", "ms"]) == 0


def test_the_help_has_an_example_of_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"({name}" in text for name in FORMATS)
    assert all(flag in text for flag in FLAGS.values())
    assert {option for kind in FORMATS.values() for option in kind.options} == set(FLAGS)
