"""Found networks against rivals: who is compared, who is given up, and a small bench from beginning to end."""

import json
import shutil

import pytest
import small_run
from mcu_toys import needs_toolchain

from scripts import bench_search
from search.config import RunConfig
from search.pareto import parse_point

LOOSE, TIGHT = "latency=90%", "latency=40%"


def point(name, kind, latency, validation, top1=0.5, **more):
    return {"name": name, "kind": kind, "latency_us": latency, "validation": validation, "top1": top1, **more}


POINTS = [
    point("float32", "float", 300.0, 0.99),
    point(LOOSE, "found", 80.0, 0.9, 0.91, limits={"latency_us": 90.0}),
    point(TIGHT, "found", 41.0, 0.8, 0.81, limits={"latency_us": 40.0}),
    point("uniform 8-bit", "uniform", 100.0, 0.99, 0.99),
    point("uniform 4-bit", "uniform", 90.0, 0.9, 0.89),
    point("uniform 2-bit", "uniform", 85.0, 0.881, 0.95),
    point("8-bit, 0.5 wide", "width", 40.0, 0.7, 0.6),
    point("4-bit, 0.5 wide", "width", 39.0, 0.7, 0.7),
    point("8-bit, 0.25 wide", "width", 20.0, 0.67, 0.66),
]


def test_the_rival_is_the_best_on_validation_inside_the_budgets():
    assert bench_search.compare(POINTS, LOOSE) == {
        "found": 0.91, "inside": True, "rival": 0.89, "rival_name": "uniform 4-bit",
    }  # fmt: skip
    tight = bench_search.compare(POINTS, TIGHT)
    assert tight["rival_name"] == "4-bit, 0.5 wide"  # of equal ones the better on test
    assert not tight["inside"]
    assert bench_search.compare(POINTS[:4], TIGHT)["rival"] is None


def test_rivals_far_behind_in_every_budget_are_given_up():
    assert bench_search.hopeless(POINTS, [LOOSE, TIGHT]) == {"uniform 8-bit", "8-bit, 0.25 wide"}
    assert bench_search.hopeless(POINTS, [LOOSE]) >= {"8-bit, 0.5 wide", "4-bit, 0.5 wide"}


def test_gains_are_paired_by_seed():
    rows = [{"found": 0.9, "rival": 0.89}, {"found": 0.8, "rival": 0.76}, {"found": 0.7, "rival": None}]
    result = bench_search.summarise(rows)
    assert result == pytest.approx({"found": 85.0, "rival": 82.5, "gain": 2.5, "standard_error": 1.5})
    assert bench_search.summarise(rows[2:]) == {}


@needs_toolchain
def test_budgets_on_a_microcontroller_are_memories(tmp_path):
    """Of the uniform 4-bit network, and of its 0.5 wide version, as shares of the 8-bit one's."""
    settings = small_run.write(tmp_path)
    ours = [f"table={tmp_path}/m4.csv", "device=cortex-m4", "space.weight_bits=[4,8]"]
    budgets = bench_search.tight_budgets(RunConfig.read(settings, ours), tmp_path / "bench")
    shares = [{b.metric: b.limit for b in parse_point(text)} for text in budgets]
    assert [set(share) for share in shares] == [{"ram", "flash"}] * 2
    assert 1 > shares[0]["ram"] > shares[1]["ram"] and 1 > shares[0]["flash"] > shares[1]["flash"]


def test_a_bench_of_two_seeds(tmp_path, capsys, monkeypatch):
    settings = small_run.write(tmp_path)
    argv = ["--config", str(settings), "--out", str(tmp_path / "bench")]
    argv += [word for name in ("finetune", "train") for word in ("--set", f"{name}.epochs=0")]
    assert bench_search.main([*argv, "--seeds", "1", "--first", "0"]) == 2
    assert "--seeds 0 has to finish" in capsys.readouterr().err
    budgets = json.loads((tmp_path / "bench" / "budgets.json").read_text())
    assert len(budgets) == 2  # 0.75 of eight channels are all of them
    assert all(b.startswith("latency=") and ",weights=" in b for b in budgets)
    for damaged in ("", "{}", "[]", "[3]"):
        (tmp_path / "bench" / "budgets.json").write_text(damaged)
        assert bench_search.main(argv) == 2 and "budgets.json: no list of budgets" in capsys.readouterr().err
    (tmp_path / "bench" / "budgets.json").write_text(json.dumps(budgets))

    asked = []
    monkeypatch.setattr(bench_search, "hopeless", lambda points, texts: asked.append(texts) or {"4-bit, 0.5 wide"})
    assert bench_search.main([*argv, "--seeds", "0", "1", "--without", "W4A8, 0.5 wide"]) == 0
    printed = capsys.readouterr().out
    names = []
    for seed in (0, 1):
        points = json.loads((tmp_path / "bench" / f"seed{seed}" / bench_search.FINISHED).read_text())["points"]
        assert [p["name"] for p in points if p["kind"] == "found"] == budgets
        assert all(bench_search.compare(points, text)["inside"] for text in budgets)
        names.append({p["name"] for p in points if p["kind"] in bench_search.RIVALS})
    assert not any("W4A8, 0.5 wide" in found for found in names)
    assert names[0] - names[1] == {"4-bit, 0.5 wide"} and asked[0] == tuple(budgets)
    assert all(text in printed for text in budgets)

    for path in (tmp_path / "bench").glob("seed*/*"):
        if path.name != bench_search.FINISHED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setattr(bench_search, "run_sweep", lambda *_, **__: pytest.fail("ran again"))
    assert bench_search.main([*argv, "--seeds", "0", "1", "--json"]) == 0  # from what is finished
    assert list(json.loads(capsys.readouterr().out)["budgets"]) == budgets
    assert bench_search.main([*argv, "--budget", "top1=3"]) == 2
    assert bench_search.main([*argv, "--seeds", "0", "--set", "search.lr=0.01"]) == 2
    assert "a seed with other settings" in capsys.readouterr().err


def test_every_rival_is_trained_for_every_seed_where_it_is_asked(tmp_path):
    argv = ["--config", str(small_run.write(tmp_path)), "--out", str(tmp_path / "bench"), "--every-rival"]
    argv += [word for name in ("finetune", "train") for word in ("--set", f"{name}.epochs=0")]
    argv += ["--budget", "weights=60%", "--without", "uniform 4-bit"]  # 8 bits fit no budget
    assert bench_search.main([*argv, "--seeds", "1", "--first", "0"]) == 0
    points = json.loads((tmp_path / "bench" / "seed1" / bench_search.FINISHED).read_text())["points"]
    rivals = {p["name"] for p in points if p["kind"] in bench_search.RIVALS}
    assert {"uniform 8-bit", "uniform W4A8"} < rivals and "uniform 4-bit" not in rivals
