"""A sweep's points as networks to measure: scripts/bench_predict.py --points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lut.errors import InputError
from scripts.bench_predict import Point, from_points, main, networks, read_points, space_of
from supernet import Supernet


@pytest.fixture(scope="module")
def net() -> Supernet:
    return networks("resnet8", 0)[0]


def write(folder: Path, name: str, kind: str, choices: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}.json"
    path.write_text(json.dumps({"name": name, "kind": kind, "choices": choices}))
    return path


def points_of(*paths: Path) -> list[Point]:
    return [point for path in paths for point in read_points(path)]


def test_points_of_several_seeds_are_the_networks_of_their_choices_each_once(net: Supernet, tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "seed0/points", "float32", "float", {}),
        write(tmp_path / "seed0/points", "half", "found", net.uniform(4, 8, 0.5).choices),
        write(tmp_path / "seed0/points", "uniform 8-bit", "uniform", net.uniform(8, 8).choices),
        write(tmp_path / "seed1/points", "half", "found", net.uniform(4, 8, 0.75).choices),
        write(tmp_path / "seed1/points", "uniform 8-bit", "uniform", net.uniform(8, 8).choices),
    ]
    programs = from_points(points_of(*paths), net)
    assert list(programs) == ["half", "uniform 8-bit", "half, seed1"]
    widest = {name: max(op.spec.c_out for op in program.ops) for name, program in programs.items()}
    assert widest == {"half": 32, "uniform 8-bit": 64, "half, seed1": 48}


def test_bits_that_the_default_space_lacks_are_those_of_the_points(net: Supernet, tmp_path: Path) -> None:
    choices = net.uniform(2, 8).choices | {"block1.conv1.act_bits": 2, "block2.conv1.weight_bits": 3}
    points = points_of(
        write(tmp_path, "odd", "found", choices), write(tmp_path, "plain", "uniform", net.uniform(8, 8).choices)
    )
    space = space_of(points)
    assert (space.weight_bits, space.act_bits) == ((2, 3, 4, 8), (2, 4, 8))
    specs = [op.spec for op in from_points(points, networks("resnet8", 0, space)[0])["odd"].ops]
    assert {spec.w_bits for spec in specs} >= {2, 3, 8} and any(2 in spec.in_bits for spec in specs)
    with pytest.raises(InputError, match=r"space\.weight_bits: \[2, 3, 4, 8, 9\]"):
        space_of(points_of(write(tmp_path, "nine", "found", choices | {"fc.weight_bits": 9})))
    with pytest.raises(InputError, match="no points of a sweep: TypeError"):
        read_points(write(tmp_path, "half", "found", choices | {"fc.weight_bits": 2.5}))


@pytest.mark.parametrize("name", ["pareto.json", "finished.json"])
def test_a_sweep_in_one_file_is_all_of_its_points(net: Supernet, tmp_path: Path, name: str) -> None:
    paths = []
    for seed, width in enumerate((0.25, 0.5, 0.75)):
        found = {"name": "half", "kind": "found", "choices": net.uniform(4, 8, width).choices}
        float32 = {"name": "float32", "kind": "float", "choices": {}}
        paths.append(tmp_path / f"seed{seed}" / name)
        paths[-1].parent.mkdir()
        paths[-1].write_text(json.dumps({"points": [float32, found]}))
    assert list(from_points(points_of(*paths), net)) == ["half", "half, seed1", "half, seed2"]
    paths[1].write_text(json.dumps({"points": [1]}))
    with pytest.raises(InputError, match=rf"seed1/{name}: no points of a sweep: TypeError"):
        from_points(points_of(*paths), net)


def test_a_file_that_is_no_point_or_of_another_network_is_named(net: Supernet, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match=r"list\.json: no points of a sweep"):
        read_points(tmp_path / "list.json")
    with pytest.raises(InputError, match=r"none\.json: no points of a sweep: FileNotFoundError"):
        read_points(tmp_path / "none.json")
    choices = {**net.uniform(8, 8).choices, "more.width": 16}
    with pytest.raises(InputError, match=r"other\.json: of another network: more\.width"):
        from_points(points_of(write(tmp_path, "other", "found", choices)), net)
    short = dict(list(net.uniform(8, 8).choices.items())[1:])
    with pytest.raises(InputError, match="of another network"):
        from_points(points_of(write(tmp_path, "short", "found", short)), net)


def test_points_want_one_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--networks", "resnet8", "resnet20", "--points", str(tmp_path / "a.json")]) == 2
    assert "of which network? give one: --networks resnet8" in capsys.readouterr().err
