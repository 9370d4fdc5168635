"""LatencyTable: lossless files, look-up in its order, merging, provenance, and every kind of bad row."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lut.kernels
from lut.calibrate import Calibration, Network, fit
from lut.columns import COLUMNS, SOURCES
from lut.errors import LutError
from lut.machine import MUST_MATCH
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable

ROOT = Path(__file__).parents[1]
CONV = OpSpec("conv2d", 1, 16, 32, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 4, (8,), 8)
ROW = Latency(12.5, 12.0, 13.25, 180, 64, 2048, "host", 100.0, None, "tile")

size = st.integers(1, 2048)
word = st.text(st.characters(codec="utf-8", exclude_characters="#\r\n\x00"), max_size=12).map(str.strip)
specs = st.builds(
    OpSpec,
    kind=word.filter(bool),
    batch=size,
    c_in=size,
    c_out=size,
    height=size,
    width=size,
    kernel=st.tuples(size, size),
    stride=st.tuples(size, size),
    dilation=st.tuples(size, size),
    pad=st.tuples(*[st.integers(0, 9)] * 4),
    groups=size,
    w_bits=st.integers(1, 32),
    in_bits=st.lists(st.integers(1, 32), min_size=1, max_size=3).map(tuple),
    out_bits=st.integers(1, 32),
    attrs=word,
    site=word,
)
number = st.floats(0, 1e12, allow_nan=False)
latencies = st.builds(
    lambda quantiles, n, source, cycles, energy, variant: Latency(
        quantiles[1], quantiles[0], quantiles[2], n, n, n, source, cycles, energy, variant
    ),
    quantiles=st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=3).map(sorted),
    n=st.integers(0, 10**9),
    source=st.sampled_from(SOURCES),
    cycles=st.none() | number,
    energy=st.none() | number,
    variant=word,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(specs, latencies, max_size=4))
def test_round_trip_is_lossless(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    LatencyTable(rows, {"device": "d", "flags": "a: b, c"}).write(path)
    back = LatencyTable.read(path)
    assert dict(back) == rows
    assert back.provenance == {"device": "d", "flags": "a: b, c"}
    assert path.read_text() == back.to_csv()


def test_pandas_reads_it(tmp_path):
    table = LatencyTable({CONV: ROW, replace(CONV, c_out=8, attrs="a=1;b=2"): ROW}, {"device": "d"})
    table.write(tmp_path / "t.csv")
    frame = pandas.read_csv(tmp_path / "t.csv", comment="#")
    assert list(frame.columns) == list(COLUMNS)
    assert frame.latency_us.tolist() == [12.5, 12.5]
    assert frame.kernel.tolist() == ["3x3", "3x3"]
    pandas.testing.assert_frame_equal(frame, table.to_frame())


def bad(tmp_path, edit, rows=1):
    table = LatencyTable({replace(CONV, c_in=4 * (i + 1)): ROW for i in range(rows)}, {"device": "d"})
    path = tmp_path / "x.csv"
    path.write_text(edit(table.to_csv()))
    with pytest.raises(LutError) as error:
        LatencyTable.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12.5,", "-3,", "3: latency_us: -3 is not positive"),
        ("12.5,", "0,", "3: latency_us: 0 is not positive"),
        ("12.5,", "nan,", "3: latency_us: nan is not a finite number"),
        ("12.5,", "inf,", "3: latency_us: inf is not a finite number"),
        ("12.5,", ",", "3: latency_us: is empty"),
        ("12.5,", "fast,", "3: latency_us: 'fast' is not a number"),
        ("12.0,", "12.75,", "3: latency_us_p10: 12.75 is above the median"),
        ("13.25,", "1,", "3: latency_us_p90: 1.0 is below the median"),
        ("conv2d,1,", ",1,", "3: kind: is empty"),
        ("conv2d,1,", "conv2d,0,", "3: batch: 0 is not a whole number of at least 1"),
        ("conv2d,1,", "conv2d,2147483648,", "3: batch: 2147483648 is above 2147483647"),
        ("conv2d,1,", f"conv2d,{10**400},", "3: batch: 10000000000000000000 is above 2147483647"),
        ("conv2d,1,", "conv2d,1.5,", "3: batch: '1.5' is not a whole number"),
        (",3x3,", ",3x3x3,", "3: kernel: '3x3x3' is not 2 numbers joined by 'x'"),
        (",host,", ",hots,", "3: source: 'hots' is no source; did you mean host?"),
        (",tile", "", "3: variant: 25 cells, but the header names 26 columns"),
        ("latency_us,", "latency_ms,", "2: latency_ms: unknown column; the unit is part of the name: latency_us"),
        ("energy_uj", "energy_mj", "2: energy_mj: unknown column; the unit is part of the name: energy_uj"),
        ("groups", "group", "2: group: unknown column; did you mean groups?"),
        ("c_out,", "c_in,", "2: c_in: the column occurs twice"),
        (",tile", ',"tile', "3: not CSV"),
    ],
)
def test_bad_rows(tmp_path, old, new, message):
    assert bad(tmp_path, lambda text: text.replace(old, new, 1)).startswith(message)


def test_missing_column_and_duplicate_and_missing_file(tmp_path):
    def without_height(text):
        lines = [line.split(",") for line in text.splitlines()[1:]]
        place = lines[0].index("height")
        return "\n".join(",".join(cells[:place] + cells[place + 1 :]) for cells in lines)

    assert bad(tmp_path, without_height).startswith("1: height: the column is missing")
    double = bad(tmp_path, lambda text: text + text.splitlines()[-1] + "\n", rows=2)
    assert double.startswith("5: conv2d 8->32")
    assert "duplicate of line 4" in double
    with pytest.raises(LutError, match="no such table"):
        LatencyTable.read(tmp_path / "none.csv")


def test_values_that_no_table_can_hold(tmp_path):
    with pytest.raises(LutError, match="site"):
        LatencyTable({replace(CONV, site="a#b"): ROW}).to_csv()
    with pytest.raises(LutError, match="line break"):
        LatencyTable({}, {"flags": "a\nb"}).to_csv()


def test_lookup_order(monkeypatch):
    def row_key(spec, isa):
        return replace(spec, in_bits=(8,) * len(spec.in_bits), out_bits=8)

    monkeypatch.setattr(lut.kernels, "row_key", row_key, raising=False)
    at_site, plain = replace(CONV, site="layer3"), Latency(2, 2, 2)
    narrow = replace(CONV, in_bits=(4,), out_bits=2)
    table = LatencyTable({at_site: ROW, CONV: plain}, {"collapse": "act_bits"})
    assert table.lookup(at_site) == ROW
    assert table.lookup(replace(CONV, site="layer9")) == plain
    assert table.lookup(replace(narrow, site="layer9")) == plain
    own = LatencyTable({CONV: plain, narrow: ROW}, {"collapse": "act_bits"})
    assert own.lookup(replace(narrow, site="layer9")) == ROW, "a row of its own before the canonical one"
    with pytest.raises(LutError, match=r"no row for conv2d 16->32 .*w4 a4>2.*nearest rows: conv2d 16->32"):
        LatencyTable(dict(table)).lookup(narrow)
    assert table.missing([CONV, narrow, replace(CONV, c_in=5), replace(CONV, c_in=5)]) == [replace(CONV, c_in=5)]


def test_lookup_interpolates_only_by_a_declared_rule():
    rows = {replace(CONV, c_in=c, c_out=k): Latency(float(c * k), 1, 1e4) for c in (4, 8, 16) for k in (8, 16, 32)}
    asked = replace(CONV, c_in=12, c_out=24)
    found = LatencyTable(rows, {"interpolation": "kriging", "held_out_error_p90": "0.1"}).lookup(asked)
    assert found.source == "interpolated"
    assert found.n == 0
    assert found.us == pytest.approx(12 * 24, rel=0.05)
    assert (found.p10, found.p90) == pytest.approx((0.9 * found.us, 1.1 * found.us))
    with pytest.raises(LutError, match="none to interpolate from"):
        LatencyTable(rows).lookup(asked)
    with pytest.raises(LutError, match="'krigin' is no rule; did you mean kriging"):
        LatencyTable(rows, {"interpolation": "krigin"}).lookup(asked)


def test_merge():
    other = replace(CONV, c_in=4)
    measured, later = Latency(5, 5, 5), Latency(6, 6, 6)
    guess = Latency(9, 8, 10, source="interpolated")
    a, b = LatencyTable({CONV: measured}), LatencyTable({CONV: later, other: later})
    with pytest.raises(LutError, match="6 us here, 5 us in table"):
        a.merge(b)
    assert dict(a.merge(b, "keep")) == {CONV: measured, other: later}
    assert dict(a.merge(b, "replace")) == {CONV: later, other: later}
    assert a.merge(LatencyTable({CONV: guess}))[CONV] == measured
    assert LatencyTable({CONV: guess}).merge(a)[CONV] == measured
    assert dict(a.merge(a)) == dict(a)
    with pytest.raises(LutError, match="isa: 'avx2' cannot join"):
        a.merge(LatencyTable({}, {"isa": "avx2"}))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lanes: x", "lanes: 'x' is not a whole number of at least 1"),
        ("lanes: 0", "lanes: '0' is not"),
        ("word: -4", "word: '-4' is not a whole number of at least 0"),
        ("held_out_error_p90: abc", "held_out_error_p90: 'abc' is not a number of at least 0"),
        ("calibration_scale: nan", "calibration_scale: 'nan' is not a number above 0"),
        ("calibration_scale: 0", "calibration_scale: '0' is not a number above 0"),
        ("calibration_op_us: -100", "calibration_op_us: '-100' is not a number of at least 0"),
        ("calibration_kib_us: nan", "calibration_kib_us: 'nan' is not a number of at least 0"),
        ("calibration_call_us: inf", "calibration_call_us: 'inf' is not"),
    ],
)
def test_numbers_of_the_header_are_checked(tmp_path, line, message):
    path = tmp_path / "t.csv"
    LatencyTable({CONV: ROW}, {"lanes": "16"}, path).write()
    path.write_text(path.read_text().replace("# lanes: 16", f"# {line}"))
    with pytest.raises(LutError, match=f"^{path}: {message}"):
        LatencyTable.read(path)


def test_check_names_what_differs_and_how_to_rebuild(tmp_path):
    machine = {name: f"{name}-1" for name in MUST_MATCH}
    table = LatencyTable({CONV: ROW}, {**machine, "device": "host-cpu", "clock": "1"}, tmp_path / "t.csv")
    table.check({**machine, "clock": "2"})
    for name in MUST_MATCH:
        with pytest.raises(LutError, match=f"{name}: the table has {name}-1, this machine other") as error:
            table.check({**machine, name: "other"})
        assert f"build_lut.py --device host-cpu --specs {tmp_path}/t.csv --every-row" in str(error.value)
        table.check({**machine, name: "other"}, force=True)
    with pytest.raises(LutError, match=r"build_lut.py --device my-board.yaml --specs"):  # read from a file by its path
        LatencyTable({CONV: ROW}, {"device": "my-board"}, tmp_path / "t.csv").check(machine)
    with pytest.raises(LutError, match="the table has nothing"):
        LatencyTable({}, {}).check(machine)
    LatencyTable({}, {"profiler": "imported"}).check(machine)


def test_full_disk_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    LatencyTable({CONV: ROW}, {"device": "d"}).write(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lut.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        LatencyTable({}, {}).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_calibration_recovers_its_constants():
    truth = Calibration(1.04, 0.3, 2.0)
    networks = [Network(s, n, truth.predict(s, n)) for s, n in ((100, 10), (700, 22), (350, 60), (80, 9))]
    found = fit(networks, call_us=2.0)
    assert (found.scale, found.op_us) == pytest.approx((1.04, 0.3))
    assert max(abs(found.error(n)) for n in networks) < 1e-9
    table = found.into(LatencyTable({CONV: ROW}, {"device": "d"}))
    assert Calibration.of(table) == found
    assert table.provenance["device"] == "d"
    assert Calibration.of(LatencyTable({})) == Calibration()


def test_calibration_from_few_networks_fits_one_constant_and_stays_physical():
    assert fit([Network(100, 10, 105)]) == Calibration(1.0, pytest.approx(0.5), 0.0)
    assert fit([Network(100, 10, 95)]).op_us == 0
    slower = fit([Network(100, 10, 90), Network(200, 40, 170), Network(400, 10, 370)])
    assert slower.op_us == 0
    assert slower.scale < 1
    for wrong in ([], [Network(1, 1, 0)], [Network(1, 0, 1)]):
        with pytest.raises(ValueError, match="calibration needs"):
            fit(wrong)
    with pytest.raises(LutError, match="calibration_scale: 'x' is not a number"):
        Calibration.of(LatencyTable({}, {"calibration_scale": "x"}))


def test_a_large_table_reads_whole(tmp_path):
    grid = {
        replace(CONV, c_in=c, c_out=k, width=w): ROW for c in range(1, 31) for k in range(1, 33) for w in range(1, 31)
    }
    LatencyTable(grid).write(tmp_path / "t.csv")
    table = LatencyTable.read(tmp_path / "t.csv")
    assert len(table) == 28_800
    assert np.isclose(sum(row.us for row in table.values()), 28_800 * 12.5)


def test_tables_work_without_tvm(tmp_path):
    """Reading, looking up, planning and importing run with TVM blocked."""
    LatencyTable({CONV: Latency(1, 1, 1)}, {"collapse": "act_bits"}).write(tmp_path / "t.csv")
    program = f"""
import sys
sys.modules["tvm"] = None
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import replace
import lut.build, lut.importers, lut.profilers.host
from lut.machine import this_machine
from lut.table import LatencyTable
table = LatencyTable.read({str(tmp_path / "t.csv")!r})
(spec,) = table
assert table.lookup(replace(spec, in_bits=(4,))).us == 1
assert this_machine(lut.build.Device.load("host-cpu"))["kernels"]
assert "pandas" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
