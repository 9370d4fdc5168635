"""Trials: what fine-tuning by hand gives, nothing tried twice, interrupted ones continued, damaged results refused."""

import json
from functools import partial

import pytest
import torch
from test_search_finalists import supernet
from test_search_quick import blobs

from lut.errors import InputError
from search import trial as trials
from search.config import FinetuneConfig
from search.evaluate import evaluate
from search.finetune import finetune
from search.progress import Metrics, phase_of
from search.trial import RESULTS, digest, read_trials
from supernet.extract import extract

CONFIG = FinetuneConfig(epochs=9, batch_size=20, lr=0.01, compile="off")


def make_trial(data, epochs, seed=0, folder=None, **options):
    tune = partial(finetune, loaders=data, seed=seed, **options)
    return trials.make_trial(tune, data, epochs, seed=seed, folder=folder)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return supernet()


@pytest.fixture(scope="module")
def data():
    return blobs()


def subnet(net, bits=4):
    return extract(net, net.uniform(bits, 8))


def test_a_trial_is_fine_tuning_for_its_epochs(net, data):
    expected = subnet(net)
    torch.manual_seed(3)
    finetune(expected, data, epochs=2, config=CONFIG, seed=3, augment=False)
    tried, metrics = subnet(net), Metrics()
    reached = make_trial(data, 2, config=CONFIG, seed=3, augment=False, metrics=metrics)("W4A8", tried)
    assert reached == evaluate(expected, data, "validation")
    assert all(torch.equal(a, b) for a, b in zip(tried.state_dict().values(), expected.state_dict().values()))
    assert [(row["phase"].split()[:2], row["epoch"]) for row in metrics.rows] == [
        (["trial", "W4A8"], i) for i in (0, 1)
    ]
    assert {phase_of(row) for row in metrics.rows} == {"trial"}


def test_no_epochs_no_trial(data):
    assert make_trial(data, 0) is None


def test_nothing_is_tried_twice(net, data, tmp_path):
    trial = make_trial(data, 1, config=CONFIG, folder=tmp_path / "run")
    first, other = trial("a", subnet(net)), trial("b", subnet(net, 8))
    again, metrics = subnet(net), Metrics()
    before = {name: tensor.clone() for name, tensor in again.state_dict().items()}
    assert make_trial(data, 1, config=CONFIG, folder=tmp_path / "run", metrics=metrics)("a", again) == first
    assert not metrics.rows and all(torch.equal(before[name], t) for name, t in again.state_dict().items())
    kept = read_trials(tmp_path / "run" / RESULTS)
    assert [(row["name"], row["metric"]) for row in kept.values()] == [("a", first), ("b", other)]
    assert list(kept) == [digest(net.uniform(4, 8)), digest(net.uniform(8, 8))]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [RESULTS]  # no checkpoint is left


def test_an_interrupted_trial_continues(net, data, tmp_path):
    expected = make_trial(data, 3, config=CONFIG, folder=tmp_path / "whole")("a", subnet(net))

    class Killed(Exception):
        pass

    class Dying(Metrics):
        def append(self, row):
            super().append(row)
            if row["epoch"] == 1:
                raise Killed

    with pytest.raises(Killed):
        make_trial(data, 3, config=CONFIG, folder=tmp_path / "part", metrics=Dying())("a", subnet(net))
    (checkpoint,) = (tmp_path / "part").iterdir()
    assert checkpoint.name == f"trial-{digest(net.uniform(4, 8))}.pt"
    metrics = Metrics()
    assert make_trial(data, 3, config=CONFIG, folder=tmp_path / "part", metrics=metrics)("a", subnet(net)) == expected
    assert [row["epoch"] for row in metrics.rows] in ([1, 2], [2])


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1}', '{"a": {"name": "x"}}', '{"a": {"name": "x", "metric": "?"}}']
)
def test_damaged_results(net, data, tmp_path, text):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(InputError, match=r"trials\.json: damaged: .*delete it"):
        make_trial(data, 1, config=CONFIG, folder=tmp_path)("a", subnet(net))


def test_the_digest_changes_with_any_choice_and_not_with_their_order(net):
    arch = net.uniform(4, 8)
    shuffled = type(arch)(dict(reversed(list(arch.choices.items()))), predicted={"weights": 1.0})
    assert digest(shuffled) == digest(arch)
    others = {digest(type(arch)({**arch.choices, name: 99})) for name in arch.choices}
    assert len(others) == len(arch.choices) and digest(arch) not in others


def test_results_are_plain_json(net, data, tmp_path):
    make_trial(data, 1, config=CONFIG, folder=tmp_path)("a", subnet(net))
    (row,) = json.loads((tmp_path / RESULTS).read_text()).values()
    assert row.keys() == {"name", "metric", "epochs", "seed", "predicted"}


@pytest.mark.parametrize("changed", [{"epochs": 2}, {"seed": 1}])
def test_results_of_other_settings_are_not_taken(net, data, tmp_path, changed):
    settings = {"epochs": 1, "seed": 0}
    for name, bits in (("a", 4), ("b", 8)):
        make_trial(data, config=CONFIG, folder=tmp_path, **settings)(name, subnet(net, bits))
    expected = make_trial(data, config=CONFIG, **settings | changed)("a", subnet(net))
    assert make_trial(data, config=CONFIG, folder=tmp_path, **settings | changed)("a", subnet(net)) == expected
    (row,) = read_trials(tmp_path / RESULTS).values()  # without b, which was not tried in this way
    assert row["metric"] == expected and settings | changed == {key: row[key] for key in settings}


def test_results_without_settings_are_of_any(net, data, tmp_path):
    key = digest(net.uniform(4, 8))
    (tmp_path / RESULTS).write_text(json.dumps({key: {"name": "a", "metric": 0.125, "predicted": {}}}))
    assert make_trial(data, 1, config=CONFIG, folder=tmp_path)("a", subnet(net)) == 0.125
