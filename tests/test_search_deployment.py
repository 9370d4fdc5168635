"""A measured latency above its limit: the limit is tightened by the observed ratio and solved again, within bounds."""

import json

import pytest
import small_run

import search.run
from search.budget import Budget
from search.config import RunConfig
from search.deployment import Predicted, broken, tighten
from search.run import run_chain


class Slower(Predicted):
    """A device on which every network takes `factor` times what its table says."""

    factor = 1.0
    asked: list[dict]

    def validate(self, programs):
        result = super().validate(programs)
        for network in result["networks"].values():
            network["latency_us"]["measured"] = self.factor * network["latency_us"]["predicted"]
        self.asked.append({name: row["latency_us"]["measured"] for name, row in result["networks"].items()})
        return result


@pytest.fixture
def chain(tmp_path, monkeypatch, capsys):
    """Run a small chain on a device that is `factor` times slower than its table; (validation, asked, messages)."""

    def run(factor, *settings):
        device = type("Device", (Slower,), {"factor": factor, "asked": []})
        monkeypatch.setattr(
            search.run, "deployment", lambda _, table, folder, sources, config: device(table, sources, "host")
        )
        files = small_run.write(tmp_path)
        settings = ("search.method=sensitivity", "finetune.epochs=0", *settings)
        folder = tmp_path / "run"
        validation = run_chain(RunConfig.read(files, settings), folder, ["test"])
        assert json.loads((folder / "validation.json").read_text()) == validation
        assert (folder / "report.html").exists()
        return validation, device.asked, capsys.readouterr().err

    return run


def test_a_ratio_is_held_against_the_limit_asked_for():
    limits = [Budget("latency", 100.0, "us"), Budget("weights", 10.0, "B")]
    measured = {"networks": {"found": {"latency_us": {"measured": 125.0, "predicted": 90.0}}}}
    assert broken(measured, limits) == {"latency": 1.25}
    assert tighten(limits, {"latency": 1.25}) == [Budget("latency", 80.0, "us"), limits[1]]
    measured["networks"]["found"]["latency_us"]["measured"] = 100.0
    assert broken(measured, limits) == {}


def test_a_true_table_is_solved_once(chain):
    validation, asked, _ = chain(1.0, 'budgets=["latency=80%"]')
    assert len(asked) == 1
    assert validation["budgets"][0]["met"]


def test_a_slower_device_gets_a_smaller_network_until_it_fits(chain):
    validation, asked, messages = chain(1.15, 'budgets=["latency=80%"]')
    (row,) = validation["budgets"]
    assert 2 <= len(asked) <= 4
    assert asked[0]["found"] > row["limit"] >= asked[-1]["found"] == row["measured"]
    assert row["met"]
    assert row["limit"] == pytest.approx(0.8 * asked[0]["uniform8"] / 1.15), "the limit itself stays what was asked"
    assert messages.count("solving again") == len(asked) - 1


def test_tightening_ends_after_as_many_times_as_the_settings_say(chain):
    validation, asked, _ = chain(1.15, 'budgets=["latency=80%"]', "deploy.tighten=0")
    assert len(asked) == 1
    assert not validation["budgets"][0]["met"]


def test_a_device_that_nothing_fits_keeps_its_last_network_and_its_report(chain):
    validation, asked, messages = chain(50.0, 'budgets=["latency=80%"]')
    (row,) = validation["budgets"]
    assert not row["met"]
    assert row["measured"] == asked[-1]["found"]
    assert "the smallest reachable is" in messages
    assert "the last network is kept" in messages
