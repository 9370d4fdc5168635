"""Fine-tuning: starts from fresh statistics, treats quantizer steps apart, learns from a teacher, keeps the best."""

import copy
import dataclasses

import pytest
import torch
from search_toys import Blobs
from torch import nn

from lut.errors import InputError
from search.config import FinetuneConfig, Recipe
from search.evaluate import evaluate
from search.finetune import finetune
from search.progress import Metrics
from search.train import train

FAST = FinetuneConfig(batch_size=16, lr=0.1)


class Subnet(nn.Module):
    """A linear layer behind batch norm and an LSQ-like step."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(4, 3)
        self.step = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x):
        return self.head((self.norm(x) * self.step).flatten(1))


def test_returns_the_subnet_as_it_was_best_on_validation():
    subnet, data, metrics = Subnet(), Blobs(), Metrics()
    assert finetune(subnet, data, epochs=10, config=FAST, metrics=metrics) is subnet
    assert evaluate(subnet, data, "validation") == max(row["metric"] for row in metrics.rows) > 0.9
    assert {row["phase"] for row in metrics.rows} == {"finetune"}
    assert len(metrics.rows) == 10
    assert not subnet.training


def test_steps_learn_slowly_and_without_decay():
    subnet, data = Subnet(), Blobs()
    still = dataclasses.replace(FAST, epochs=1, step_lr=0.0, weight_decay=0.5)
    before = copy.deepcopy(subnet.state_dict())
    finetune(subnet, data, config=still)
    assert torch.equal(subnet.step, before["step"])
    assert not torch.equal(subnet.head.weight, before["head.weight"])
    finetune(subnet, data, config=dataclasses.replace(still, step_lr=0.1))
    assert not torch.equal(subnet.step, before["step"])


def test_statistics_are_estimated_even_without_epochs():
    subnet, data = Subnet(), Blobs()
    subnet.norm.running_mean.fill_(50.0)
    finetune(subnet, data, epochs=0, config=FAST)
    assert abs(subnet.norm.running_mean.item() - data.splits["train"][0].mean().item()) < 1e-5


def test_a_teacher_shares_the_loss_and_is_left_alone():
    data, teacher = Blobs(), Subnet(1)
    train(teacher, data, Recipe(epochs=10, batch_size=16))
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    shares = {}
    for share in (0.0, 0.9):
        subnet = Subnet()
        finetune(subnet, data, teacher, epochs=2, config=dataclasses.replace(FAST, distill=share))
        shares[share] = subnet.head.weight.detach()
    assert not torch.equal(shares[0.0], shares[0.9])
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert teacher.training
    ignored = Subnet()
    finetune(ignored, data, teacher, epochs=2, config=dataclasses.replace(FAST, distill=0.9, teacher="none"))
    assert torch.equal(ignored.head.weight, shares[0.0])


def test_plain_loaders_will_do():
    data = Blobs()
    loaders = tuple(list(data.batches(split, 16)) for split in ("train", "validation", "test"))
    subnet = finetune(Subnet(), loaders, epochs=10, config=FAST)
    assert evaluate(subnet, data, "validation") > 0.9
    with pytest.raises(InputError, match=r"expected \(train, validation, test\)"):
        finetune(Subnet(), loaders[:2], epochs=1)


def test_resumes(tmp_path):
    data, whole = Blobs(), Subnet()
    finetune(whole, data, epochs=3, config=FAST, checkpoint=tmp_path / "a.pt")
    resumed = finetune(Subnet(4), data, epochs=3, config=FAST, checkpoint=tmp_path / "a.pt")
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())
