"""The whole chain as a person meets it: own model, data, loss and metric, somebody else's table, no TVM."""

import csv
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from interruptible import interruptible
from safetensors.torch import load_file

from cost_models.counts import weight_bytes
from lut.table import LatencyTable
from scripts import import_lut, run_search
from search.coverage import space_specs
from search.evaluate import evaluate
from search.progress import phase_of, read_metrics
from search.run import Run
from search.trial import RESULTS, read_trials
from supernet import Arch, load_subnet

ROOT = Path(__file__).parents[1]

MYNET = """
from torch import nn

def block(c_in, c_out, stride):
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]

def build():
    return nn.Sequential(*block(1, 8, 1), *block(8, 16, 2), *block(16, 16, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))

def broken():
    return build().no_such_layer
"""
MYDATA = """
import torch

def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1, 1, 12)
    patterns = torch.stack([ramp.expand(12, 12), ramp.expand(12, 12).T, (ramp * ramp[:, None]) * 2])
    y = torch.arange(count) % 3
    x = patterns[y].unsqueeze(1) + 0.5 * torch.randn(count, 1, 12, 12, generator=generator)
    return list(zip(x.split(32), y.split(32)))

def loaders():
    return split(192, 0), split(96, 1), split(96, 2)
"""
MYLOSS = """
import os, pathlib, signal
from torch.nn import functional

def loss(output, target):
    number, phase, journal = os.environ.get("STOP", "0 - -").split(" ", 2)
    if int(number) and pathlib.Path(journal).exists() and f'"phase": "{phase}' in pathlib.Path(journal).read_text():
        signal.raise_signal(int(number))
    return functional.cross_entropy(output, target, label_smoothing=0.1)

def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()

def raises(output, target):
    return {}["my own mistake"]
"""
DEVICE = """
name: toy-board
runner: imported
act_storage: packed
supports: {weight_bits: [2, 4, 8], act_bits: [4, 8], channel_multiple: 4}
"""
EPOCHS = {"train.epochs": 3, "search.warmup_epochs": 1, "search.epochs": 3, "finetune.epochs": 2}
BUDGETS = ("latency=65%", "weights=50%")
THEIRS = {"latency_us": "ms", "c_in": "ic", "c_out": "oc", "height": "h", "width": "w"}
WITHOUT_TVM = """
import sys
sys.modules["tvm"] = None  # as if it were not installed: importing it fails, and torch's look for it finds nothing
from scripts.run_search import main
sys.exit(main(sys.argv[1:]))
"""


def microseconds(spec):
    """The toy board: a multiplier of two codes a cycle at 4 bits, four at 2, and a call per operator."""
    rows, cols = spec.out_size()
    work = spec.kernel[0] * spec.kernel[1] * (spec.c_in // spec.groups) * spec.w_bits / 8
    return 2 + rows * cols * spec.c_out * (work + spec.out_bits / 8) / 1000


def their_csv(path, specs):
    """Rows as another project would have written them: names and units of its own."""
    columns = ["kind", "ic", "oc", "h", "w", "kernel", "stride", "pad", "groups", "w_bits", "in_bits", "out_bits", "ms"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for s in specs:
            pairs = ["x".join(map(str, pair)) for pair in (s.kernel, s.stride, s.pad)]
            bits = [s.w_bits, "+".join(map(str, s.in_bits)), s.out_bits]
            cost = repr(microseconds(s) / 1000)
            writer.writerow([s.kind, s.c_in, s.c_out, s.height, s.width, *pairs, s.groups, *bits, cost])


def arguments(home, *more):
    options = {"device": "board.yaml", "model": "mynet.py:build", "data": "mydata.py:loaders",
               "loss": "myloss.py:loss", "metric": "myloss.py:accuracy"}  # fmt: skip
    words = [word for name, file in options.items() for word in (f"--{name}", str(home / file))]
    words += ["--table", str(home / "board.csv")]
    words += [word for budget in BUDGETS for word in ("--budget", budget)]
    words += [word for name, value in EPOCHS.items() for word in ("--set", f"{name}={value}")]
    return [*words, *more]


def in_process(words, **environment):
    """run_search.py without TVM, in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", WITHOUT_TVM, *words]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, preexec_fn=interruptible
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes of their own: sums of the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A person's folder: their code, their device, and a table imported from a CSV of somebody else's."""
    folder = tmp_path_factory.mktemp("home")
    for name, text in {"mynet.py": MYNET, "mydata.py": MYDATA, "myloss.py": MYLOSS, "board.yaml": DEVICE}.items():
        (folder / name).write_text(text)
    config, _ = run_search.settings(run_search.parser().parse_args(arguments(folder)))
    run = Run(config, folder / "nowhere", progress=False)
    their_csv(folder / "theirs.csv", space_specs(run.supernet(run.sources.model, run.space())))
    status = import_lut.main(
        [str(folder / "theirs.csv"), "--device", "toy-board", "--unit", "ms", "--out", str(folder / "board.csv"),
         "--columns", ",".join(f"{ours}={theirs}" for ours, theirs in THEIRS.items()),
         "--set", "batch=1", "dilation=1"]
    )  # fmt: skip
    assert status == 0
    return folder


@pytest.fixture(scope="module")
def done(home):
    """The unbroken run: its folder and its output."""
    folder = home / "run"
    finished = in_process(arguments(home, "--out", str(folder)))
    assert finished.returncode == 0, finished.stderr
    return folder, finished


def test_it_prints_the_result_and_leaves_every_file(done):
    folder, finished = done
    assert "uniform 8-bit" in finished.stdout
    assert f"report: {folder / 'report.html'}" in finished.stdout
    assert "not measured (source: imported)" in finished.stdout
    kept = {"config.yaml", "env.json", "float.safetensors", "metrics.jsonl", "last.pt", "arch.json",
            "subnet.safetensors", "uniform8.safetensors", "validation.json", "report.html"}  # fmt: skip
    assert kept <= {path.name for path in folder.iterdir()}
    assert not (folder / "deploy").exists()
    page = (folder / "report.html").read_text()
    assert "source: imported" in page
    assert "<svg" in page


def test_the_found_network_is_inside_the_budgets(home, done):
    """Recomputed from the saved subnet and the board's formula alone."""
    folder, _ = done
    subnet, arch = load_subnet(folder / "subnet.safetensors"), Arch.read(folder / "arch.json")
    assert subnet.values() == dict(arch.choices)
    specs = [op.spec({}) for op in subnet.schedule().ops]
    costs = {"latency": sum(map(microseconds, specs)), "weights": sum(map(weight_bytes, specs))}
    rows = json.loads((folder / "validation.json").read_text())["budgets"]
    assert [row["metric"] for row in rows] == ["latency", "weights"]
    for row in rows:
        assert row["predicted"] == pytest.approx(costs[row["metric"]], rel=1e-9)
        assert costs[row["metric"]] <= row["limit"] * (1 + 1e-9)
        assert (row["measured"], row["met"]) == (None, True)
    table = LatencyTable.read(home / "board.csv")
    assert sum(table.lookup(spec).us for spec in specs) == pytest.approx(costs["latency"])


def test_validation_holds_predictions_and_integer_accuracy(done):
    folder, _ = done
    validation = json.loads((folder / "validation.json").read_text())
    assert (validation["source"], validation["drift"]) == ("imported", [])
    networks = validation["networks"]
    assert networks["float"]["latency_us"] == {"predicted": None}  # the board has no float32 rows
    for name in ("uniform8", "found"):
        assert set(networks[name]["latency_us"]) == {"predicted"}
        assert networks[name]["top1"]["integer"] == pytest.approx(networks[name]["top1"]["fake_quant"], abs=0.05)
    assert networks["uniform8"]["top1"]["integer"] > 0.8  # 1/3 by chance
    assert networks["found"]["latency_us"]["predicted"] < 0.66 * networks["uniform8"]["latency_us"]["predicted"]


def test_the_saved_subnet_scores_what_validation_says(home, done):
    folder, _ = done
    config = run_search.RunConfig.read(folder / "config.yaml")
    run = Run(config, folder, progress=False)
    score = evaluate(load_subnet(folder / "subnet.safetensors"), run.sources.data, "test", run.sources.metric)
    said = json.loads((folder / "validation.json").read_text())["networks"]["found"]["top1"]["fake_quant"]
    assert score == pytest.approx(said, abs=1e-6)


def test_metrics_are_complete(done):
    folder, _ = done
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    phases = {"train": range(3), "warmup": range(1), "search": range(1, 4), "finetune uniform8": range(2),
              "finetune subnet": range(2)}  # fmt: skip
    tried = [row for row in rows if phase_of(row) == "trial"]
    assert len(tried) == 2 * len(read_trials(folder / RESULTS)) > 2
    others = [(row["phase"], row["epoch"]) for row in rows if row not in tried]
    assert others == [(p, e) for p, epochs in phases.items() for e in epochs]
    for row in rows:
        assert np.isfinite([row[key] for key in ("loss", "metric", "cpu_seconds", "wall_seconds")]).all()
        if row["phase"] == "search":
            assert set(row["costs"]) == set(row["limits"]) == {"latency", "weights"}
            assert set(row["entropy"]) == {"width", "weight_bits", "act_bits"}


def without_seconds(folder):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in read_metrics(folder / "metrics.jsonl")]


def test_an_interrupted_run_ends_like_an_unbroken_one(home, done):
    """Killed in the second epoch of the search, stopped by Ctrl-C in that of fine-tuning, then left alone."""
    unbroken, folder = done[0], home / "stopped"
    journal, resume = folder / "metrics.jsonl", ["--run", str(folder)]
    killed = in_process(arguments(home, "--out", str(folder)), STOP=f"{signal.SIGKILL:d} search {journal}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(read_metrics(journal)) == 5  # three epochs of training, warm-up, one of the search
    assert not (folder / "arch.json").exists()
    stopped = in_process(resume, STOP=f"{signal.SIGINT:d} finetune {journal}")
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert f"resume with: python scripts/run_search.py {shlex.join(resume)}" in stopped.stderr
    assert len(read_metrics(journal)) == 8
    assert run_search.main(resume) == 0
    assert (folder / "arch.json").read_bytes() == (unbroken / "arch.json").read_bytes()
    for name in ("float", "uniform8", "subnet"):
        got, expected = (load_file(run / f"{name}.safetensors") for run in (folder, unbroken))
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert without_seconds(folder) == without_seconds(unbroken)


@pytest.mark.parametrize(
    ("option", "reference", "error"),
    [
        ("--model", "mynet.py:broken", "AttributeError: 'Sequential' object has no attribute 'no_such_layer'"),
        ("--loss", "myloss.py:raises", "KeyError: 'my own mistake'"),
        ("--metric", "myloss.py:raises", "KeyError: 'my own mistake'"),
    ],
)
def test_user_code_that_raises(home, tmp_path, capsys, option, reference, error):
    words = arguments(home, option, str(home / reference), "--out", str(tmp_path / "run"))
    assert run_search.main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    first = next(line for line in lines if line.startswith("error: "))
    assert str(home / reference) in first
    assert error in first
    trace = lines[lines.index(first) + 1 :]
    assert trace[0] == "Traceback (most recent call last):"
    assert str(home / reference.split(":")[0]) in trace[1]
    assert trace[-1] == error


def test_a_budget_out_of_reach_names_what_is_reachable_before_training(home, tmp_path, capsys):
    words = [*arguments(home), "--budget", "weights=40B", "--out", str(tmp_path / "run"), "--set", "train.epochs=0"]
    assert run_search.main(words) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert "weights <= 40 B: the smallest reachable is" in error
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == []


def test_a_table_that_lacks_a_row(home, tmp_path, capsys):
    lines = (home / "board.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "short.csv"
    path.write_text("".join(line for line in lines if not line.startswith("avg_pool")))
    words = arguments(home, "--table", str(path), "--out", str(tmp_path / "run"), "--set", "train.epochs=0")
    assert run_search.main(words) == 2
    error = capsys.readouterr().err
    assert re.search(rf"{path}: lacks (\d+) of the \d+ operators of the space \(\1 avg_pool\), such as avg_pool", error)
    assert "the nearest rows: conv2d" in error


def test_a_full_disk(done, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(done[0], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run_search.main(["--run", str(folder)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"error: .*/run/[a-z.]+: No space left on device; resume with: python .* --run .*/run", error)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.tvm
def test_this_computer(tmp_path):
    """Profile, search, build, run: digits, one epoch of everything, a small space."""
    sets = {**dict.fromkeys(EPOCHS, 1), "space.weight_bits": [4, 8], "space.act_bits": [8], "space.widths": [0.5, 1.0],
            "deploy.repeats": 3}  # fmt: skip
    words = ["--table", str(tmp_path / "host.csv"), "--out", str(tmp_path / "run"), "--json"]
    words += [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, str(ROOT / "scripts" / "run_search.py"), *words]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200)
    assert finished.returncode in (0, 3), finished.stderr  # 3: this computer was too busy for the measured limit
    validation = json.loads(finished.stdout)
    assert validation["source"] == "host"
    for network in validation["networks"].values():
        assert network["latency_us"]["measured"] > 0
        assert network["exact_images"] == 1000
    assert (
        validation["networks"]["found"]["weights_bytes"]["predicted"]
        <= 0.4 * (validation["networks"]["uniform8"]["weights_bytes"]["predicted"])
    )
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert torch.isfinite(load_subnet(tmp_path / "run" / "subnet.safetensors")(torch.zeros(1, 1, 32, 32))).all()
