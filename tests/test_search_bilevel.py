"""The search loop: which parameters each step moves, what it finds with and without a budget, resume to the bit."""

import copy
import dataclasses
import itertools
import json
import math
from functools import partial

import pytest
import torch
from search_toys import Blobs, ToyNet, toy_cost
from torch import nn

from lut.errors import InputError
from search.bilevel import SearchLoop, entropy, make_objective, make_relaxation, run_search
from search.budget import Budget
from search.config import SearchConfig
from search.objective import Linear, Power
from search.progress import Progress
from search.relax import Gdas, TwoPath, softmax
from search.train import DivergedError, smoothed_cross_entropy
from supernet.choice import Choice

COSTS = {"bitops": toy_cost}
LOOSE, TIGHT = [Budget("bitops", 100.0, "")], [Budget("bitops", 3.0, "")]
SHORT = SearchConfig(relaxation="softmax", epochs=8, warmup_epochs=2, batch_size=16, lr=0.1, alpha_lr=0.1)
CLOCKS = ("cpu_seconds", "wall_seconds")


def untimed(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def loop(net, data=None, config=SHORT, relaxation=None, budgets=LOOSE):
    objective = make_objective(config, budgets)
    limits = {b.metric: b.limit for b in budgets}
    loss, relaxation = smoothed_cross_entropy(), relaxation or make_relaxation(config)
    return SearchLoop(net, data or Blobs(), COSTS, limits, config, objective, relaxation, loss, lambda o, t: 0.0, True)


def moved(net, before):
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def test_a_weight_step_moves_no_alpha_and_an_architecture_step_nothing_else():
    net = ToyNet()
    steps, (x, y) = loop(net), next(iter(Blobs().batches("train", 16)))
    net.train()
    before = copy.deepcopy(net.state_dict())
    steps.weight_step(x, y, "here")
    assert {"good.weight", "norm.running_mean", "step"} <= moved(net, before)
    assert "alpha" not in moved(net, before)
    before = copy.deepcopy(net.state_dict())
    expected = steps.arch_step(x, y, "here")
    assert moved(net, before) == {"alpha"}
    assert expected == {"bitops": pytest.approx(5.0)}
    assert all(p.requires_grad for p in net.parameters())
    assert net.norm.track_running_stats
    before = copy.deepcopy(net.state_dict())
    steps.joint_step(x, y, "here")
    assert {"alpha", "good.weight", "norm.running_mean"} <= moved(net, before)


class Heard:
    """An objective that notes what it is told."""

    def __init__(self):
        self.told = []

    def __call__(self, task, costs):
        return task

    def update(self, costs):
        self.told.append(("update", costs["bitops"]))

    def end_epoch(self, costs):
        self.told.append(("end", costs["bitops"]))

    def state_dict(self):
        return {}


@pytest.mark.parametrize(
    ("update", "count", "arch_every", "updates"),
    [("alternate", 48, 1, 1), ("joint", 48, 1, 1), ("alternate", 48 * 16, 1, 3), ("joint", 48 * 16, 1, 3),
     ("alternate", 48 * 16, 4, 1), ("alternate", 40 * 16, 1, 2), ("alternate", 48, 5, 0), ("joint", 48 * 16 + 1, 1, 3)],
)  # fmt: skip
def test_the_objective_follows_the_steps_not_the_epochs(update, count, arch_every, updates):
    """About one update for 16 architecture steps, each with the mean since the last; one for a short epoch."""
    config = dataclasses.replace(SHORT, warmup_epochs=1, update=update, arch_every=arch_every)
    data = Blobs(count)
    steps, seen, inner = loop(ToyNet(), data, config), [], {}

    def noted(name, *arguments):
        found = inner[name](*arguments)
        seen.append((found[1] if name == "joint_step" else found)["bitops"])
        return found

    for name in ("arch_step", "joint_step"):
        inner[name] = getattr(steps, name)
        setattr(steps, name, partial(noted, name))
    steps.objective = Heard()
    with Progress("search", 3) as progress:
        steps.run_epoch(progress)  # of warm-up
        assert steps.objective.told == []
        row = steps.run_epoch(progress)
    told = steps.objective.told
    assert [word for word, _ in told] == ["update"] * updates + ["end"] * (updates > 0)
    parts = [seen[len(seen) * i // updates : len(seen) * (i + 1) // updates] for i in range(updates)]
    assert [value for word, value in told if word == "update"] == pytest.approx([sum(p) / len(p) for p in parts])
    assert not updates or told[-1][1] == pytest.approx(sum(seen) / len(seen)) == row["costs"]["bitops"]


def test_the_pinned_choice_stays():
    net = ToyNet()
    run_search(net, Blobs(), COSTS, LOOSE, SHORT)
    assert net.alpha[1].tolist() == [0, 0]


def test_the_first_architecture_step_descends_the_objective():
    """Adam's first step is lr times the sign of the gradient: the useful option gains, a tight budget reverses it."""
    x, y = next(iter(Blobs().batches("train", 48)))
    for penalty, sign in ((0.0, 1.0), (1e3, -1.0)):
        net = ToyNet()
        net.good.weight.data = 5 * torch.eye(3, 4)
        config = dataclasses.replace(SHORT, objective="linear", penalty=penalty)
        loop(net, config=config).arch_step(x, y, "here")
        torch.testing.assert_close(
            net.alpha[0].detach(), sign * config.alpha_lr * torch.tensor([-1.0, 1.0]), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize("update", ["alternate", "joint"])
@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "gumbel_st", "gdas", "two_path", "reinforce"])
def test_takes_the_useful_option_unless_the_budget_forbids(update, relaxation):
    config = dataclasses.replace(SHORT, update=update, relaxation=relaxation, epochs=15, alpha_lr=0.2)
    free = run_search(ToyNet(), Blobs(), COSTS, LOOSE, config)
    assert free.arch.choices["layer.weight_bits"] == 8
    assert free.arch.predicted == {"bitops": 8}
    assert free.history[-1]["metric"] > 0.8
    bound = run_search(ToyNet(), Blobs(), COSTS, TIGHT, dataclasses.replace(config, epochs=25))
    assert bound.arch.choices == {"layer.weight_bits": 2, "layer.width": 4}


def test_rows_and_result():
    net = ToyNet()
    found = run_search(net, Blobs(), COSTS, TIGHT, SHORT)
    assert [row["phase"] for row in found.history] == ["warmup"] * 2 + ["search"] * 8
    assert [row["epoch"] for row in found.history] == list(range(10))
    assert "entropy" not in found.history[1]
    row = found.history[-1]
    assert set(row) == {"phase", "epoch", "loss", "metric", "entropy", "costs", "arch_costs", "limits", "multipliers",
                        "arch", *CLOCKS}  # fmt: skip
    assert row["limits"] == {"bitops": 3}
    assert row["arch_costs"] == {"bitops": 2}
    assert 2 < row["costs"]["bitops"] < 8
    assert row["multipliers"]["bitops"] > 0
    p = found.probabilities["layer.weight_bits"]
    assert sum(p) == pytest.approx(1)
    assert found.probabilities["layer.width"] == (1.0,)
    torch.testing.assert_close(found.scores[0].exp(), torch.tensor(p))
    assert found.scores[1].tolist() == [0, -math.inf]
    assert row["entropy"] == {"weight_bits": pytest.approx(-sum(q * math.log(q) for q in p) / math.log(2), rel=1e-5)}
    assert not net.training


def test_alphas_rest_during_warm_up():
    net = ToyNet()
    run_search(net, Blobs(), COSTS, LOOSE, dataclasses.replace(SHORT, epochs=0))
    assert net.alpha.abs().sum() == 0


def test_weights_see_the_training_split_and_alphas_the_validation_split():
    data, seen = Blobs(), {"weight": [], "arch": []}
    steps = loop(ToyNet(), data, dataclasses.replace(SHORT, warmup_epochs=0, epochs=1))
    inner_weight, inner_arch = steps.weight_step, steps.arch_step
    steps.weight_step = lambda x, *rest: (seen["weight"].append(x), inner_weight(x, *rest))[1]
    steps.arch_step = lambda x, *rest: (seen["arch"].append(x), inner_arch(x, *rest))[1]
    with Progress("search", 3) as progress:
        steps.run_epoch(progress)
    for kind, split in (("weight", "train"), ("arch", "validation")):
        mine = torch.cat(seen[kind]).flatten(1).tolist()
        assert sorted(mine) == sorted(data.splits[split][0].flatten(1).tolist())


def test_arch_every_and_the_temperature():
    config, net = dataclasses.replace(SHORT, arch_every=5, warmup_epochs=0, epochs=4), ToyNet()
    relaxation = softmax(4.0, 1.0)
    steps = loop(net, config=config, relaxation=relaxation)
    count, inner = itertools.count(), steps.arch_step
    steps.arch_step = lambda *args: (next(count), inner(*args))[1]
    with Progress("search", 12) as progress:
        for _ in range(4):
            steps.run_epoch(progress)
    assert next(count) == 2  # of twelve weight steps, three an epoch
    assert relaxation.tau == pytest.approx(4 * 0.25 ** (11 / 12))


def test_neither_weights_nor_alphas_see_a_last_batch_of_one_image():
    sizes = []

    def loss(output, target):
        sizes.append(len(output))
        return nn.functional.cross_entropy(output, target)

    run_search(ToyNet(), Blobs(33), COSTS, TIGHT, dataclasses.replace(SHORT, epochs=3), loss=loss)
    assert sizes == [16] * (2 * 2 + 3 * 4)


def test_a_search_that_would_end_before_its_first_architecture_step_is_refused():
    config = dataclasses.replace(SHORT, warmup_epochs=1, epochs=2, arch_every=6)  # of three steps an epoch
    net = ToyNet()
    run_search(net, Blobs(), COSTS, LOOSE, config)
    assert net.alpha.abs().sum() > 0
    with pytest.raises(InputError, match=r"search\.arch_every: 7: the search has 6 weight steps .*give at most 6"):
        run_search(ToyNet(), Blobs(), COSTS, LOOSE, dataclasses.replace(config, arch_every=7))
    for fine in ({"update": "joint"}, {"epochs": 0}):
        run_search(ToyNet(), Blobs(), COSTS, LOOSE, dataclasses.replace(config, arch_every=7, **fine))


@pytest.mark.parametrize("update", ["alternate", "joint"])
def test_a_file_without_the_count_of_steps_goes_on_with_it(tmp_path, update):
    config = dataclasses.replace(SHORT, warmup_epochs=1, epochs=3, arch_every=2, update=update)
    steps = loop(ToyNet(), config=config)
    with Progress("search", 6) as progress:
        steps.run_epoch(progress)
        assert steps.taken == 0
        steps.run_epoch(progress)
    state = steps.state_dict()
    assert state.pop("taken") == 3
    again = loop(ToyNet(), config=config)
    again.load_state_dict(state)
    assert again.taken == 3


@pytest.mark.parametrize("kill", [1, 4, 7])
@pytest.mark.parametrize(
    ("relaxation", "arch_every"), [("gumbel", 1), ("two_path", 1), ("reinforce", 1), ("gumbel", 2), ("gumbel", 4)]
)
def test_resumes_to_the_bit(tmp_path, kill, relaxation, arch_every):
    config = dataclasses.replace(SHORT, relaxation=relaxation, arch_every=arch_every, seed=7)
    whole = ToyNet()
    expected = run_search(whole, Blobs(), COSTS, TIGHT, config, folder=tmp_path / "whole")
    calls = itertools.count()

    def interrupted(output, target):
        if next(calls) == kill * 5:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(KeyboardInterrupt):
        run_search(ToyNet(), Blobs(), COSTS, TIGHT, config, loss=interrupted, folder=tmp_path / "part")
    torch.rand(3)
    resumed = ToyNet(seed=3)
    found = run_search(resumed, Blobs(), COSTS, TIGHT, config, folder=tmp_path / "part")
    assert untimed(tmp_path / "part" / "metrics.jsonl") == untimed(tmp_path / "whole" / "metrics.jsonl")
    assert resumed.alpha.detach().numpy().tobytes() == whole.alpha.detach().numpy().tobytes()
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())
    assert found.arch == expected.arch
    again = run_search(ToyNet(), Blobs(), COSTS, TIGHT, config, folder=tmp_path / "part")  # complete: nothing to do
    assert again.arch == expected.arch
    assert torch.equal(again.scores, expected.scores)


def test_a_resume_with_other_settings_is_refused(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, warmup_epochs=0)
    run_search(ToyNet(), Blobs(), COSTS, TIGHT, config, folder=tmp_path)
    with pytest.raises(InputError, match=r"search\.limits: it was made with {'bitops': 3.0}, this run has"):
        run_search(ToyNet(), Blobs(), COSTS, LOOSE, config, folder=tmp_path)
    with pytest.raises(InputError, match=r"search\.epochs: it was made with 1, this run has 2"):
        run_search(ToyNet(), Blobs(), COSTS, TIGHT, dataclasses.replace(config, epochs=2), folder=tmp_path)


def spaced(space):
    net = ToyNet()
    found = net.arch
    net.arch = lambda: dataclasses.replace(found(), space=space)
    return net


def test_a_resume_in_another_space_is_refused(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, warmup_epochs=0)
    first = run_search(spaced("a" * 16), Blobs(), COSTS, TIGHT, config, folder=tmp_path)
    assert run_search(spaced("a" * 16), Blobs(), COSTS, TIGHT, config, folder=tmp_path).history == first.history
    with pytest.raises(InputError, match=r"last\.pt: search\.space: it was made with 'a{16}', this run has 'b{16}'; "
                                         "resume with .*, use another folder, or delete the file"):  # fmt: skip
        run_search(spaced("b" * 16), Blobs(), COSTS, TIGHT, config, folder=tmp_path)


def test_a_resume_of_a_file_without_the_space_or_with_another_network(tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, warmup_epochs=0)
    first = run_search(ToyNet(), Blobs(), COSTS, TIGHT, config, folder=tmp_path)
    body = torch.load(tmp_path / "last.pt", weights_only=True)
    del body["settings"]["space"]
    torch.save(body, tmp_path / "last.pt")
    assert run_search(spaced("a" * 16), Blobs(), COSTS, TIGHT, config, folder=tmp_path).history == first.history
    other = ToyNet()
    other.good = nn.Linear(4, 3, bias=False)
    with pytest.raises(InputError, match=r"last\.pt: search: its state does not fit this run's network: .*good\.bias"):
        run_search(other, Blobs(), COSTS, TIGHT, config, folder=tmp_path)


def test_bad_input():
    with pytest.raises(ValueError, match="no cost model for the budget's metric 'macs'"):
        run_search(ToyNet(), Blobs(), COSTS, [Budget("macs", 1.0, "")], SHORT)
    data = Blobs()
    data.splits["validation"][0][:] = math.inf
    config = dataclasses.replace(SHORT, warmup_epochs=0)
    with pytest.raises(DivergedError, match="search: epoch 0, step 0, architecture: the loss is nan; try a smaller lr"):
        run_search(ToyNet(), data, COSTS, LOOSE, config)


def test_settings_become_methods():
    assert make_relaxation(SearchConfig(relaxation="two_path", tau=3.0)).__class__ is TwoPath
    gdas = make_relaxation(SearchConfig(relaxation="gdas", tau=3.0))
    assert (gdas.__class__, gdas.tau) == (Gdas, 3.0)
    assert isinstance(make_objective(SearchConfig(objective="power"), TIGHT), Power)
    linear = make_objective(SearchConfig(objective="linear", penalty=0.25), TIGHT)
    assert (linear.__class__, linear.weight) == (Linear, 0.25)


def test_entropy_of_even_and_of_decided_choices():
    choices = (
        Choice("a", "width", (4, 8, 16), 0),
        Choice("b", "width", (4, 8), 1),
        Choice("c", "act_bits", (2, 4, 8), 2),
        Choice("d", "act_bits", (8,), 3),
    )
    table = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, 0], [1, 0, 0]])
    assert entropy(choices, table) == {
        "width": pytest.approx(0.5),
        "act_bits": pytest.approx(math.log(2) / math.log(3)),
    }
