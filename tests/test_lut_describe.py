"""python -m lut describe: every number against one counted by hand on a table of eleven rows, and bad input."""

import json
from dataclasses import replace

import pytest

from lut.__main__ import main, page
from lut.describe import bits_of, coverage, duration, groups_of, percent, rules, summary
from lut.errors import LutError
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable, distance

CONV = OpSpec("conv2d", 1, 4, 16, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 8, (8,), 8)
DEPTHWISE = replace(CONV, c_in=16, groups=16)
LINEAR = OpSpec("linear", 2, 32, 10, 1, 1, out_bits=16, attrs="act=relu;fuse=1", site="fc1")


def row(us, low=0.0, high=0.0, n=10, **fields):
    return Latency(us, us - low, us + high, n, **fields)


ROWS = {
    CONV: row(1.0, 0.1, 0.1),
    replace(CONV, w_bits=4): row(2.0, 0.2, 0.4),
    replace(CONV, c_out=32): row(3.0, 0.3, 1.2),
    replace(CONV, c_out=32, w_bits=4): row(4.0, 0.0, 4.0, n=30),
    replace(CONV, c_in=8): row(5.0),
    replace(CONV, c_in=8, w_bits=4): row(6.0, 0.0, 0.6),
    replace(CONV, c_in=8, c_out=32): row(900.0, 900.0, 900.0, n=0, source="interpolated"),
    DEPTHWISE: row(7.0, 0.0, 0.7, workspace_bytes=64),
    replace(DEPTHWISE, c_in=32, c_out=32, groups=32): row(8.0, 0.0, 0.8, workspace_bytes=64),
    LINEAR: row(2500.0, n=1, source="imported", energy_uj=3.0),
    replace(LINEAR, attrs="act=none;fuse=1", site="fc2"): row(3500.0, n=1, source="imported", cycles=7.0),
}
PROVENANCE = {"device": "toy", "profiler": "imported", "date": "2026-01-02", "clock": "84", "note": "of ours"}


def table(rows=ROWS, **provenance):
    return LatencyTable(rows, {**PROVENANCE, **provenance}, "toy.csv")


def test_numbers_of_a_small_table():
    body = summary(table())
    assert (body["device"], body["rows"], body["sources"]) == ("toy", 11, {"host": 8, "imported": 2, "interpolated": 1})
    conv, linear = body["kinds"]
    assert (conv["kind"], conv["rows"], linear["kind"], linear["rows"]) == ("conv2d", 9, "linear", 2)
    assert conv["latency_us"] == {"min": 1.0, "median": 5.0, "max": 900.0}
    assert (conv["n"], linear["n"]) == ({"min": 0, "max": 30}, {"min": 1, "max": 1})
    assert conv["c_in"] == {4: 4, 8: 3, 16: 1, 32: 1} and conv["c_out"] == {16: 5, 32: 4}
    assert conv["size"] == {"8x8": 9} and conv["kernel"] == {"3x3": 9} and linear["batch"] == {2: 2}
    assert conv["groups"] == {"plain": 7, "depthwise": 2}
    assert conv["bits"] == {"w8 a8>8": 6, "w4 a8>8": 3} and linear["bits"] == {"w8 a8>16": 2}
    assert linear["sites"] == {"rows": 2, "distinct": 2, "first": ["fc1", "fc2"]} and conv["sites"]["rows"] == 0
    assert linear["attrs"] == {"act": {"none": 1, "relu": 1}, "fuse": {"1": 2}}
    assert conv["optional"] == {"cycles": 0, "energy_uj": 0, "workspace_bytes": 2, "code_bytes": 0}
    assert linear["optional"] == {"cycles": 1, "energy_uj": 1, "workspace_bytes": 0, "code_bytes": 0}


def test_spread_is_of_measured_rows_with_quantiles():
    """(p90 - p10) / us of the eight: 0.2 0.3 0.5 1 0 0.1 0.1 0.1; sorted, the median is 0.15, p90 0.5 + 0.3 * 0.5."""
    conv, linear = summary(table())["kinds"]
    assert conv["spread"] == pytest.approx({"rows": 8, "median": 0.15, "p90": 0.65})
    assert linear["spread"] is None


def test_grid_and_its_holes():
    """Plain: 2 x 2 channels x 2 bits, 8 -> 32 with 4 bits absent and with 8 interpolated. Depthwise: 2 of 2."""
    conv = summary(table())["kinds"][0]
    near = conv["grid_within_geometries"]
    assert (near["grids"], near["cells"], near["filled"], near["measured"]) == (2, 10, 9, 8)
    assert near["share"] == 0.8
    assert near["holes"] == ["conv2d 8->32 8x8 k3x3 s1x1 g1 w4 a8>8"]
    larger = summary(table({**ROWS, replace(CONV, height=16, width=16): row(1.0)}))["kinds"][0]
    assert (larger["grid"]["cells"], larger["grid"]["measured"]) == (18, 9), "sizes 8 and 16 for each plain row"
    assert larger["grid_within_geometries"]["cells"] == 11
    wider = replace(DEPTHWISE, c_in=32, c_out=32, groups=32)
    ragged = dict.fromkeys([wider, replace(wider, w_bits=4), DEPTHWISE], row(1.0))
    hole = summary(table(ragged))["kinds"][0]["grid_within_geometries"]["holes"]
    assert hole == ["conv2d 16->16 8x8 k3x3 s1x1 g16 w4 a8>8"]


def test_words_for_one_operator():
    assert groups_of(CONV) == "plain" and groups_of(DEPTHWISE) == "depthwise"
    assert groups_of(replace(DEPTHWISE, groups=4)) == "4 groups"
    assert bits_of(replace(CONV, w_bits=2, in_bits=(8, 4), out_bits=16)) == "w2 a8+4>16"
    times = [0.0125, 0.94, 1.0, 12.54, 999.0, 3140.0, 2e6]
    assert [duration(us) for us in times] == ["12.5 ns", "940 ns", "1 us", "12.5 us", "999 us", "3.14 ms", "2 s"]
    assert [percent(share) for share in ("0.0615", 0.5, "low")] == ["6.15 %", "50 %", "low"]


@pytest.mark.parametrize(
    ("provenance", "line"),
    [
        ({}, "interpolation: none; an operator without a row is an error"),
        ({"interpolation": "kriging"},
         "interpolation: kriging along channels, inside their measured range; its error was not tested"),
        ({"interpolation": "kriging", "lanes": "16", "held_out_error": "0.05", "held_out_error_p90": "0.2",
          "held_out_rows": "99"},
         "interpolation: kriging along channels, inside their measured range, vectors of 16 lanes; "
         "error at 99 rows left out: median 5 %, 90th percentile 20 %"),
        ({"collapse": "act_bits"}, "collapse: rows hold for 1 to 8 activation bits; they are written with 8"),
        ({"collapse": "bits"}, "collapse: bits is unknown, and look-ups take no notice of it"),
        ({"free": "input add"}, "free: operators of these kinds count as 0: add, input"),
        ({"alias": "conv2d_add=conv2d"}, "alias: conv2d_add is looked up as conv2d, with the bits of its first input"),
        ({"ignores": "out_bits batch"}, "ignores: rows hold for every value of batch, out_bits"),
        ({"calibration_scale": "1.5", "calibration_op_us": "0.25", "calibration_kib_us": "0.01"},
         "calibration: a network takes 1.5 x the sum of its rows + 0.25 us for each operator"
         " + 0.01 us for each KiB that it reads + 0 us"),
        ({"calibration_cache_kib": "512"}, "constants: cache_kib 512 (calibration of networks)"),
        ({"profiler": "host"},
         "machine: refused where one of these differs: cpu, isa, threads, compiler, flags, kernels"),
        ({}, "machine: imported rows; they are not compared with the computer that reads them"),
        ({"free_sites": "fc conv1"}, "free: so do the layers conv1, fc"),
        ({"promote": "bits"}, "promote: weights and inputs of unequal bits are looked up at the larger of the two"),
    ],
)  # fmt: skip
def test_rules_in_words(provenance, line):
    assert line in rules(table(**provenance))


def test_a_header_that_says_little_has_few_rules():
    assert [line.partition(":")[0] for line in rules(table())] == ["interpolation", "machine"]


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"interpolation": "krigin"}, "toy.csv: interpolation: 'krigin' .*did you mean kriging"),
        ({"calibration_scale": "twice"}, "calibration_scale: 'twice' is not a number"),
    ],
)
def test_a_header_that_no_look_up_could_use(provenance, message):
    with pytest.raises(LutError, match=message):
        summary(table(**provenance))


def test_coverage_by_hand():
    declared = table(free="add", alias="conv2d_add=conv2d", ignores="out_bits")
    asked = [CONV, CONV, replace(CONV, site="a"), replace(CONV, c_in=8, c_out=32), replace(CONV, kind="add"),
             replace(CONV, kind="conv2d_add", in_bits=(8, 4)), replace(CONV, c_out=24, out_bits=4),
             replace(CONV, kind="max_pool")]  # fmt: skip
    found = coverage(declared, asked, first=1)
    assert (found["specs"], found["missing"]) == (7, 2)
    assert found["answers"] == {"host": 3, "free": 1, "interpolated": 1}
    assert found["nearest"] == [
        {
            "spec": "conv2d 4->24 8x8 k3x3 s1x1 g1 w8 a8>4",
            "row": "conv2d 4->32 8x8 k3x3 s1x1 g1 w8 a8>8",
            "us": 3.0,
            "differs": {"c_out": ["24", "32"]},
        }
    ]
    assert len(coverage(declared, asked)["nearest"]) == 2
    assert coverage(table({}), [CONV])["nearest"] == [{"spec": "conv2d 4->16 8x8 k3x3 s1x1 g1 w8 a8>8", "row": None}]


def test_nearest_rows_follow_the_declared_rules():
    declared = table(alias="conv2d_add=conv2d", ignores="batch")
    asked = [replace(CONV, kind="conv2d_add", c_in=5, in_bits=(8, 4)), replace(LINEAR, c_in=33, batch=1, site="")]
    nearest = coverage(declared, asked)["nearest"]
    assert [near["row"].split()[0] for near in nearest] == ["conv2d", "linear"]
    assert nearest[0]["differs"] == {"c_in": ["5", "4"]}
    assert set(nearest[1]["differs"]) == {"c_in", "site"}, "batch is ignored; the row holds at fc1 alone"


def nearest_row(spec, rows):
    return min(rows, key=lambda row: distance(spec, row))


def test_nearest_row_by_kind_then_fields_then_octaves():
    far, near, other = replace(CONV, c_in=64), replace(CONV, c_in=8), replace(CONV, kind="linear")
    assert nearest_row(CONV, [far, near]) == near
    assert nearest_row(CONV, [far, replace(near, w_bits=4)]) == far
    assert nearest_row(CONV, [other, replace(far, w_bits=4, stride=(2, 2))]).kind == "conv2d"


def test_the_page():
    declared = table(free="add")
    text = page({**summary(declared), "coverage": coverage(declared, [CONV, replace(CONV, c_in=12)])})
    for words in ("toy.csv: 11 rows of toy (8 host, 2 imported, 1 interpolated)", "clock 84 MHz", "note: of ours",
                  "in 4, 8, 16, 32; out 16, 32", "plain (7), depthwise (2)", "w8 a8>8 (6), w4 a8>8 (3)",
                  "2 rows at 2: fc1, fc2", "act = none (1), relu (1); fuse = 1", "batch 2", "15 % <= 65 %",
                  "8 of 10 cells measured, channels x bits in each of 2 geometries",
                  "first hole: conv2d 8->32 8x8", "specs: 2 operators, answered: 1 host; missing: 1",
                  "(c_in 12, not 8)"):  # fmt: skip
        assert words in " ".join(text.split()), words
    lines = text.splitlines()
    assert max(map(len, lines)) <= 116
    cells = next(line for line in lines if line.startswith("linear") and "ms" in line).split()
    assert cells == ["linear", "2", "2.5", "ms", "3", "ms", "3.5", "ms", "-", "-", "1", "cycles", "energy"]


def test_rows_that_are_no_grid():
    blocks = {replace(CONV, attrs=f"mid={i}"): row(1.0) for i in range(3)}
    text = page(summary(table(blocks, clock="3 GHz")))
    assert "none; every row has a geometry of its own" in text
    assert "clock 3 GHz" in text and "MHz" not in text


def test_many_kinds_fit_one_page():
    rows = {replace(CONV, kind=f"kind{i:02}", c_in=1 + 7 * i): row(1.0 + i) for i in range(20)}
    text = page(summary(table(rows)))
    assert "and 14 kinds more (--json has all): kind06" in text
    assert len(text.splitlines()) < 70
    wide = page(summary(table({replace(CONV, c_in=i): row(1.0) for i in range(3, 30, 2)})))
    assert "in 3 to 29 (14 values); out 16" in wide


@pytest.fixture
def files(tmp_path):
    table().write(tmp_path / "toy.csv")
    specs = (tmp_path / "toy.csv").read_text().replace("conv2d,1,8,32,", "conv2d,1,8,48,")
    (tmp_path / "specs.csv").write_text(specs)
    return tmp_path


def test_command_line(files, capsys):
    assert main(["describe", str(files / "toy.csv"), "--specs", str(files / "specs.csv")]) == 0
    out = capsys.readouterr().out
    assert "specs: 11 operators, answered: 8 host, 2 imported; missing: 1\n  conv2d 8->48 8x8" in out
    assert main(["describe", str(files / "toy.csv"), "--specs", str(files / "specs.csv"), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["rows"], body["coverage"]["missing"], body["kinds"][0]["c_in"]["8"]) == (11, 1, 3)
    assert body["provenance"]["device"] == "toy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv: no such table"),
        (["toy.csv", "--specs", "none.csv"], "none.csv: no such table"),
        (["bad.csv"], "bad.csv:1: knd: unknown column; did you mean kind?"),
        (["toy.csv", "--specs", "bad.csv"], "bad.csv:1: knd: unknown column"),
    ],
)
def test_bad_input_ends_with_2(files, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files)
    (files / "bad.csv").write_text("knd,batch\nconv2d,1\n")
    assert main(["describe", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_table_without_rows(tmp_path, capsys):
    table({}).write(tmp_path / "empty.csv")
    assert main(["describe", str(tmp_path / "empty.csv")]) == 0
    assert "0 rows of toy (it is empty)" in capsys.readouterr().out
