"""A measured latency above its limit: the limit is tightened by the observed ratio and solved again, within bounds."""

import json

import pytest
import small_run

import search.chain
from search.budget import Budget
from search.chain import run_chain
from search.config import RunConfig
from search.deployment import Predicted, broken, tighten
from supernet import Arch

LIMIT = 0.8


class Slower(Predicted):
    """A device on which every network takes longer than its table says, by one factor: the one that makes the first
    found network take `over` times the limit; the table's own time for `over` None."""

    over = None
    factor = None
    asked: list[dict]

    def validate(self, programs):
        result = super().validate(programs)
        us = {name: network["latency_us"]["predicted"] for name, network in result["networks"].items()}
        if type(self).factor is None:
            type(self).factor = 1.0 if self.over is None else self.over * LIMIT * us["uniform8"] / us["found"]
        for network in result["networks"].values():
            network["latency_us"]["measured"] = self.factor * network["latency_us"]["predicted"]
        self.asked.append({name: row["latency_us"]["measured"] for name, row in result["networks"].items()})
        return result


@pytest.fixture
def chain(tmp_path, monkeypatch, capsys):
    """Run a small chain on such a device; (validation, asked, messages)."""

    def run(over, *settings):
        device = type("Device", (Slower,), {"over": over, "asked": []})
        monkeypatch.setattr(
            search.chain, "deployment", lambda _, table, folder, sources, config: device(table, sources, "host")
        )
        files = small_run.write(tmp_path)
        settings = ("search.method=sensitivity", "finetune.epochs=0", f'budgets=["latency={LIMIT:.0%}"]', *settings)
        folder = tmp_path / "run"
        validation = run_chain(RunConfig.read(files, settings), folder, ["test"])
        assert json.loads((folder / "validation.json").read_text()) == validation
        assert (folder / "report.html").exists()
        return validation, device.asked, capsys.readouterr().err

    return run


def test_a_limit_is_tightened_by_measured_over_predicted():
    limits = [Budget("latency", 100.0, "us"), Budget("weights", 10.0, "B")]
    measured = {"networks": {"found": {"latency_us": {"measured": 125.0, "predicted": 90.0}}}}
    assert broken(measured, limits) == {"latency": 1.25}
    arch = Arch({}, predicted={"latency": 90.0, "weights": 5.0})
    tighter = tighten(limits, limits, measured, arch)
    assert tighter == [Budget("latency", 100.0 * 90.0 / 125.0, "us"), limits[1]]
    assert tighten(limits, [Budget("latency", 60.0, "us"), limits[1]], measured, arch)[0].limit == 60.0
    measured["networks"]["found"]["latency_us"]["measured"] = 100.0
    assert broken(measured, limits) == {}


def test_a_true_table_is_solved_once(chain):
    validation, asked, _ = chain(None)
    assert len(asked) == 1
    assert validation["budgets"][0]["met"]


def test_a_slower_device_gets_a_smaller_network_until_it_fits(chain):
    validation, asked, messages = chain(1.1)
    (row,) = validation["budgets"]
    assert len(asked) == 2, "one factor for all networks is known after one measurement"
    assert asked[0]["found"] > row["limit"] >= asked[-1]["found"] == row["measured"]
    assert row["met"]
    assert asked[0]["found"] == pytest.approx(1.1 * row["limit"]), "the limit itself stays what was asked"
    assert messages.count("solving again") == len(asked) - 1


def test_tightening_ends_after_as_many_times_as_the_settings_say(chain):
    validation, asked, _ = chain(1.1, "deploy.tighten=0")
    assert len(asked) == 1
    assert not validation["budgets"][0]["met"]


def test_a_device_that_nothing_fits_keeps_its_last_network_and_its_report(chain):
    validation, asked, messages = chain(50.0)
    (row,) = validation["budgets"]
    assert not row["met"]
    assert row["measured"] == asked[-1]["found"]
    assert "the smallest reachable is" in messages
    assert "the last network is kept" in messages
