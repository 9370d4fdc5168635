"""The training loop: closed forms of its pieces, what it learns, what it refuses, and resume to the bit."""

import copy
import itertools
import math

import pytest
import torch
from search_toys import Blobs, ToyNet
from torch import nn

from lut.errors import InputError
from search.batches import training_batches, training_steps
from search.config import Recipe
from search.evaluate import evaluate, mode, reestimate_batchnorm, top1
from search.progress import Metrics
from search.teacher import Teacher
from search.train import DivergedError, distillation, parameter_groups, schedule, smoothed_cross_entropy, train

CLOCKS = {"cpu_seconds", "wall_seconds"}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))


def untimed(rows):
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_learns_and_logs(optimizer):
    net, data, metrics = network(), Blobs(), Metrics()
    lr = 0.1 if optimizer == "sgd" else 0.02
    done = train(net, data, Recipe(epochs=15, batch_size=16, optimizer=optimizer, lr=lr), metrics=metrics)
    assert done.metric == evaluate(net, data, "validation") > 0.9
    assert [row["epoch"] for row in metrics.rows] == list(range(15))
    assert done.metric == max(row["metric"] for row in metrics.rows)
    assert set(metrics.rows[0]) == {"phase", "epoch", "loss", "metric", "lr"} | CLOCKS
    assert metrics.rows[-1]["loss"] < metrics.rows[0]["loss"]
    assert not net.training


def test_schedule_ramps_then_falls_along_a_cosine():
    assert schedule(0.5, 10, 1.0) == pytest.approx(0.55)
    assert schedule(1.0, 10, 1.0) == 1
    assert schedule(5.5, 10, 1.0) == pytest.approx(0.5)
    assert schedule(10, 10, 1.0) == pytest.approx(0)
    assert schedule(0, 10, 0.0) == 1
    values = [schedule(i / 10, 10, 1.0) for i in range(10, 101)]
    assert values == sorted(values, reverse=True)
    assert schedule(0.125, 1, 0.25) == pytest.approx(0.55)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_short_training_ends_at_a_low_rate_too(epochs):
    metrics = Metrics()
    train(ToyNet(), Blobs(480), Recipe(epochs=epochs, batch_size=4, lr=0.1), metrics=metrics)
    assert metrics.rows[-1]["lr"] < 0.001


def test_decay_is_for_matrices_and_steps_have_a_rate_of_their_own():
    net = ToyNet()
    groups = parameter_groups(net, net.weight_parameters(), 0.1, 1e-3, 0.25)
    names = {id(p): n for n, p in net.named_parameters()}
    found = [({names[id(p)] for p in g["params"]}, g["lr"], g["weight_decay"]) for g in groups]
    assert found == [
        ({"good.weight", "blind.weight"}, 0.1, 1e-3),
        ({"norm.weight", "norm.bias", "good.bias", "blind.bias"}, 0.1, 0.0),
        ({"step"}, 0.025, 0.0),
    ]


def test_first_sgd_step_equals_the_closed_form():
    net, data = network(), Blobs()
    reference = copy.deepcopy(net).train()
    recipe = Recipe(epochs=1, batch_size=48, lr=0.1, ramp_epochs=0.0, weight_decay=0.01, clip=None)
    (x, y), *_ = data.batches("train", 48, True, False, torch.Generator().manual_seed(5))
    smoothed_cross_entropy(0.0)(reference(x), y).backward()
    train(net, data, recipe, seed=5)
    weight, bias = reference[2].weight, reference[2].bias
    torch.testing.assert_close(net[2].weight, weight - 0.1 * (weight.grad + 0.01 * weight))
    torch.testing.assert_close(net[2].bias, bias - 0.1 * bias.grad)


def test_clip_bounds_the_gradient_step():
    net, data = network(), Blobs()
    before = [p.detach().clone() for p in net.parameters()]
    train(net, data, Recipe(epochs=1, batch_size=48, lr=1.0, ramp_epochs=0.0, weight_decay=0.0, clip=0.01))
    moved = math.sqrt(sum(float(((p.detach() - q) ** 2).sum()) for p, q in zip(net.parameters(), before)))
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_distillation_is_the_divergence_of_softened_scores():
    teacher, x, temperature = network(1), torch.randn(5, 1, 2, 2), 3.0
    output = torch.randn(5, 3)
    teacher.train()
    p = torch.softmax(copy.deepcopy(teacher).eval()(x) / temperature, 1)
    q = torch.softmax(output / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum() / 5
    torch.testing.assert_close(distillation(output, Teacher(teacher)(x), temperature), expected)
    assert teacher.training
    assert teacher[0].num_batches_tracked == 0


def test_a_teacher_alone_teaches():
    data, teacher, student = Blobs(), network(), network(1)
    train(teacher, data, Recipe(epochs=15, batch_size=16))
    recipe = Recipe(epochs=15, batch_size=16, distill=1.0, temperature=2.0)
    done = train(student, data, recipe, teacher=teacher, loss=lambda output, target: 0 * output.sum())
    assert done.metric > 0.9


def test_a_loss_and_a_metric_of_ones_own():
    data = Blobs()
    loss = lambda output, target: nn.functional.mse_loss(output, nn.functional.one_hot(target, 3).float())  # noqa: E731
    metric = lambda output, target: -float(loss(output, target))  # noqa: E731
    net = network()
    done = train(net, data, Recipe(epochs=10, batch_size=16, lr=0.1), loss=loss, metric=metric)
    assert -0.2 < done.metric < 0
    assert done.metric == pytest.approx(evaluate(net, data, "validation", metric))


def test_keeps_the_best_and_stops_early():
    scores = itertools.chain([0.2, 0.9, 0.3, 0.4], itertools.repeat(0.5))
    net, data, states = network(), Blobs(), []

    def metric(output, target):
        states.append(net[2].weight.clone())
        return next(scores)

    done = train(net, data, Recipe(epochs=20, batch_size=48, patience=3), metric=metric)
    assert (done.metric, done.epoch, done.epochs_run) == (0.9, 1, 5)
    assert torch.equal(net[2].weight, states[1])


def test_no_epochs_changes_nothing_and_says_the_score():
    net, data = network(), Blobs()
    before = copy.deepcopy(net.state_dict())
    done = train(net, data, Recipe(epochs=0))
    assert done.metric == evaluate(net, data, "validation")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_divergence_names_epoch_step_and_cure():
    data = Blobs()
    data.splits["train"][0][-1] = math.nan
    with pytest.raises(DivergedError, match=r"float: epoch 0, step \d: the loss is nan; try a smaller lr than"):
        train(network(), data, Recipe(epochs=2, batch_size=16), phase="float")


def test_an_empty_split_is_named():
    data = Blobs()
    data.splits["validation"] = (torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="the split 'validation' has no examples"):
        train(network(), data, Recipe(epochs=1))


class Deep(nn.Sequential):
    """Batch norm on maps of one pixel, which can't be trained on one image."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(33, 16, [16, 16]), (34, 16, [16, 16, 2]), (32, 16, [16, 16]), (1, 16, [1]), (3, 1, [1, 1, 1]), (17, 16, [16])],
)
def test_a_last_batch_of_one_image_is_left_out(count, batch, sizes):
    data = Blobs(count)
    found = training_batches(data, "train", batch, True, torch.Generator().manual_seed(5))
    every = data.batches("train", batch, True, True, torch.Generator().manual_seed(5))
    for (x, y), (same, labels) in zip(found, every):
        assert torch.equal(x, same) and torch.equal(y, labels)
        assert len(x) == sizes.pop(0)
    assert not sizes
    seen = [len(x) for x, _ in training_batches(data, "validation", batch, False, None)]
    assert training_steps(data, batch) == len(seen)


def test_networks_that_one_image_can_not_train_are_trained_and_estimated():
    net, data, metrics = Deep(), Blobs(33), Metrics()
    assert train(net, data, Recipe(epochs=5, batch_size=16), metrics=metrics).epochs_run == 5
    reestimate_batchnorm(net, data, batch_size=16)
    (x, _), (rest, _) = itertools.islice(data.batches("train", 16, True, False, torch.Generator().manual_seed(0)), 2)
    average = (net[0](x).mean((0, 2, 3)) + net[0](rest).mean((0, 2, 3))) / 2
    torch.testing.assert_close(net[1].running_mean, average.detach())


@pytest.mark.parametrize("kill", [1, 3])
@pytest.mark.parametrize("count", [48, 33])
def test_resumes_to_the_bit(tmp_path, kill, count):
    data, recipe = Blobs(count), Recipe(epochs=5, batch_size=16)
    whole, metrics = network(), Metrics(tmp_path / "whole.jsonl")
    done = train(whole, data, recipe, metrics=metrics)

    class KillError(Exception):
        pass

    calls = itertools.count()

    def dies(output, target):
        if next(calls) == kill * (count // 16) + 1:  # in the middle of an epoch
            raise KillError
        return nn.functional.cross_entropy(output, target)

    part, journal, path = network(), Metrics(tmp_path / "part.jsonl"), tmp_path / "train.pt"
    with pytest.raises(KillError):
        train(part, data, recipe, loss=dies, metrics=journal, checkpoint=path)
    journal.append({"phase": "train", "epoch": kill})  # a row that the kill left behind the checkpoint
    fresh = network(seed=9)
    assert train(fresh, data, recipe, metrics=Metrics(tmp_path / "part.jsonl"), checkpoint=path) == done
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in fresh.state_dict().items())
    again = Metrics(tmp_path / "part.jsonl")
    assert train(network(seed=8), data, recipe, metrics=again, checkpoint=path) == done  # complete: nothing to do
    assert untimed(again.rows) == untimed(metrics.rows)
    with pytest.raises(InputError, match=r"train\.lr: it was made with 0\.1, this run has 0\.2"):
        train(fresh, data, Recipe(epochs=5, batch_size=16, lr=0.2), checkpoint=path)


def test_batchnorm_is_the_cumulative_average():
    net, data = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5)), Blobs()
    net.train()
    reestimate_batchnorm(net, data, batches=2, batch_size=16, seed=3)
    parts = itertools.islice(data.batches("train", 16, True, False, torch.Generator().manual_seed(3)), 2)
    means, variances = zip(*((x.mean(), x.var()) for x, _ in parts))
    torch.testing.assert_close(net[0].running_mean[0], sum(means) / 2)
    torch.testing.assert_close(net[0].running_var[0], sum(variances) / 2)
    assert net[0].momentum == 0.1
    assert net.training
    assert net[0].training


def test_evaluate_weighs_batches_by_size_and_keeps_the_mode():
    data, net = Blobs(count=10), network()
    net.train()
    net[2].eval()
    whole = evaluate(net, data, "test")
    assert evaluate(net, data, "test", batch_size=4) == pytest.approx(whole)
    assert net.training
    assert not net[2].training
    x, y = data.splits["test"]
    with mode(net, training=False):
        assert whole == pytest.approx(top1(net(x), y))
