"""A teacher: the network's own scores, each batch looked at once, within its room."""

import copy
import dataclasses

import pytest
import torch
from search_toys import Blobs
from torch import nn

from search.config import FinetuneConfig
from search.finetune import finetune
from search.teacher import Teacher

FAST = FinetuneConfig(batch_size=16, lr=0.1, distill=0.5)


class Counting(nn.Module):
    """Counts the batches that it sees, copies of it included."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3))
        self.body(torch.rand(5, 1, 2, 2))
        self.seen = []

    def __deepcopy__(self, memo):
        twin = Counting()
        twin.load_state_dict(self.state_dict())
        twin.seen = self.seen
        return twin

    def forward(self, x):
        self.seen.append(len(x))
        return self.body(x)


def taught(x, network):
    """Scores, and how many batches the network looked at; the first is for its layout."""
    teacher = Teacher(network)
    teacher(torch.rand(1, 1, 2, 2))
    network.seen.clear()
    return [teacher(each) for each in x], len(network.seen)


def test_equal_batches_are_looked_at_once_and_scored_alike():
    network, x = Counting(), torch.rand(6, 1, 2, 2, requires_grad=True)
    (first, again), looks = taught([x, x.detach().clone()], network)
    assert looks == 1
    assert not first.requires_grad
    expected = copy.deepcopy(network).eval()(x).detach()
    torch.testing.assert_close(first, expected)
    assert torch.equal(again, first)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: torch.nextafter(x, x + (torch.arange(x.numel()).view(x.shape) == x.numel() - 1)),
        lambda x: x.flip(0),
        lambda x: x[:5],
        lambda x: x.to(torch.bfloat16).float(),
    ],
    ids=["one bit", "order", "fewer", "rounded"],
)
def test_another_batch_is_looked_at_anew(change):
    network, x = Counting(), torch.rand(6, 1, 2, 2)
    (_, second), looks = taught([x, change(x)], network)
    assert looks == 2
    torch.testing.assert_close(second, copy.deepcopy(network).eval()(change(x)).detach())


def test_the_same_bytes_in_another_shape_or_type_are_another_batch():
    class Flat(nn.Linear):
        def forward(self, x):
            return x.float().flatten(1)

    teacher, x = Teacher(Flat(1, 1)), torch.rand(4, 2, 3, 2)
    assert teacher(x).shape == (4, 12)
    assert teacher(x.view(2, 4, 3, 2)).shape == (2, 24)
    assert torch.equal(teacher(x.view(torch.int32)), x.view(torch.int32).float().flatten(1))


def test_layouts_of_one_batch_are_one():
    network, x = Counting(), torch.rand(6, 1, 2, 2)
    assert taught([x, x.to(memory_format=torch.channels_last), x.repeat(1, 2, 1, 1)[:, ::2]], network)[1] == 1


def test_room_bounds_what_is_kept_and_the_first_stay():
    network, batches = Counting(), [torch.rand(6, 1, 2, 2) for _ in range(4)]
    teacher = Teacher(network, room=2 * 6 * 3 * 4)
    for x in batches:
        teacher(x)
    assert sum(scores.nbytes for scores in teacher.scores.values()) == 2 * 6 * 3 * 4
    network.seen.clear()
    for x in batches:
        teacher(x)
    assert len(network.seen) == 2
    none = Teacher(network, room=0)
    for _ in range(2):
        none(batches[0])
    assert not none.scores
    assert len(network.seen) == 2 + 3, "one is for its layout"


def test_the_mode_and_statistics_of_the_network_are_left():
    network = Counting().train()
    before = copy.deepcopy(network.state_dict())
    Teacher(network)(torch.rand(6, 1, 2, 2))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_trainings_with_one_seed_share_its_looks_and_end_as_without():
    network = Counting(1)

    def student(teacher, epochs):
        net = Counting(2)
        finetune(net, Blobs(), teacher, epochs, config=FAST)
        return net.state_dict()

    alone = student(network, 3)
    shared = Teacher(network)
    network.seen.clear()
    looks = []
    for epochs in (1, 3, 2, 3):
        last = student(shared, epochs)
        looks.append(len(network.seen))
    steps = -(-Blobs().size("train") // FAST.batch_size)
    assert looks == [1 + steps, 1 + 3 * steps, 1 + 3 * steps, 1 + 3 * steps]
    assert all(torch.equal(value, alone[name]) for name, value in last.items())


def test_without_a_share_nobody_asks_the_teacher():
    network = Counting(1)
    network.seen.clear()
    finetune(Counting(2), Blobs(), Teacher(network), 1, config=dataclasses.replace(FAST, distill=0.0))
    assert not network.seen
