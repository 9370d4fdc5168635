"""The report: one self-contained page from whatever files a run folder has; figures are the files'; all escaped."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lut.errors import InputError
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from search import outcome, plots
from search.config import RunConfig
from search.report import cost, headline, kib, microseconds, percent, phases, share, write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No tables beside the tests."""
    monkeypatch.chdir(tmp_path)


class Balanced(HTMLParser):
    """Fails on tags that do not close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def layer_rows(count):
    return [
        {"name": f"stage{i}.conv", "kind": "conv2d", "channels": 8 + 8 * (i % 2), "max_channels": 16,
         "weight_bits": (2, 4, 8)[i % 3], "act_bits": 4}
        for i in range(count)
    ]  # fmt: skip


def network(factor, top1):
    return {
        "latency_us": {"predicted": 100.0 * factor, "measured": 104.0 * factor, "p10": 101.0 * factor,
                       "p90": 110.0 * factor, "error": -0.0385, "cold": 150.0 * factor},
        "weights_bytes": {"predicted": 78_000 * factor, "stored": 90_000 * factor},
        "ram_bytes": {"planned": 32768},
        "top1": top1,
        "ops": [{"name": "stem", "kind": "conv2d", "predicted_us": 10.0 * factor, "measured_us": 12.5 * factor}],
    }  # fmt: skip


VALIDATION = {
    "source": "host",
    "networks": {
        "float": network(4.0, {"float": 0.9833}),
        "uniform8": network(1.0, {"float": 0.9833, "fake_quant": 0.98, "integer": 0.9806}),
        "found": network(0.5, {"fake_quant": 0.9777, "integer": 0.9783}),
    },
    "budgets": [
        {"metric": "latency", "limit": 60.0, "predicted": 50.0, "measured": 52.0, "met": True},
        {"metric": "weights", "limit": 30_720, "predicted": 39_000, "measured": 39_000, "met": False},
    ],
    "drift": [{"name": "conv2d 16", "table_us": 10.0, "now_us": 10.4, "drift": 0.04}],
    "layers": layer_rows(9),
}
ENV = {"command": "python scripts/run_search.py --device host-cpu", "seed": 7, "versions": {"torch": "2.13.0"},
       "machine": {"cpu": "EPYC"}}  # fmt: skip
ROWS = [
    {"phase": "train", "epoch": 0, "loss": 2.0, "metric": 0.5, "cpu_seconds": 10.0, "wall_seconds": 6.0},
    {"phase": "train", "epoch": 1, "loss": 1.0, "metric": 0.6, "cpu_seconds": 10.0, "wall_seconds": 6.0},
    {"phase": "search", "epoch": 0, "loss": 1.0, "metric": 0.7, "cpu_seconds": 50.0, "wall_seconds": 30.0,
     "entropy": {"width": 0.9}, "costs": {"latency": 80.0, "weights": 40_000.0}, "limits": {"latency": 60.0}},
]  # fmt: skip
TRIALS = {
    "aa": {"name": "searched", "metric": 0.7281, "predicted": {"latency": 50.0, "weights": 29_696}},
    "bb": {"name": "uniform W4A8", "metric": 0.7694, "predicted": {"latency": 55.0, "weights": 28_672}},
}
PARETO = {"points": [{"name": "half", "kind": "found", "top1": 0.97, "latency_us": 50.0, "weights_bytes": None}]}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "2026-01-01-host-cpu-resnet8"
    folder.mkdir()
    RunConfig().write(folder / "config.yaml")
    for name, body in (("validation", VALIDATION), ("env", ENV), ("pareto", PARETO), ("trials", TRIALS)):
        (folder / f"{name}.json").write_text(json.dumps(body))
    (folder / "arch.json").write_text(json.dumps({"schema": 1, "choices": {"stem.weight_bits": 4}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def read(path):
    page = path.read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return page, re.sub(r"\s+", " ", "".join(parser.text))


def test_a_full_run(run):
    page, text = read(write_report(run))
    for figure in ("98.33", "98.06", "97.83", "38.1", "416 µs", "52.0 µs", "50.5 µs – 55.0 µs", "−3.9 %", "50 %",
                   "30 KiB", "✓ yes", "✗ no", "+4.0 %", "2.50×", "--device host-cpu", "stem.weight_bits", "EPYC",
                   "With flushed caches: Float32 600 µs"):  # fmt: skip
        assert figure.replace(" µs", "\N{NO-BREAK SPACE}µs") in text or figure in text, figure
    assert page.count("<svg") == 4
    assert "is missing" not in text


def test_a_run_that_measured_nothing_says_so(run):
    validation = json.loads((run / "validation.json").read_text())
    validation["source"] = "imported"
    for network in validation["networks"].values():
        network["latency_us"] = {"predicted": network["latency_us"]["predicted"]}
    (run / "validation.json").write_text(json.dumps(validation))
    (run / "config.yaml").write_text("price: {image_size: 224, classes: 1000}\n")
    _, text = read(write_report(run))
    assert "sum of the table’s rows (source: imported); nothing was measured" in text
    assert "at 224 pixels, 1000 classes" in text
    assert "hot caches" not in text


def test_the_table_is_drawn_where_it_is_found(run, tmp_path):
    before = write_report(run).read_text().count("<svg")
    conv = OpSpec("conv2d", 1, 4, 16, 8, 8)
    LatencyTable({replace(conv, c_out=c): Latency(c, c, c) for c in (4, 8, 16)}).write(tmp_path / "t.csv")
    (run / "config.yaml").write_text("table: t.csv\n")
    page, text = read(write_report(run))
    assert page.count("<svg") == before + 1
    assert "The table" in text
    (tmp_path / "t.csv").write_text("damaged")
    assert "The table" not in read(write_report(run))[1]


def test_opens_without_network_or_scripts(run):
    page, _ = read(write_report(run))
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert not re.search(r"@import|url\((?!#)", page)


def test_every_reference_inside_a_figure_resolves_and_ids_are_unique(run):
    page, _ = read(write_report(run))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set(ids)
    assert references


def test_an_empty_folder_says_what_is_missing(tmp_path):
    page, text = read(write_report(tmp_path))
    for name in ("validation.json", "metrics.jsonl", "env.json", "config.yaml", "arch.json", "pareto.json"):
        assert name in text
    assert "<svg" not in page


def test_finalists_are_listed_best_first_with_what_they_cost(run):
    _, text = read(write_report(run))
    section = text.split("Finalists")[1].split("On validation after")[0].replace("\N{NO-BREAK SPACE}", " ")
    assert section.strip() == "networktop-1, %latencyweights uniform W4A876.9455 µs28 KiB searched72.8150 µs29 KiB"
    (run / "trials.json").write_text("[]")
    with pytest.raises(InputError, match=r"trials\.json: damaged"):
        write_report(run)
    (run / "trials.json").unlink()
    assert "Finalists" not in read(write_report(run))[1]


@pytest.mark.parametrize("name", ["validation.json", "env.json", "pareto.json", "arch.json", "metrics.jsonl"])
def test_any_one_file_may_be_absent(run, name):
    (run / name).unlink()
    read(write_report(run))


def test_figures_may_be_absent_or_null(run):
    bare = {
        "networks": {"found": {"top1": {"integer": None}}, "uniform8": {}},
        "budgets": [{"metric": "macs", "limit": 2e6}],
    }
    (run / "validation.json").write_text(json.dumps(bare))
    (run / "pareto.json").unlink()
    _, text = read(write_report(run))
    assert "2 M" in text
    assert "holds a network's accuracy" in text


def test_strings_of_the_user_are_escaped(run):
    evil = "<script>alert('x')</script>&$\\frac{1}{2}$"
    body = json.loads(json.dumps(VALIDATION))
    body["layers"][0]["name"] = body["networks"]["found"]["ops"][0]["name"] = evil
    body["networks"][evil] = network(2.0, {"integer": 0.5})
    (run / "validation.json").write_text(json.dumps(body))
    (run / "env.json").write_text(json.dumps({"command": evil, "machine": {evil: evil}}))
    (run / "config.yaml").write_text(f"device: {evil}\n")
    page, text = read(write_report(run))
    assert "<script" not in page
    assert evil in text


def test_bad_input(run):
    with pytest.raises(InputError, match="none: no such run folder"):
        write_report(run / "none")
    (run / "env.json").write_text("{")
    with pytest.raises(InputError, match=r"env\.json: not JSON: .*; delete it or run its step again"):
        write_report(run)
    (run / "env.json").write_text("[]")
    with pytest.raises(InputError, match=r"env\.json: damaged: the file: \[\] is not an object"):
        write_report(run)


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("validation.json", "[" * 200_000, "not JSON: maximum recursion"),
        ("validation.json", b"\xff\xfe", "not a text file in UTF-8; delete it or run its step again"),
        ("validation.json", "null", "damaged: the file: null is not an object; delete it or run its step again"),
        ("validation.json", '{"networks": [1]}', r"damaged: networks: \[1\] is not an object"),
        ("validation.json", '{"networks": {"found": null}}', "damaged: networks.found: null is not an object"),
        ("validation.json", '{"networks": {"a": {"top1": {"float": "x"}}}}', 'a.top1.float: "x" is not a number'),
        ("validation.json", '{"networks": {"a": {"ops": [{"name": "b"}]}}}', r"networks.a.ops\[0\]: no kind"),
        ("validation.json", '{"budgets": [{}]}', r"damaged: budgets\[0\]: no metric"),
        ("validation.json", '{"drift": {}}', "drift: {} is not a list"),
        ("validation.json", '{"layers": [{"name": "a", "channels": true}]}', r"\[0\].channels: true is not a number"),
        ("validation.json", '{"source": 3}', "source: 3 is not text"),
        ("pareto.json", '{"points": [{"name": "a", "kind": "b", "top1": "x"}]}', r'\[0\].top1: "x" is not a number'),
        ("arch.json", '{"choices": [1]}', r"choices: \[1\] is not an object"),
        ("env.json", '{"command": 7}', "command: 7 is not text"),
        ("metrics.jsonl", '{"epoch": 0, "cpu_seconds": "x"}\n', r'\[0\].cpu_seconds: "x" .*; delete that row'),
        ("metrics.jsonl", '{"phase": "search", "epoch": 0, "costs": null}\n', r"\[0\].costs: null is not an object"),
        ("trials.json", '{"a": {"name": "b", "metric": 1}}', "damaged: a: no predicted"),
        ("config.yaml", b"\xff\xfe", "not a text file in UTF-8; save it as such"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_place_in_it(run, name, body, message):
    (run / name).write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        write_report(run)


def test_a_cut_journal_line_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "finetune", "ep')
    _, text = read(write_report(run))
    assert "finetune " not in text.split("Time by phase")[1].split("Predicted against")[0]


def test_headline_compares_with_uniform_8_bit():
    row = headline("found", VALIDATION["networks"]["found"], VALIDATION["networks"])
    assert (row["packed_share"], row["latency_share"], row["ram"]) == (0.5, 0.5, 32768)
    assert headline("found", {}, {})["packed_share"] is None


def test_phases_sum_seconds_beside_plain_training():
    train, search = phases(ROWS)
    assert (train["cpu"], train["wall"], train["epochs"], train["ratio"], train["metric"]) == (20, 12, 2, 1, 0.6)
    assert search["ratio"] == 2.5
    assert phases(ROWS[2:])[0]["ratio"] is None
    tried = [{"phase": f"trial {name}", "epoch": 0, "cpu_seconds": 1.0, "metric": 0.5} for name in ("a 1", "b 2")]
    (trial,) = phases(tried)
    assert (trial["name"], trial["epochs"], trial["cpu"]) == ("trial", 2, 2)


def test_what_a_simulator_said_is_not_called_measured(run):
    page, _ = read(write_report(run))
    assert "measured, µs" in page and "simulated" not in page
    simulated = json.loads((run / "validation.json").read_text()) | {"source": "cycle-model", "drift": []}
    (run / "validation.json").write_text(json.dumps(simulated))
    page, text = read(write_report(run))
    assert "Predicted against simulated" in text and "nothing was measured on hardware" in text
    assert "simulated, µs" in page
    assert not any(word in page for word in ("measured, µs", "<th>measured</th>", "against measured"))
    table = outcome.networks(simulated | {"networks": {}})
    assert "simulated us" in table and "measured" not in table


def test_numbers():
    assert [percent(0.98765), percent(None), percent(0.5, 0)] == ["98.77", "–", "50"]
    assert [share(-0.0123), share(0.1)] == ["−1.2 %", "+10.0 %"]
    assert [kib(30_720), microseconds(12.345), microseconds(123.4), microseconds(12_345.0)] == [
        "30.0", "12.3\N{NO-BREAK SPACE}µs", "123\N{NO-BREAK SPACE}µs", "12.3\N{NO-BREAK SPACE}ms"]  # fmt: skip
    assert [cost(5e3, "latency"), cost(40_960, "weights"), cost(3.0, "joy")] == ["5 ms", "40 KiB", "3"]


@pytest.mark.parametrize("count", [1, 9, 60])
def test_the_picture_names_every_layer(count):
    rows = [*layer_rows(count - 1), {"name": "pool", "kind": "avg_pool", "channels": 8, "max_channels": 16}]
    root = ElementTree.fromstring(plots.layers(rows))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(row["name"] in texts for row in rows)
    assert "8 of 16" in texts
    assert texts.count("w2 · a4 · 8 of 16") == sum(r.get("weight_bits") == 2 and r["channels"] == 8 for r in rows)


def test_labels_of_near_points_do_not_cover_each_other():
    near = [(f"net {i}", 0.9 + 1e-4 * i, 100.0 + i) for i in range(4)]
    points = [{"name": n, "kind": "found", "top1": t, "latency_us": us, "weights_bytes": None} for n, t, us in near]
    root = ElementTree.fromstring(plots.pareto(points, {}))
    spots = [
        e.get("transform") for e in root.iter("{http://www.w3.org/2000/svg}text") if (e.text or "").startswith("net")
    ]
    assert len(set(spots)) == 4


def test_a_single_point_and_a_single_epoch_draw():
    ElementTree.fromstring(plots.history(ROWS[2:]))
    ElementTree.fromstring(plots.history([{"phase": "search", "epoch": 0}]))
    ElementTree.fromstring(plots.agreement([], [{"network": "a", "predicted": 3.0, "measured": 3.0}]))
