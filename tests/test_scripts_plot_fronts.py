"""Tables and figures of fronts, from sweeps written here with known accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lut.strict import dump
from scripts import plot_fronts
from scripts.bench_search import CONFIG
from search.config import RunConfig

BUDGETS = ("latency=80%", "weights=50%")
LIMITS = {"latency=80%": {"latency_us": 80.0}, "weights=50%": {"weights_bytes": 2048.0}}


def write_sweep(folder: Path, seed: int, found: float, plain: float, *settings: str) -> None:
    config = RunConfig.read(CONFIG, ["data.name=digits", "sweep=[latency=80%,weights=50%]", *settings])
    costs = {"latency_us": 80, "weights_bytes": 3e3}, {"latency_us": 99, "weights_bytes": 2e3}
    points = [
        {"name": text, "kind": "found", "top1": found, "validation": found, **cost, "limits": LIMITS[text]}
        for text, cost in zip(BUDGETS, costs)
    ]
    for name, cost, score in (("uniform 8-bit", 100.0, 0.9), ("8-bit, 0.5 wide", 50.0, plain)):
        kind = "uniform" if name.startswith("uniform") else "width"
        costs = {"latency_us": cost, "weights_bytes": 40 * cost}
        points.append({"name": name, "kind": kind, "top1": score, "validation": score, **costs})
    (folder / f"seed{seed}").mkdir(parents=True)
    kept = {"points": points, "settings": dump(config), "environment": {}}
    (folder / f"seed{seed}" / plot_fronts.FINISHED).write_text(json.dumps(kept))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    for seed, (found, plain) in enumerate([(0.80, 0.70), (0.82, 0.74), (0.84, 0.72)]):
        write_sweep(tmp_path / "all", seed, found, plain)
    write_sweep(tmp_path / "bits", 0, 0.75, 0.70, "space.widths=[1.0]")
    return tmp_path / "all", tmp_path / "bits"


def test_means_standard_errors_and_series_are_those_of_the_seeds(runs: tuple[Path, Path]) -> None:
    seeds = [sweep for folder in runs for sweep in plot_fronts.sweeps(folder)]
    found = plot_fronts.dots(seeds, "latency")
    error = 0.02 / 3**0.5 * 100  # of .80, .82, .84, whose standard deviation is .02
    assert found["found"] == [(80.0, pytest.approx(82.0), pytest.approx(error))]  # the network by weights is not here
    assert found["bits alone"] == [(80.0, 75.0, 0.0)]
    assert found["8-bit"] == [(100.0, pytest.approx(90.0), 0.0), (50.0, pytest.approx(72.0), pytest.approx(error))], (
        "once, not again from bits alone"
    )
    assert plot_fronts.dots(seeds[3:], "latency")["8-bit"] == [(100.0, 90.0, 0.0), (50.0, 70.0, 0.0)]
    assert [cost for cost, *_ in plot_fronts.dots(seeds, "weights")["found"]] == [2000.0]


def test_a_row_has_the_best_plain_network_inside_and_the_paired_gain(runs: tuple[Path, Path]) -> None:
    seeds = [sweep for folder in runs for sweep in plot_fronts.sweeps(folder)]
    _, row = plot_fronts.found_rows(seeds, "latency")
    gain = "10.00 (1.15)"  # .10, .08, .12
    score, plain = "82.00 (1.15)", "72.00 (1.15)"
    assert row == ("latency=80%", "80.0 µs", "80.0", "2.9", score, plain, "8-bit, 0.5 wide", gain, "3 of 3")
    _, row = plot_fronts.found_rows(seeds, "weights")
    assert row[:4] == ("weights=50%", "2.0 KiB", "99.0", "2.0")


def test_bits_alone_stand_beside_the_whole_space_and_plain_networks_by_themselves(runs: tuple[Path, Path]) -> None:
    seeds = [sweep for folder in runs for sweep in plot_fronts.sweeps(folder)]
    head, *rows = plot_fronts.bits_rows(seeds)
    assert head == ("budget", "limit", "latency, µs", "weights, KiB", "bits alone %", "found %", "inside")
    assert rows[0] == ("latency=80%", "80.0 µs", "80.0", "2.9", "75.00", "82.00 (1.15)", "1 of 1")
    assert plot_fronts.bits_rows(seeds[:3])[1:] == [] == plot_fronts.found_rows(seeds[3:], "latency")[1:]
    assert plot_fronts.plain_rows(seeds[3:])[2] == ("8-bit, 0.5 wide", "50.0", "2.0", "70.00")
    _, uniform, narrow = plot_fronts.plain_rows(seeds)
    assert uniform == ("uniform 8-bit", "100.0", "3.9", "90.00 (0.00)")
    assert narrow == ("8-bit, 0.5 wide", "50.0", "2.0", "72.00 (1.15)"), "of the whole space's three seeds alone"


def test_costs_have_their_range_over_the_seeds() -> None:
    assert plot_fronts.span([3.14, 2.71]) == "2.7 to 3.1"
    assert plot_fronts.span([2.71, 2.72]) == "2.7"
    assert plot_fronts.span([]) == "-"


def test_the_command_prints_each_cost_and_draws_it(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = runs[0].parent / "fronts.svg"
    assert plot_fronts.main([*map(str, runs), "--out", str(out)]) == 0
    printed, drawn = capsys.readouterr().out, out.read_text()
    assert "resnet8, digits, host-cpu" in printed and "latency=80%" in printed and "weights=50%" in printed
    assert all(text in drawn for text in ("bits alone", "8-bit", "packed weights, KiB", "latency, µs"))


def test_tables_as_markdown(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert plot_fronts.main([*map(str, runs), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("| plain network | latency, µs | weights, KiB | top-1 % |")
    assert lines[place + 1 : place + 3] == ["|---|---|---|---|", "| uniform 8-bit | 100.0 | 3.9 | 90.00 (0.00) |"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"points": [], "settings": "a: ["}', '{"points": [], "settings": 3}', '{"settings": ""}']
)
def test_what_is_no_finished_sweep_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert plot_fronts.main([str(tmp_path)]) == 2 and "bench_search.py --out writes them" in capsys.readouterr().err
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / plot_fronts.FINISHED).write_text(text)
    assert plot_fronts.main([str(tmp_path)]) == 2 and "seed0" in capsys.readouterr().err
