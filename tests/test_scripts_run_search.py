"""The command lines: what they print, what they refuse, and how they end."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import small_run
from mcu_toys import needs_toolchain
from PIL import Image
from small_run import main

import scripts.run_deploy
import scripts.write_report
import search.run
from scripts.run_search import SETTINGS, new_settings, parser, settings
from search.sources import load_sources


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_run.write(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def quick(files):
    """The folder of a run that --quick finished."""
    folder = files.parent / "quick"
    assert main(["--config", str(files), "--quick", "--out", str(folder)]) == 0
    return folder


def ended(argv, capsys):
    status = main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--dataset", "digit"], 2, r"digit.*digits"),
        (["--dataset", "nothing.py:f"], 2, r"nothing\.py: no such file"),
        (["--data", "{folder}/mydata.py:loader"], 2, r"no function 'loader'; did you mean loaders"),
        (["--model", "resnet9"], 2, r"resnet9.*did you mean resnet8"),
        (["--model", "{folder}/mynet.py"], 2, r"mynet\.py:build"),
        (["--device", "host_cpu"], 2, r"device: host_cpu is unknown; .*host-cpu"),
        (["--device", "none.yaml"], 2, r"none\.yaml"),
        (["--checkpoint", "none.safetensors"], 2, r"none\.safetensors: no such file"),
        (["--checkpoint", "{folder}/mynet.py"], 2, r"mynet\.py: not a sound safetensors file"),
        (["--loss", "{folder}/mynet.py:lose"], 2, r"no function 'lose'"),
        (["--metric", "mymetric"], 2, r"mymetric: expected FILE\.py:FUNCTION"),
        (["--table", "{folder}/none.csv"], 2, r"none\.csv: no such table"),
        (["--table", "{folder}/mynet.py"], 2, r"mynet\.py:\d+"),
        (["--config", "none.yaml"], 2, r"none\.yaml"),
        (["--set", "search.epoch=3"], 2, r"search\.epoch: .*epochs"),
        (["--set", "search.epochs=many"], 2, r"search\.epochs"),
        (["--set", "search.epochs=-1"], 2, r"search\.epochs"),
        (["--set", "search.epochs"], 2, r"search\.epochs"),
        (["--set", "search.arch_every=7"], 2, r"search\.arch_every: 7: the search has 6 weight steps \(1 epochs\)"),
        (["--set", "search.penalty=0"], 2, r"--set: search\.penalty: 0: the first r of lagrangian must be above 0"),
        (["--set", "search.seed=99999999999999999999"], 2, r"search\.seed: 9+ is out of range; expected 0 to 9\d+"),
        (["--quick", "-3"], 2, r"finetune\.epochs"),
        (["--budget", "weights=40"], 2, r"weights=40'.*unit is missing; write weights=60%"),
        (["--budget", "weight=40%"], 2, r"'weight' is no metric"),
        (["--budget", "weights=-1KiB"], 2, r"positive"),
        (["--sweep", "weights=60%,latency=5"], 2, r"latency=5'.*unit is missing"),
        (["--sweep", "weights=60%", "--budget", "macs=90%"], 2, r"--budget: the points of --sweep have budgets"),
        (["--set", 'space.skip=["9"]'], 2, r"space.skip: '9': .* what could be skipped: 3, 6$"),
        (["--budget", "weights=1B"], 3, r"weights <= 1 B: the smallest reachable is 276 B"),
        (["--quick", "--budget", "macs=1k"], 3, r"macs <= 1 k: the smallest reachable is 20\.79 k"),
        (["--sweep", "weights=60%", "--sweep", "macs=1k"], 3, r"macs <= 1 k: the smallest reachable is 20\.79 k"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_its_status_and_one_line(files, tmp_path, capsys, options, status, message):
    argv = ["--config", str(files), "--set", "train.epochs=0", "--out", str(tmp_path / "run")]
    argv += [option.format(folder=files.parent) for option in options]
    got, out, err = ended(argv, capsys)
    assert (got, out) == (status, "")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert "Traceback" not in err


def test_a_plan_for_a_program(files, capsys, monkeypatch):
    monkeypatch.setattr(search.run, "train", lambda *_, **__: pytest.fail("trained"))
    status, out, _ = ended(["--config", str(files), "--plan", "--json", "--budget", "latency=50%"], capsys)
    plan = json.loads(out)
    assert status == 0
    assert plan["rows"]["measure"] is None  # an imported table is not measured
    assert plan["reach"]["weights"] == {"smallest": 276, "largest": 1536, "unit": "B", "note": ""}
    assert plan["reach"]["latency"]["smallest"] < plan["reach"]["latency"]["largest"]
    assert plan["budgets"] == [
        {"metric": "latency", "limit": pytest.approx(plan["reach"]["latency"]["largest"] / 2), "unit": "us"}
    ]
    assert plan["problem"] is None
    assert not (files.parent / "runs").exists()


def test_a_plan_says_what_the_device_cuts_and_what_is_out_of_reach(files, tmp_path, capsys):
    device = tmp_path / "small.yaml"
    device.write_text("name: small\nrunner: imported\nsupports: {weight_bits: [8], act_bits: [4, 8],"
                      " channel_multiple: 8, max_kernel: 1, kinds: [input, conv2d, linear]}\n")  # fmt: skip
    argv = ["--config", str(files), "--device", str(device), "--plan", "--budget", "weights=50%"]
    status, out, err = ended(argv, capsys)
    assert status == 3
    assert "cut: weight_bits: [2, 4] are not supported by small, which has [8]" in out
    assert "cut: widths: multiples of 8, not of 4" in out
    assert "exceeds the device's 1" in out
    assert "avg_pool is not among the device's kinds" in out
    assert re.search(r"error: .*weights <= 768 B: the smallest reachable is 1\.5 KiB", err)


def test_a_plan_before_there_is_a_table_leaves_latency_out(files, tmp_path, capsys):
    argv = ["--config", str(files), "--device", "host-cpu", "--plan", "--json", "--table", str(tmp_path / "new.csv")]
    status, out, _ = ended([*argv, "--budget", "latency=50%", "--budget", "weights=60%"], capsys)
    plan = json.loads(out)
    assert status == 0
    assert 0 < plan["rows"]["measure"] <= plan["rows"]["space"]
    assert plan["rows"]["minutes"] == plan["rows"]["measure"] / 60
    assert [row["metric"] for row in plan["budgets"]] == ["weights"]
    assert "latency" not in plan["reach"]
    assert plan["notes"] == [f"latency: left out, {tmp_path / 'new.csv'} does not exist yet"]


def test_a_plan_for_a_sweep_is_of_its_points(files, capsys):
    argv = ["--config", str(files), "--plan", "--json", "--set", "budgets=[macs=1k]"]
    status, out, err = ended([*argv, "--sweep", "weights=60%,ram=100%", "--sweep", "weights=60%"], capsys)
    plan = json.loads(out)
    assert (status, plan["problem"], err) == (0, None, "")
    assert [row["metric"] for row in plan["budgets"]] == ["weights", "ram"]
    status, out, err = ended([*argv, "--sweep", "weights=60%", "--sweep", "weights=1B"], capsys)
    assert status == 3
    assert json.loads(out)["problem"] in err
    assert re.search(r"^error: .*weights <= 1 B: the smallest reachable is 276 B$", err)


@needs_toolchain
def test_a_plan_for_a_microcontroller_leaves_out_what_a_table_has(files, tmp_path, capsys):
    argv = ["--config", str(files), "--device", "cortex-m4", "--plan", "--json", "--table", str(tmp_path / "new.csv")]
    limits = [word for limit in ("latency=50%", "ram=100%", "flash=60%") for word in ("--budget", limit)]
    status, out, _ = ended([*argv, *limits], capsys)
    plan = json.loads(out)
    assert status == 0
    assert [row["metric"] for row in plan["budgets"]] == ["ram"]
    assert plan["notes"] == [f"latency, flash: left out, {tmp_path / 'new.csv'} does not exist yet"]


BLOCKS = """
from torch import nn

def block(c_in):
    return nn.Sequential(nn.Conv2d(c_in, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

def build():
    return nn.Sequential(block(1), block(8), block(8), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 3))
"""


def test_depth_is_searched_where_modules_may_be_skipped(files, tmp_path, capsys):
    """Nothing but leaving a block out gets below 60 % of the multiplications."""
    (tmp_path / "blocks.py").write_text(BLOCKS)
    argv = ["--config", str(files), "--model", f"{tmp_path}/blocks.py:build", "--out", str(tmp_path / "run")]
    argv += ["--budget", "macs=60%", "--budget", "ram=100%", "--set", "space.widths=[1.0]"]
    argv += ["--set", 'space.skip=["[12]"]', "--set", "deploy.validate=false"]
    status, _, err = ended(argv, capsys)
    assert status == 0, err
    choices = json.loads((tmp_path / "run" / "arch.json").read_text())["choices"]
    assert sorted((choices["1.op"], choices["2.op"])) == [0, 1]
    assert "1.candidates.0.0.weight_bits" in choices


def test_quick_runs_to_the_report_without_a_search(quick, capsys, monkeypatch):
    assert not (quick / "last.pt").exists()
    validation = json.loads((quick / "validation.json").read_text())
    assert all(row["met"] for row in validation["budgets"])
    assert validation["networks"]["found"]["top1"]["integer"] > 0.9
    assert (quick / "report.html").exists()
    monkeypatch.setattr(search.run, "run_search", lambda *_, **__: pytest.fail("searched"))
    status, out, _ = ended(["--run", str(quick), "--json"], capsys)  # resuming needs no --quick
    assert status == 0
    assert json.loads(out)["networks"]["found"] == validation["networks"]["found"]


def test_a_quick_sweep_searches_nothing(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search.run, "run_search", lambda *_, **__: pytest.fail("searched"))
    folder = tmp_path / "run"
    argv = ["--config", str(files), "--quick", "1", "--sweep", "weights=60%", "--sweep", "weights=40%"]
    status, out, _ = ended([*argv, "--out", str(folder), "--json"], capsys)
    assert status == 0
    points = {point["name"]: point for point in json.loads(out)["points"]}
    for name, share in (("weights=60%", 0.6), ("weights=40%", 0.4)):
        assert points[name]["weights_bytes"] <= share * points["uniform 8-bit"]["weights_bytes"]
    assert not (folder / "warmup").exists()
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    phases = Counter(row["phase"] for row in rows)
    assert phases["finetune points/weights-60pct"] == phases["finetune points/uniform-4-bit"] == 1


def test_ctrl_c_says_how_to_resume(files, tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search.run, "quick_scores", stop)
        argv = ["--config", str(files), "--quick", "--out", str(tmp_path / "my run")]
        status, out, err = ended(argv, capsys)
    assert (status, out) == (130, "")
    assert f"resume with: python scripts/run_search.py --run '{tmp_path / 'my run'}'" in err
    assert main(["--run", str(tmp_path / "my run")]) == 0


def test_resuming_what_is_not_there_or_is_damaged(files, tmp_path, capsys):
    status, _, err = ended(["--run", str(tmp_path / "none")], capsys)
    assert status == 2
    assert "none: no such run folder" in err
    (tmp_path / "empty").mkdir()
    status, _, err = ended(["--run", str(tmp_path / "empty")], capsys)
    assert status == 2
    assert "config.yaml" in err
    folder = tmp_path / "run"
    argv = ["--config", str(files), "--set", "train.epochs=0", "--out", str(folder)]
    folder.mkdir()
    (folder / "last.pt").write_bytes(b"PK\3\4 and then nothing")
    status, _, err = ended(argv, capsys)
    assert status == 2
    assert "last.pt: damaged checkpoint" in err
    assert "delete it to start this phase anew" in err
    (folder / "float.safetensors").write_bytes(b"short")
    status, _, err = ended(["--run", str(folder)], capsys)
    assert status == 2
    assert "float.safetensors: not a sound safetensors file" in err


@pytest.mark.parametrize(
    "name", ["2024", "photos #2", "a: b", "[x]", "1e3", "null", "naïve folder", 'a"b\\c', "!x", "*y"]
)
def test_what_options_name_is_taken_as_it_is_written(name):
    options = [f"--{option.replace('_', '-')}" for option in (*SETTINGS, "device")]
    config = new_settings(parser().parse_args([word for option in options for word in (option, name)]))
    assert {config.device, config.accelerator, config.table, config.data.name, config.data.root} == {name}
    assert set(vars(config.model).values()) == {name}
    for option in ("--data", "--dataset"):
        assert new_settings(parser().parse_args([option, name])).data.name == name


def test_a_folder_of_images_is_found_by_any_name_but_those_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        for folder in ("photos #2", "digits"):
            Path(folder, label).mkdir(parents=True)
            for i in range(6):
                Image.new("L", (8, 8), 40 * i).save(Path(folder, label, f"{i}.png"))

    def classes(name):
        return load_sources(new_settings(parser().parse_args(["--dataset", name]))).data.num_classes

    assert [classes(name) for name in ("photos #2", "digits", "./digits")] == [2, 10, 2]


def test_a_run_keeps_its_settings(files, quick, capsys):
    status, _, err = ended(["--run", str(quick), "--budget", "weights=50%"], capsys)
    assert status == 2
    assert "--budget: --run resumes with the settings of" in err
    status, _, err = ended(["--config", str(files), "--out", str(quick)], capsys)
    assert status == 2
    assert "a run with other settings; give another --out" in err


def test_the_default_folder_is_numbered_when_another_run_has_the_name(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, first = settings(parser().parse_args(["--config", str(files)]))
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d-paper-mynet", str(first))
    first.mkdir(parents=True)
    config.write(first / "config.yaml")
    assert settings(parser().parse_args(["--config", str(files)]))[1] == first
    other = settings(parser().parse_args(["--config", str(files), "--budget", "weights=50%"]))[1]
    assert str(other) == f"{first}-2"


def test_the_same_command_goes_on_with_what_another_day_left_unfinished(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, today = settings(parser().parse_args(["--config", str(files)]))
    other = settings(parser().parse_args(["--config", str(files), "--budget", "weights=50%"]))[0]

    def begin(name, settings, *files):
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        settings.write(folder / "config.yaml")
        for file in files:
            (folder / file).touch()
        return folder

    def folder(*options):
        return settings(parser().parse_args(["--config", str(files), *options]))[1]

    begin("2025-01-03-paper-mynet", config, "report.html", "validation.json")
    begin("2025-01-04-paper-mynet", other)
    begin("2025-01-05-paper-mynet-of-mine", config)
    (begin("2025-01-06-paper-mynet", config) / "config.yaml").write_text("search: {epoch: 3}")
    assert folder() == today, "finished ones, and other runs, are left alone"
    older = begin("2025-01-01-paper-mynet-2", config, "report.html")  # one of a run that has not ended
    assert folder() == older
    assert folder("--budget", "weights=50%") == Path("runs/2025-01-04-paper-mynet")
    newer, newest = (begin(f"2025-01-02-paper-mynet{number}", config) for number in ("-9", "-10"))
    assert folder() == newest
    for file in ("report.html", "validation.json"):
        (newest / file).touch()
    assert folder() == newer
    sweep = ["--sweep", "weights=50%"]
    begin("2025-01-07-paper-mynet", new_settings(parser().parse_args(["--config", str(files), *sweep])), "report.html")
    assert folder(*sweep) == today
    begin(today.name, config, "report.html", "validation.json")
    assert folder() == today, "the run of the day, finished or not"
    assert folder(*sweep) == Path(f"{today}-2")


def test_what_is_gone_on_with_is_said(quick, capsys):
    assert f"going on with {quick}" in ended(["--run", str(quick)], capsys)[2]


def test_deploying_again(quick, tmp_path, capsys):
    before = json.loads((quick / "validation.json").read_text())
    (quick / "validation.json").unlink()
    assert scripts.run_deploy.main(["--run", str(quick), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before == json.loads((quick / "validation.json").read_text())
    (tmp_path / "config.yaml").write_text("{}")
    for folder, message in ((tmp_path, "float.safetensors: no such file; finish the run"),
                            (tmp_path / "none", "config.yaml: no such file")):  # fmt: skip
        assert scripts.run_deploy.main(["--run", str(folder)]) == 2
        assert message in capsys.readouterr().err


def test_writing_the_report_again(quick, tmp_path, capsys):
    (quick / "report.html").unlink()
    assert scripts.write_report.main(["--run", str(quick), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(quick / "report.html")}
    assert (quick / "report.html").exists()
    assert scripts.write_report.main(["--run", str(tmp_path / "none")]) == 2
    assert "no such run folder" in capsys.readouterr().err
    (tmp_path / "pareto.json").write_text("[")
    assert scripts.write_report.main(["--run", str(tmp_path)]) == 2
    assert "pareto.json: not JSON" in capsys.readouterr().err
