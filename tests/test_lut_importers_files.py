"""The published tables themselves: sums that their papers and repositories state, and every row there and back."""

import json

import pytest
from import_samples import published

from lut.errors import LutError
from lut.importers import IMPORTERS, sniff
from lut.importers.hawq import read_sensitivities
from lut.importers.ofa import net_cost, net_specs
from lut.table import LatencyTable

FBNET = "fbnet_cpu_lookup_table_annaaraslanova.txt"
HAQ = "qmobilenetv2_imagenet100_batch16_latency_table.npy"
HAWQ, HWNASBENCH = "hawqv3_t4_int4_int8.json", "fbnet_hwnasbench_lut.json"
PROXYLESSNAS = "proxylessnas_pixel1_mobile_trim.yaml"
FILES = [
    (PROXYLESSNAS, "proxylessnas", {}, 72),
    ("ofa_note10", "ofa", {}, 450),
    ("ofa_note10/160_lookup_table.yaml", "ofa", {}, 96),
    (HAQ, "haq", {}, 3392),
    ("apq_bitfusion_b1.json", "apq", {}, 6569),
    (HAWQ, "hawq", {"network": "ResNet18"}, 38),
    (HAWQ, "hawq", {"network": "ResNet50"}, 104),
    (FBNET, "fbnet", {}, 198),
    (HWNASBENCH, "fbnet_hwnasbench", {"source_device": "raspi4"}, 176),
    (HWNASBENCH, "fbnet_hwnasbench", {"source_device": "eyeriss"}, 176),
]


@pytest.mark.parametrize(("file", "name", "options", "rows"), FILES)
def test_there_and_back(file, name, options, rows, tmp_path):
    path = published(file)
    assert sniff(path) == name
    table = IMPORTERS[name](path, device="d", **options)
    assert len(table) == rows
    table.write(tmp_path / "t.csv")
    again = LatencyTable.read(tmp_path / "t.csv")
    assert dict(again) == dict(table)
    assert again.provenance == table.provenance
    assert all(again.lookup(spec) == row for spec, row in table.items())


def test_the_span_of_proxylessnas():
    """Every layer its cheapest, every layer its dearest; the first block has kernel 3 in that space."""
    table = IMPORTERS["proxylessnas"](published(PROXYLESSNAS), device="d")
    blocks = {}
    for spec, row in table.items():
        if spec.kind == "mbconv":
            blocks.setdefault((spec.c_in, spec.c_out), {})[spec] = row.us
    ends = sum(row.us for spec, row in table.items() if spec.kind != "mbconv")
    first = next(us for spec, us in blocks.pop((32, 16)).items() if spec.kernel == (3, 3))
    least = most = ends + first
    for (c_in, c_out), options in blocks.items():
        assert len(options) == 6
        repeats = 3 if c_in == c_out else 1
        least += 0 if c_in == c_out else min(options.values())
        most += repeats * max(options.values())
    assert round(least / 1000, 1) == 29.6
    assert round(most / 1000, 1) == 191.0


def test_the_sums_of_haq():
    table = IMPORTERS["haq"](published(HAQ), device="d")

    def total(bits):
        return sum(row.cycles for spec, row in table.items() if spec.w_bits == bits and spec.in_bits == (bits,))

    assert (total(8), total(4)) == (39624933, 15716150)


def test_the_layers_of_haq_are_mobilenetv2s():
    """Depthwise layers do 15 to 18 operations a cycle wherever they lie, others more; equal layers cost the same."""
    table = IMPORTERS["haq"](published(HAQ), device="d")
    costs = {}
    for spec, row in table.items():
        if (spec.w_bits, spec.in_bits) != (8, (8,)):
            continue
        rows, cols = spec.out_size()
        macs = spec.batch * spec.c_in // spec.groups * spec.c_out * spec.kernel[0] * spec.kernel[1] * rows * cols
        assert (15 < macs / row.cycles < 18.1) == spec.depthwise
        costs.setdefault(spec.without_site(), set()).add(row.cycles)
    assert len(costs) < 53 and all(len(values) == 1 for values in costs.values())


@pytest.mark.parametrize(("network", "four", "eight"), [("ResNet18", 3.15, 5.34), ("ResNet50", 7.66, 11.87)])
def test_the_sums_of_hawq(network, four, eight):
    table = IMPORTERS["hawq"](published(HAWQ), device="d", network=network)
    sums = {bits: sum(row.us for spec, row in table.items() if spec.w_bits == bits) / 1000 for bits in (4, 8)}
    assert (round(sums[4], 2), round(sums[8], 2)) == (four, eight)
    sensitivities = read_sensitivities(published(HAWQ), network)
    assert list(sensitivities) == list(dict.fromkeys(spec.site for spec in table))
    assert all(0 < loss[8] < loss[4] for loss in sensitivities.values())


def test_the_stride_of_hawqs_resnet50_lies_in_the_first_convolution():
    table = IMPORTERS["hawq"](published(HAWQ), device="d", network="ResNet50")
    at = {spec.site: spec for spec in table}
    assert (at["layer2.0.conv1"].stride, at["layer2.0.conv2"].stride) == ((2, 2), (1, 1))
    assert (at["layer2.0.conv2"].height, at["layer4.0.downsample.0"].height) == (28, 14)


def config(milliseconds):
    path = next(published("ofa_nets").glob(f"*lat-{milliseconds}ms*[0-9].config"))
    run = path.with_name(path.name.replace(".config", ".run.config"))
    return json.loads(path.read_text()), json.loads(run.read_text())["image_size"]


def test_the_published_net_of_once_for_all():
    """50 ms is in the name of its file; at 220 pixels there is no table, it lies between 208 and 224."""
    table = IMPORTERS["ofa"](published("ofa_note10"), device="d")
    net, size = config(50)
    assert size == 220
    assert net_cost(table, net, size) == pytest.approx(50_000, rel=0.03)
    single = [IMPORTERS["ofa"](published(f"ofa_note10/{n}_lookup_table.yaml"), device="d") for n in (208, 224)]
    assert net_cost(single, net, size) == pytest.approx(net_cost(table, net, size), rel=0.002)
    assert net_cost(table, net, 208) < net_cost(table, net, size) < net_cost(table, net, 224)
    assert net_cost(single[1], net, 224) == pytest.approx(sum(single[1][s].us for s in net_specs(net, 224)))
    with pytest.raises(LutError, match="230 is not between sizes that were measured: 160, 176, 192, 208, 224"):
        net_cost(table, net, 230)


@pytest.mark.parametrize("milliseconds", [8, 22])
def test_nets_of_width_1_are_not_in_the_tables(milliseconds):
    table = IMPORTERS["ofa"](published("ofa_note10"), device="d")
    with pytest.raises(LutError, match=r"no row for conv2d 3->16 .*networks whose stem has 24 channels"):
        net_cost(table, *config(milliseconds))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("blocks",), {}, "config: blocks: {} is not a list of blocks"),
        (("blocks", 1, "mobile_inverted_conv", "stride"), "2", "blocks: 1: stride: '2' is not a whole number"),
        (("blocks", 1, "mobile_inverted_conv", "act_func"), "tanh", "blocks: 1: act_func: 'tanh'"),
        (("first_conv", "kernel_size"), 5, "first_conv: kernel_size: 5; the tables have 3 here"),
        (("classifier",), None, "config: classifier: None is not an object"),
    ],
)
def test_broken_configs(path, value, message):
    net, size = config(50)
    part = net
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(LutError) as error:
        net_specs(net, size)
    assert message in str(error.value)
