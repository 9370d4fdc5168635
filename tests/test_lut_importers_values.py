"""What the rows of each format become, field by field, and what is said of a row that makes no sense."""

import json

import pytest
from import_samples import HAWQ, HWNASBENCH, OFA, PROXYLESSNAS, options, sample

from lut.calibrate import Calibration
from lut.errors import LutError
from lut.importers import IMPORTERS
from lut.importers.hawq import read_counts, read_sensitivities
from lut.spec import OpSpec


@pytest.fixture
def read(tmp_path):
    def read(name, content=None, **more):
        source = tmp_path / "source"
        source.write_bytes(sample(name) if content is None else content.encode())
        return IMPORTERS[name](source, **{**options(name), **more})

    return read


def floats(kind, c_in, c_out, height, width, kernel, stride, pad, attrs="", site="", bits=32):
    square = ((kernel, kernel), (stride, stride), (1, 1), (pad,) * 4)
    return OpSpec(kind, 1, c_in, c_out, height, width, *square, 1, bits, (bits,), bits, attrs, site)


def test_proxylessnas(read):
    table = read("proxylessnas")
    block = table[floats("mbconv", 16, 24, 112, 112, 5, 2, 2, "act=relu6;mid=48;residual=0;se=0")]
    assert (block.us, block.n) == (7500, 159)
    assert block.p90 - block.us == pytest.approx(block.us - block.p10)
    assert block.p90 == pytest.approx(7500 + 1.2816 * 300)  # the root of .09 ms^2
    assert floats("mbconv", 80, 80, 14, 14, 7, 1, 3, "act=relu6;mid=480;residual=1;se=0") in table
    assert table[floats("conv2d", 3, 32, 224, 224, 3, 2, 1)].us == 4000
    assert table[floats("conv2d", 320, 1280, 7, 7, 1, 1, 0)].us == 3000
    logits = table[floats("linear", 1280, 1000, 1, 1, 1, 1, 0)]
    assert (logits.us, logits.p10) == (250, 2.5)  # a spread of a second would put p10 below 0


def test_ofa(read):
    table = read("ofa")
    assert table[floats("mbconv", 24, 32, 112, 112, 3, 2, 1, "act=relu;mid=144;residual=0;se=0")].us == 4000
    assert table[floats("mbconv", 192, 192, 7, 7, 5, 1, 2, "act=hswish;mid=768;residual=1;se=1")].n == 136
    assert table[floats("avg_pool", 1152, 1152, 7, 7, 7, 7, 0)].us == 62.5
    assert table[floats("conv2d", 1152, 1536, 1, 1, 1, 1, 0)].p90 == pytest.approx(500 + 128.16)
    assert table.lookup(floats("add", 24, 24, 56, 56, 1, 1, 0)).us == 0


def test_a_folder_pools_what_was_measured_twice(tmp_path):
    folder = tmp_path / "note10"
    folder.mkdir()
    (folder / "224_lookup_table.yaml").write_text(OFA)
    other = "Logits-input:1x1x1536-output:1000:\n  count: 1500\n  mean: 0.75\n  std: 0.0\n"
    (folder / "208_lookup_table.yaml").write_text(other)
    row = IMPORTERS["ofa"](folder, device="d")[floats("linear", 1536, 1000, 1, 1, 1, 1, 0)]
    assert (row.us, row.n) == (625, 2000)  # 1,500 samples of 750 us, 500 of 250 us
    assert row.p90 == pytest.approx(625 + 1.2816 * (0.25 * 80**2 + 0.25 * 375**2 + 0.75 * 125**2) ** 0.5)
    (folder / "notes.yaml").write_text("a: 1\n")
    with pytest.raises(LutError, match=r"notes\.yaml: expected only files such as 224_lookup_table\.yaml"):
        IMPORTERS["ofa"](folder, device="d")


def test_haq(read):
    table = read("haq")
    assert len(table) == 53 * 64
    sites = list(dict.fromkeys(spec.site for spec in table))
    assert sites[:5] == ["features.0.0", "features.1.conv.0.0", "features.1.conv.1", *(
        f"features.2.conv.{n}.0" for n in (0, 1))]  # fmt: skip
    assert sites[-3:] == ["features.17.conv.2", "features.18.0", "classifier"]
    square = ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    depthwise = OpSpec("conv2d", 16, 96, 96, 112, 112, *square, 96, 3, (5,), 8, site="features.2.conv.1.0")
    assert table[depthwise].cycles == table[depthwise].us == 4 * 64 + 2 * 8 + 4 + 1
    assert OpSpec("linear", 16, 1280, 100, 1, 1, w_bits=1, in_bits=(8,), site="classifier") in table


def test_apq(read):
    table = read("apq")
    row = table[OpSpec("conv2d", 1, 96, 456, 14, 14, w_bits=4, in_bits=(6,))]
    assert (row.us, row.energy_uj) == (62.5, 125)
    square = ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    assert table[OpSpec("conv2d", 1, 488, 488, 14, 14, *square, 488, 8, (4,))].us == 500
    assert {spec.kind: row.us for spec, row in table.items() if spec.kind != "conv2d"} == {"head": 250, "tail": 125}


def test_hawq(read, tmp_path):
    table = read("hawq")
    assert len(table) == 38
    down = floats("conv2d", 64, 128, 56, 56, 1, 2, 0, site="layer2.0.downsample.0", bits=8)
    assert table[down].us == 1000 * (0.5 + 6 / 64)
    first = floats("conv2d", 64, 128, 56, 56, 3, 2, 1, site="layer2.0.conv1", bits=4)
    assert table[first].us == 1000 * (0.25 + 4 / 64)
    assert read_sensitivities(tmp_path / "source")["layer4.1.conv2"] == {4: 2.0, 8: 0.0625}
    assert read_counts(tmp_path / "source")["layer2.0.downsample.0"] == {"parameters": 8192, "bops": 6422528}


def test_hawq_refuses_another_order(read):
    tree = json.loads(HAWQ)
    tree["ResNet18"]["parameters"][5:7] = [8192, 147456]
    with pytest.raises(LutError, match=r"parameters: entry 5 is 8192, but layer2\.0\.conv2 has 147456"):
        read("hawq", json.dumps(tree))
    with pytest.raises(LutError, match="the file holds several; choose one of"):
        read("hawq", json.dumps({"ResNet18": {}, "ResNet50": {}, "x": {"latency_int4": []}}))


def test_fbnet(read):
    table = read("fbnet")
    assert len(table) == 66
    last = floats("mbconv", 184, 352, 7, 7, 3, 1, 1, "act=relu;mid=184;residual=0;se=0", "21")
    assert table[last].us == 121.5
    grouped = floats("mbconv", 16, 24, 112, 112, 5, 2, 2, "act=relu;groups=2;mid=16;residual=0;se=0", "1")
    assert table[grouped].us == 201.25
    assert table[floats("skip", 64, 64, 14, 14, 1, 1, 0, site="10")].us == 11


def test_fbnet_lines(read):
    table = read("fbnet_lines")
    wide = floats("mbconv", 16, 24, 56, 112, 3, 2, 1, "act=relu;mid=96;residual=0;se=0")
    assert table[wide].us == 4500
    assert read("fbnet_lines", unit="us")[wide].us == 4.5
    assert table[floats("skip", 24, 24, 56, 56, 1, 1, 0)].us == 1
    assert table[floats("conv_stem", 3, 16, 224, 224, 1, 2, 0, bits=8)].us == 500
    with pytest.raises(LutError, match="unit: 'minutes' is unknown"):
        read("fbnet_lines", unit="minutes")


def test_fbnet_hwnasbench(read):
    table = read("fbnet_hwnasbench")
    assert len(table) == 44
    assert Calibration.of(table).predict(1000, 22) == 8500
    first = floats("mbconv", 16, 16, 112, 112, 3, 1, 1, "act=relu;mid=16;residual=1;se=0", "0")
    assert table[first].us == 1000
    assert table.lookup(floats("skip", 16, 16, 112, 112, 1, 1, 0, site="0")).us == 0
    assert Calibration.of(read("fbnet_hwnasbench", source_device="eyeriss")).call_us == 2750


KEY = "expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:7-stride:1-idskip:1"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("proxylessnas", "mean: 4.75", "mean: -4.75", r":9: .*idskip:1': mean: -4.75 is not a finite number"),
        ("proxylessnas", "mean: 4.75", "mean: .nan", r"mean: '.nan' is not a number"),
        ("proxylessnas", "mean: 4.75", "mean: 1e300", r"1e\+300 ms is no latency"),
        ("proxylessnas", "mean: 4.75", "mean: 0.0", r"mean: 0.0 ms is no latency"),
        ("proxylessnas", "mean: 4.75", "std: 4.75", r"'std': unknown key|looks like ofa"),
        ("proxylessnas", "  mean: 4.75\n", "", r":9: .*: mean: missing"),
        ("proxylessnas", "count: 424", "count: 424.5", r"count: 424.5 is not a whole number"),
        ("proxylessnas", "mean: 4.75", "count: 4", r":11: 'count': given twice"),
        ("proxylessnas", "mean: 4.75", "mean: !!int 4", r":11: '4': anchors, tags and quotes are not read"),
        ("proxylessnas", "mean: 4.75", "mean: &a 4", "anchors, tags"),
        ("proxylessnas", "mean: 4.75", "mean: [4.75]", r":11: expected a number; lists"),
        ("proxylessnas", "mean: 4.75", "mean: {a: 1}", "expected a number; lists, aliases and deeper"),
        ("proxylessnas", KEY, KEY.replace("80-expand", "88-expand"), "idskip:1 needs stride 1 and as many channels"),
        ("proxylessnas", KEY, KEY.replace("output:14x14", "output:7x7"), "output 7x7, but stride 1 makes it 14x14"),
        ("proxylessnas", KEY, KEY.replace("kernel:7", "kernel:0"), "not a key of this format"),
        ("proxylessnas", KEY, KEY.replace("expanded_conv", "separable_conv"), "unknown layer 'separable_conv'"),
        ("proxylessnas", "Conv_1-input", "Logits-input", r"not a key of this format"),
        ("ofa", "-se:1-hs:1", "", "se and hs are missing"),
        ("ofa", "Conv_2-input:1x1x1152-output:1x1x1536", "Conv_1-input:7x7x192-output:7x7x1152", ":13: .*given twice"),
        ("apq", "0.0625", "NaN", "NaN is not a number that a table can hold"),
        ("apq", '"head"', '"tail"', "'tail': given twice"),
        ("apq", '"head"', '"neck"', "'neck': unknown key; expected"),
        ("apq", "0.0625", '"fast"', "latency: 'fast' is not a number"),
        ("apq", "(488, 488, 14", "(488, 480, 14", "groups do not divide the channels"),
        ("fbnet", "101.5 201.25", "101.5", r":3: 2 numbers for 3 operators; the file is cut off"),
        ("fbnet", "ir_k5_s2", "ir_k3_e1", ":1: ir_k3_e1: named twice"),
        ("fbnet", "101.5", "1_01.5", ":3: ir_k3_e1: '1_01.5' is not a number"),
        ("fbnet", "101.5", "inf", ":3: ir_k3_e1: 'inf' is not a number"),
        ("fbnet_lines", "'op_latency': 2", "'op_latency': 2, 'op_latency': 3", ":2: 'op_latency': given twice"),
        ("fbnet_lines", "'op_latency': 2", "'op_latency': print(2)", ":2: not a dict of literals"),
        ("fbnet_lines", "'op_latency': 2", "'op_latency': " + "-" * 900 + "2", ":2: "),
        ("fbnet_lines", "'op_latency': 2", "'op_latency': " + " " * 2000 + "2", ":2: .* at most 1000"),
        ("fbnet_lines", "'int8'", "'int7'", "op_dtype: 'int7' is unknown; did you mean int8?"),
        ("fbnet_lines", "'skip'", "'ir_k5_s2'", ":3: .*the same operator as .*:2"),
        ("fbnet_hwnasbench", "2.0, 0.0]]", "2.0, 0.5]]", "layer 21: skip: 0.5; costs are differences"),
        ("fbnet_hwnasbench", "[1.0, 2.0, 0.0], ", "", "21 values; expected a list of 22 layers"),
        ("fbnet_hwnasbench", "k5_e1_g2", "dilated", "'dilated': unknown operator"),
        ("hawq", '"bops"', '"macs"', "'macs': unknown key"),
        ("hawq", "[0.25, ", "[0, ", r"latency_int4: layer1.0.conv1: 0.0 ms is no latency"),
    ],
)
def test_rows_that_make_no_sense(name, old, new, message, read):
    content = sample(name).decode()
    assert old in content
    with pytest.raises(LutError, match=message):
        read(name, content.replace(old, new))


def test_samples_hold_what_the_mistakes_replace():
    assert KEY in PROXYLESSNAS
    assert '"ops"' in HWNASBENCH
