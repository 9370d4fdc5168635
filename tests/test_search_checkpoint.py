"""Checkpoints and the journal: exact state, refused mismatches, damage named, nothing lost by a kill in a write."""

import json
import random

import numpy as np
import pytest
import torch

from lut.errors import InputError
from search.checkpoint import Checkpoint, restore_rng, rng_state, to_cpu
from search.progress import Metrics, Progress, read_metrics


def draws():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random(), torch.randn(1).item()


def test_generators_are_restored_to_the_bit():
    random.gauss(0, 1)  # leaves a cached second value, part of the state
    np.random.normal()
    state = rng_state()
    first = draws()
    restore_rng(state)
    assert draws() == first


def test_state_and_generators_survive_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "last.pt", "search", {"lr": 0.1})
    assert checkpoint.load() is None
    checkpoint.save({"epoch": 3, "w": torch.arange(4.0), "history": [{"a": None}]})
    first = draws()
    state = checkpoint.load()
    assert state["epoch"] == 3
    assert torch.equal(state["w"], torch.arange(4.0))
    assert state["history"] == [{"a": None}]
    assert draws() == first


@pytest.mark.parametrize(
    ("phase", "settings", "message"),
    [
        ("train", {"lr": 0.1}, "last.pt: phase: it holds 'search', not 'train'"),
        ("search", {"lr": 0.2}, r"last.pt: search.lr: it was made with 0.1, this run has 0.2; resume with 0.1"),
    ],
)
def test_another_run_is_refused(tmp_path, phase, settings, message):
    Checkpoint(tmp_path / "last.pt", "search", {"lr": 0.1}).save({})
    with pytest.raises(InputError, match=message):
        Checkpoint(tmp_path / "last.pt", phase, settings).load()


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "other"])
def test_damage_is_named(tmp_path, damage):
    path = tmp_path / "last.pt"
    checkpoint = Checkpoint(path, "search", {})
    checkpoint.save({"w": torch.zeros(1000)})
    if damage == "other":
        torch.save([1, 2], path)
    else:
        raw = path.read_bytes()
        path.write_bytes({"truncate": raw[: len(raw) // 2], "garbage": b"no archive", "empty": b""}[damage])
    with pytest.raises(InputError, match=r"last\.pt: .*delete it to start this phase anew"):
        checkpoint.load()


@pytest.mark.parametrize("part", ["phase", "settings", "rng", "state"])
@pytest.mark.parametrize("kind", ["missing", "wrong"])
def test_a_missing_part_is_named(tmp_path, part, kind):
    checkpoint = Checkpoint(tmp_path / "last.pt", "search", {})
    checkpoint.save({})
    body = torch.load(tmp_path / "last.pt", weights_only=True)
    body[part] = 3
    if kind == "missing":
        del body[part]
    torch.save(body, tmp_path / "last.pt")
    with pytest.raises(InputError, match=rf"last\.pt: damaged checkpoint: no {part}; delete it"):
        checkpoint.load()


def test_damaged_generators_are_named(tmp_path):
    checkpoint = Checkpoint(tmp_path / "last.pt", "search", {})
    checkpoint.save({})
    body = torch.load(tmp_path / "last.pt", weights_only=True)
    for rng in ({}, {**body["rng"], "torch": torch.zeros(3)}, {**body["rng"], "numpy": ("MT19937",)}):
        torch.save({**body, "rng": rng}, tmp_path / "last.pt")
        with pytest.raises(InputError, match=r"last\.pt: search: its state does not fit"):
            checkpoint.load()


def test_settings_that_earlier_versions_lack_are_compared_where_both_have_them(tmp_path):
    path = tmp_path / "last.pt"
    Checkpoint(path, "search", {"lr": 0.1}).save({})
    assert Checkpoint(path, "search", {"lr": 0.1, "space": "a"}, added=("space",)).load() == {}
    with pytest.raises(InputError, match=r"search\.space: it was made with None, this run has 'a'"):
        Checkpoint(path, "search", {"lr": 0.1, "space": "a"}).load()
    Checkpoint(path, "search", {"lr": 0.1, "space": "b"}).save({})
    with pytest.raises(InputError, match=r"search\.space: it was made with 'b', this run has 'a'"):
        Checkpoint(path, "search", {"lr": 0.1, "space": "a"}, added=("space",)).load()


def test_a_checkpoint_with_code_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"schema": 1, "phase": "search", "settings": {}, "state": Code()}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="damaged checkpoint"):
        Checkpoint(tmp_path / "last.pt", "search", {}).load()


def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "last.pt", "search", {})
    checkpoint.save({"epoch": 1})

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({"epoch": 2})
    assert checkpoint.load() == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_to_cpu_copies():
    weight = torch.zeros(2)
    copy = to_cpu({"w": weight})
    weight += 1
    assert copy["w"].tolist() == [0, 0]


def test_rewind_drops_what_will_be_written_again_and_a_cut_line(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    metrics = Metrics(path)
    for phase, epoch in (("train", 0), ("train", 1), ("search", 0), ("search", 1)):
        metrics.append({"phase": phase, "epoch": epoch})
    with path.open("a") as file:
        file.write('{"phase": "sea')
    again = Metrics(path)
    again.rewind(("search",), 1)
    assert read_metrics(path) == again.rows == [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["phase"], r["epoch"]) for r in again.rows] == [("train", 0), ("train", 1), ("search", 0)]


def test_lines_that_are_no_rows_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    row = {"phase": "train", "epoch": 0}
    path.write_bytes(
        b"\n".join([b"3", b"[]", b"null", bytes(range(128, 256)), json.dumps(row).encode(), b"[" * 100_000])
    )
    metrics = Metrics(path)
    metrics.rewind(("search",), 0)
    assert metrics.rows == read_metrics(path) == [row]
    assert path.read_text() == json.dumps(row) + "\n"


def test_metrics_without_a_file(tmp_path):
    metrics = Metrics()
    metrics.append({"phase": "train", "epoch": 0})
    metrics.rewind(("train",), 0)
    assert metrics.rows == []
    assert read_metrics(tmp_path / "none.jsonl") == []


class Stream:
    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        return None


def test_off_a_terminal_a_line_every_ten_seconds():
    stream, now = Stream(terminal=False), [0.0]
    with Progress("search", 40, stream, clock=lambda: now[0]) as progress:
        for _ in range(20):
            now[0] += 1.5
            progress.step(loss=2.0)
    lines = stream.text.splitlines()
    assert len(lines) == 2
    assert lines[0] == "search: 7/40 (18%), 50 s left loss=2"


def test_on_a_terminal_a_bar():
    stream = Stream(terminal=True)
    with Progress("search", 4, stream) as progress:
        for _ in range(4):
            progress.step(loss=1.0)
    assert "search" in stream.text
    assert "\r" in stream.text
