"""Figures of tables: what is drawn against values by hand, ranks of small permutations, and the command line."""

import json
import random
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from table_toys import CONV, LINEAR, ROWS, row

from lut.compare import compare
from lut.panels import panels
from lut.table import LatencyTable
from scripts.plot_lut import conditions, main, select
from search import table_plots
from search.table_plots import LOOKS


def parts(svg):
    """(texts, how many elements of each id) of a figure that must be well-formed."""
    tree = ElementTree.fromstring(svg)
    return [element.text for element in tree.iter() if element.tag.endswith("text")], tree


def test_channels_figure():
    texts, tree = parts(table_plots.channels(ROWS, "toy <1>"))
    for words in ("w4 a8>8", "w8 a8>8", "w8 a8>16", "hollow: interpolated", "latency, µs", "conv2d 8x8 k3x3 s1x1",
                  "input x output channels",
                  "toy <1> · bits of weights (w), inputs > output (a); lines: medians"):  # fmt: skip
        assert words in texts, words
    assert drawn(tree, LOOKS[1][0]) == 3 + 1, "three measured rows of w8 a8>8 and its mark in the legend"
    assert hollow(tree, LOOKS[1][0]) == 1
    assert "hollow: interpolated" not in parts(table_plots.channels({CONV: row(1.0)}))[0]


def drawn(tree, color):
    """Markers filled with a colour."""
    return sum(f"fill: {color}" in (e.get("style") or "") for e in tree.iter() if e.tag.endswith("use"))


def hollow(tree, color):
    """White markers with an outline of the colour."""
    styles = [e.get("style") or "" for e in tree.iter() if e.tag.endswith("use")]
    return sum("fill: #ffffff" in style and f"stroke: {color}" in style for style in styles)


def test_more_bit_widths_than_colours():
    rows = {replace(CONV, w_bits=w, c_out=c): row(c * w) for w in range(1, 10) for c in range(1, 3 + (w > 2))}
    texts, _ = parts(table_plots.channels(rows))
    assert [t for t in texts if re.match(r"w\d a8>8$", t)] == [f"w{w} a8>8" for w in (1, 2, 4, 5, 6, 8, 9)]
    assert "2 others" in texts
    alone = {replace(CONV, w_bits=9, height=4): row(1.0)}
    assert "conv2d 4x8 k3x3 s1x1" in parts(table_plots.channels({**rows, **alone}))[0]


def test_bits_in_order_whatever_the_panels():
    rows = {CONV: row(1.0), replace(CONV, c_out=32): row(2.0), replace(CONV, height=4, w_bits=4): row(3.0)}
    texts, _ = parts(table_plots.channels(rows))
    assert [t for t in texts if t.endswith("a8>8")] == ["w4 a8>8", "w8 a8>8"]


def test_latencies_figure():
    many = {LINEAR: row(2.0)}
    for c in range(1, 101):
        many[replace(CONV, kind="many", c_out=c)] = row(1000.0 * c, "interpolated" if c > 80 else "host")
    texts, tree = parts(table_plots.latencies({**ROWS, **many}, "toy"))
    assert {"100 rows, median 50.5 ms", "2 rows, median 2.5 µs", "latency on toy, ms", "hollow: interpolated"} <= {
        *texts
    }
    assert (drawn(tree, LOOKS[0][0]), hollow(tree, LOOKS[0][0])) == (2 + 4, 1), "few rows are points"
    texts, tree = parts(table_plots.latencies({CONV: row(0.02)}))
    crowd = {replace(CONV, kind=f"kind{i}"): row(1.0) for i in range(26)}
    assert "latency, µs (24 of 26 kinds)" in parts(table_plots.latencies(crowd))[0]
    assert "1 row, 20 ns" in texts and "latency, ns" in texts


def test_comparison_figure():
    second = {spec: row(latency.us * 2.5) for spec, latency in ROWS.items()}
    texts, tree = parts(table_plots.comparison(compare(ROWS, second), ("ours", "theirs")))
    assert {"7 common rows · Spearman correlation 1.000", "median ratio 2.5", "latency in ours, µs",
            "latency in theirs, µs", "theirs / ours", "conv2d", "linear"} <= {*texts}  # fmt: skip
    assert (drawn(tree, LOOKS[0][0]), hollow(tree, LOOKS[0][0])) == (2 * 4 + 1, 2 * 1)
    one = {replace(CONV, site="a"): row(1.0)}
    texts, _ = parts(table_plots.comparison(compare(one, {CONV: row(1.0)}), ("a", "b")))
    assert "1 common row, sites aside · Spearman correlation undefined" in texts
    kinds = {replace(CONV, kind=f"kind{i}"): row(1.0 + i) for i in range(9)}
    assert "2 other kinds" in parts(table_plots.comparison(compare(kinds, kinds), ("a", "b")))[0]


@pytest.mark.parametrize(
    ("value", "text"), [(20_000, "20k"), (5_000, "5000"), (3e6, "3M"), (0.05, "0.05"), (2.5, "2.5")]
)
def test_ticks(value, text):
    assert table_plots._number(value) == text


def test_figures_are_the_same_every_time():
    for draw in (table_plots.channels, table_plots.latencies):
        assert draw(ROWS) == draw(dict(ROWS))
    found = compare(ROWS, ROWS)
    assert table_plots.comparison(found, ("a", "b")) == table_plots.comparison(found, ("a", "b"))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LatencyTable(ROWS, {"device": "toy"}).write("toy.csv")
    second = {spec: row(latency.us * 2) for spec, latency in ROWS.items()} | {CONV: row(200.0)}
    LatencyTable(second, {"device": "other"}).write("other.csv")
    LatencyTable({replace(CONV, c_in=5): row(1.0)}, {"device": "apart"}).write("apart.csv")
    LatencyTable({}, {"device": "none"}).write("empty.csv")
    return tmp_path


def test_a_folder_of_figures(files, capsys):
    assert main(["toy.csv", "other.csv", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["figures"] == [f"toy-figures/{n}.svg" for n in ("comparison", "channels", "latencies")]
    assert all(parts((files / path).read_text()) for path in body["figures"])
    assert body["rows"] == [7, 7]
    found = body["comparison"]
    assert (found["rows"], found["median_ratio"], found["sites_aside"]) == (7, 2.0, False)
    assert found["outliers"][0] == {"row": "conv2d 4->16 8x8 k3x3 s1x1 g1 w8 a8>8", "ratio": 20.0}


def test_one_file(files, capsys):
    assert main(["toy.csv", "--kind", "conv2d", "--where", "w_bits=8", "c_in=8", "--out", "a.svg"]) == 0
    texts, _ = parts((files / "a.svg").read_text())
    assert "w8 a8>8" in texts and "w4 a8>8" not in texts and "output channels, from 8" in texts
    assert main(["toy.csv", "other.csv", "--out", "b.svg"]) == 0
    assert "median ratio 2" in parts((files / "b.svg").read_text())[0]
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["a.svg", "b.svg", "7 common rows: Spearman 0.786, median ratio 2"]
    assert out[3] == "  20 x: conv2d 4->16 8x8 k3x3 s1x1 g1 w8 a8>8"
    assert sorted(path.name for path in files.glob("*.svg")) == ["a.svg", "b.svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], r"none\.csv: no such table"),
        (["toy.csv", "none.csv"], r"none\.csv: no such table"),
        (["empty.csv"], r"empty\.csv: the table has no rows"),
        (["toy.csv", "apart.csv"], r"toy \(7 rows\) and apart \(1 rows\) have no row in common, .*: c_in 4 and 5"),
        (["toy.csv", "--kind", "conv2"], r"toy\.csv: kind: no row has 'conv2'; did you mean conv2d\?"),
        (["toy.csv", "--where", "c_in=7"], r"toy\.csv: c_in: no row has '7'; expected one of: 4, 8, 32, 64"),
        (
            ["toy.csv", "apart.csv", "--kind", "linear"],
            r"apart\.csv: kind: no row has 'linear'; expected one of: conv2d",
        ),
        (["toy.csv", "--where", "w_bits"], r"--where: 'w_bits' is not field=value"),
        (["toy.csv", "--where", "w_bit=4"], r"--where: w_bit: no field of an operator; did you mean w_bits\?"),
        (["toy.csv", "--where", "w_bits=four"], r"--where: w_bits: 'four' is not a whole number"),
        (["toy.csv", "--where", "w_bits=4", "w_bits=8"], r"--where: w_bits is given twice"),
        (["toy.csv", "--kind", "conv2d", "--where", "kind=linear"], r"--where: kind is given twice"),
    ],
)
def test_bad_input_ends_with_2(files, capsys, arguments, message):
    assert main(arguments) == 2
    assert re.match(f"error: {message}", capsys.readouterr().err)
    assert not list(files.glob("**/*.svg"))


def test_conditions_are_values_of_fields():
    assert conditions("conv2d", ["kernel=3", "in_bits=8+4", "site="]) == {
        "kind": "conv2d", "kernel": (3, 3), "in_bits": (8, 4), "site": "",
    }  # fmt: skip
    chosen = select(LatencyTable(ROWS), {"kind": "conv2d", "c_out": 32})
    assert [(spec.c_in, spec.c_out) for spec in chosen] == [(4, 32), (8, 32)]


def test_thousands_of_rows(tmp_path):
    chance = random.Random(0)
    rows = {
        replace(CONV, c_in=a, c_out=b, w_bits=w): row(chance.uniform(1, 1e4), chance.choice(["host", "interpolated"]))
        for a in range(1, 41) for b in range(1, 51) for w in (2, 4, 8)
    }  # fmt: skip
    (panel,) = panels(rows)
    assert sum(map(len, panel.lines.values())) == 6000
    assert len(table_plots.channels(rows)) < 2_000_000
    assert "6,000 common rows" in table_plots.comparison(compare(rows, rows), ("a", "b"))
