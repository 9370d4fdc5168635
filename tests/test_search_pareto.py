"""A sweep on a small run: one warm-up, every point inside its budgets, and no work twice."""

import json
import shutil
from dataclasses import replace

import pytest
import small_run

import search.pareto
from lut.errors import InputError
from lut.lock import alone
from lut.table import LatencyTable
from search.baselines import baselines, widest
from search.budget import Budget, BudgetError
from search.chain import run_chain
from search.config import RunConfig
from search.costs import FIELDS
from search.pareto import parse_point, run_sweep, slug, text
from search.progress import phase_of, read_metrics
from search.report import context
from search.run import Run
from search.teacher import Teacher
from search.trial import RESULTS, digest, read_trials
from supernet.saved import load_subnet

SWEEP = ["weights=60%,macs=90%", "weights=40%,latency=70%"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_run.write(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def looks():
    """Sizes of the batches that the teacher of `finished` looked at."""
    return []


@pytest.fixture(scope="module")
def finished(files, looks):
    """(config, folder, points) of a sweep that ran to its end."""
    config = RunConfig.read(files, [f"sweep={json.dumps(SWEEP)}"])
    folder = files.parent / "sweep"

    def look(teacher, x, whole=Teacher.look):
        looks.append(len(x))
        return whole(teacher, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "look", look)
        return config, folder, run_sweep(config, folder, ["test"])


@pytest.fixture
def copied(finished, tmp_path):
    """The same, in a folder of its own."""
    config, folder, points = finished
    shutil.copytree(folder, tmp_path / "run")
    return config, tmp_path / "run", points


def test_points_and_baselines_are_those_of_the_report(finished):
    _, folder, points = finished
    kinds = [(p["kind"], p["name"]) for p in points]
    assert kinds == [
        ("float", "float32"),
        ("found", SWEEP[0]),
        ("found", SWEEP[1]),
        ("uniform", "uniform 8-bit"),
        ("uniform", "uniform 4-bit"),
        ("uniform", "uniform W4A8"),
        ("uniform", "uniform W2A8"),
        ("width", "8-bit, 0.5 wide"),
        ("width", "4-bit, 0.5 wide"),
        ("width", "W4A8, 0.5 wide"),
    ]
    assert json.loads((folder / "pareto.json").read_text()) == {"points": points}
    assert "<svg" in context(folder)["pareto_plot"]
    assert all(p["name"] in text(points) for p in points)


def test_every_point_is_inside_its_budgets(finished):
    points = {p["name"]: p for p in finished[2]}
    uniform = points["uniform 8-bit"]
    for name in SWEEP:
        for budget in parse_point(name):
            field = FIELDS[budget.metric]
            assert points[name][field] <= budget.limit * uniform[field] * (1 + 1e-9)


def test_the_best_finalist_was_fine_tuned_to_the_end(finished):
    _, folder, _ = finished
    for name in SWEEP:
        tried = read_trials(folder / "points" / slug(name) / RESULTS)
        assert len(tried) > 1 and next(iter(tried.values()))["name"] == "searched"
        best = max(tried, key=lambda key: tried[key]["metric"])  # of equal ones the first
        assert digest(load_subnet(folder / "points" / f"{slug(name)}.safetensors").arch) == best
        assert not list((folder / "points" / slug(name)).glob("trial-*.pt"))
    rows = read_metrics(folder / "metrics.jsonl")
    assert {phase_of(row) for row in rows} >= {"train", "trial"}


def test_costs_of_the_baselines_by_hand(finished):
    points = {p["name"]: p for p in finished[2]}
    macs = 64 * (8 * 9 + 8 * 8 * 9 + 8 * 8 * 9) + 32 * 3
    assert points["uniform 8-bit"]["macs"] == points["float32"]["macs"] == macs
    assert points["8-bit, 0.5 wide"]["macs"] == 64 * (4 * 9 + 4 * 4 * 9 * 2) + 16 * 3
    assert points["uniform 4-bit"]["weights_bytes"] < 0.8 * points["uniform 8-bit"]["weights_bytes"]


def test_the_supernet_is_warmed_up_once_and_every_search_starts_from_it(finished):
    config, folder, _ = finished
    warm = read_metrics(folder / "warmup" / "metrics.jsonl")
    assert [row["phase"] for row in warm] == ["warmup"] * config.search.warmup_epochs
    for name in SWEEP:
        rows = read_metrics(folder / "points" / slug(name) / "metrics.jsonl")
        assert [row["phase"] for row in rows] == ["search"] * config.search.epochs
        assert rows[0]["limits"].keys() == {b.metric for b in parse_point(name)}


def test_the_teacher_looks_at_no_batch_twice(finished, looks):
    config, folder, _ = finished
    assert sum(looks) == Run(config, folder).sources.data.size("train") > 0  # in every epoch they are the same batches


def test_a_baseline_is_trained_for_as_many_epochs_as_a_found_network(finished):
    config, folder, _ = finished
    rows = read_metrics(folder / "metrics.jsonl")
    epochs = {phase: sum(row["phase"] == phase for row in rows) for phase in {row["phase"] for row in rows}}
    fine = config.finetune.epochs
    total = fine + config.search.epochs + config.search.warmup_epochs
    assert epochs[f"finetune points/{slug(SWEEP[0])}"] == fine
    assert epochs[f"finetune points/{slug('8-bit, 0.5 wide')}"] == total == 3


def test_baseline_epochs_are_those_of_the_baselines_alone(copied):
    config, folder, points = copied
    lost = "8-bit, 0.5 wide"
    for suffix in ("json", "safetensors"):
        (folder / "points" / f"{slug(lost)}.{suffix}").unlink()
    for name in ("metrics.jsonl", "config.yaml"):  # a run keeps its settings: this one has others
        (folder / name).unlink()
    tuning = replace(config.finetune, baseline_epochs=config.finetune.epochs + 1)
    assert [p["name"] for p in run_sweep(replace(config, finetune=tuning), folder, ["test"])] == [
        p["name"] for p in points
    ]
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["phase"] for row in rows] == [f"finetune points/{slug(lost)}"] * tuning.baseline_epochs


def test_contenders_are_the_widest_inside_some_budgets(files, finished, tmp_path):
    config, folder, points = finished
    shutil.copytree(folder, tmp_path / "run")
    run = Run(config, tmp_path / "run")
    run.table = LatencyTable.read(config.table)
    model, plain = run.float_model(), baselines(run)
    assert [entry.name for entry in plain] == [p["name"] for p in points if p["kind"] in ("uniform", "width")]
    uniform = next(p for p in points if p["name"] == "uniform 8-bit")["weights_bytes"]

    def names(*shares):
        limits = [[Budget("weights", share * uniform, "B")] for share in shares]
        return [entry.name for entry in widest(run, model, plain, limits)]

    inside = {p["name"]: p["weights_bytes"] / uniform for p in points}
    half8, full4 = inside["8-bit, 0.5 wide"], inside["uniform 4-bit"]
    assert half8 < full4 == inside["uniform W4A8"] < 1
    assert half8 < inside["uniform W2A8"] < full4
    assert names(1.0) == ["uniform 8-bit", "uniform 4-bit", "uniform W4A8", "uniform W2A8"]
    assert names(full4) == ["uniform 4-bit", "uniform W4A8", "uniform W2A8", "8-bit, 0.5 wide"]
    assert names(half8) == ["8-bit, 0.5 wide", "4-bit, 0.5 wide", "W4A8, 0.5 wide"]
    assert names(1.0, half8) == [entry.name for entry in plain]
    assert names(0.01) == []


def test_a_finished_sweep_repeats_nothing(copied, monkeypatch):
    config, folder, points = copied
    for step in ("warm_up", "searched", "tuned_baseline"):
        monkeypatch.setattr(search.pareto, step, lambda *_: pytest.fail("ran again"))
    monkeypatch.setattr(Run, "test_metric", lambda *_: pytest.fail("the test split was read again"))
    (folder / "pareto.json").unlink()
    assert run_sweep(config, folder, ["test"]) == points


def test_another_process_in_the_folder_is_refused(copied):
    config, folder, _ = copied
    before = (folder / "pareto.json").read_bytes()
    for chain in (run_sweep, run_chain):
        with alone(folder), pytest.raises(InputError, match="another process works there"):
            chain(config, folder, ["test"])
    assert (folder / "pareto.json").read_bytes() == before


def test_a_lost_point_alone_is_made_again_and_comes_out_equal(copied, monkeypatch):
    config, folder, points = copied
    name = SWEEP[1]
    (folder / "points" / f"{slug(name)}.json").unlink()
    (folder / "points" / f"{slug(name)}.safetensors").unlink()
    shutil.rmtree(folder / "points" / slug(name))
    made, searched = [], search.pareto.searched
    monkeypatch.setattr(search.pareto, "searched", lambda *args: made.append(args[4]) or searched(*args))
    assert run_sweep(config, folder, ["test"]) == points
    assert made == [name]


def test_an_interrupted_point_continues(copied, monkeypatch):
    config, folder, points = copied
    name = SWEEP[0]
    (folder / "points" / f"{slug(name)}.json").unlink()
    (folder / "points" / f"{slug(name)}.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finetuned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_sweep(config, folder, ["test"])
    assert run_sweep(config, folder, ["test"]) == points


def test_a_damaged_point_is_named(copied):
    config, folder, _ = copied
    path = folder / "points" / f"{slug(SWEEP[0])}.json"
    point = json.loads(path.read_text())
    path.write_text('{"name"')
    with pytest.raises(InputError, match=rf"{path.name}: not JSON.*delete it to run this point again"):
        run_sweep(config, folder, ["test"])
    for body, problem in (
        ("[]", r"the file: \[\] is not an object"),
        ('{"name": "x", "kind": "found"}', "no top1"),
        (json.dumps({**point, "latency_us": "fast"}), 'latency_us: "fast" is not a number'),
        (json.dumps({**point, "weights_bytes": None}), "weights_bytes: null is not a number"),
    ):
        path.write_text(body)
        with pytest.raises(InputError, match=rf"{path.name}: damaged: {problem}; delete it to run this point again"):
            run_sweep(config, folder, ["test"])


def test_a_point_out_of_reach_is_refused_before_any_training(copied, monkeypatch, tmp_path):
    config, folder, _ = copied
    monkeypatch.setattr(Run, "float_model", lambda *_: pytest.fail("trained"))
    config = RunConfig.read(folder / "config.yaml", ['sweep=["weights=60%", "weights=1B"]'])
    with pytest.raises(BudgetError, match="weights <= 1 B: the smallest reachable is"):
        run_sweep(config, tmp_path / "other", ["test"])


def test_points_as_a_person_writes_them():
    assert parse_point("latency=80%, weights=60KiB") == [Budget("latency", 0.8, "%"), Budget("weights", 61440, "B")]
    for wrong in ("", "latency=80%,", "latency=5", "speed=3"):
        with pytest.raises(InputError, match="budget '"):
            parse_point(wrong)
    names = ["latency=80%,weights=60%", "latency=80%,weights=6%", "latency=80us", "latency=0.8us", "latency=8us"]
    assert len(set(map(slug, names))) == len(names)
    assert slug(names[0]) == "latency-80pct_weights-60pct"
