"""A network with two heads from the model to the device, by a loss and a metric of the user's own."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from models import randomise
from search_toys import Blobs
from test_supernet_zoo import MEAN, STD
from zoo_outputs import TwoHeads, leaves

from deploy.integer import run_program
from deploy.lower import lower
from deploy.results import values
from deploy.validate import check_exact
from lut.errors import InputError
from search import Budget, finetune, search
from search.config import FinetuneConfig, Recipe, RunConfig, SearchConfig
from search.evaluate import evaluate, top1
from search.quick import quick
from search.sources import load_sources
from search.teacher import Teacher
from search.train import train
from search.user_code import UserCodeError
from supernet import SearchSpace, Supernet, extract
from supernet.networks import BUILDERS

SPACE = SearchSpace((4, 8), (8,), (0.5, 1.0))


def loss(output, target):
    """Cross-entropy and the distance of the boxes; target (n, 5): class and box."""
    return F.cross_entropy(output["classes"], target[:, 0].long()) + F.smooth_l1_loss(output["box"], target[:, 1:])


def metric(output, target):
    return (output["classes"].argmax(1) == target[:, 0]).double().mean() - (output["box"] - target[:, 1:]).abs().mean()


def loaders():
    """Squares of one of three colours anywhere in the image; the splits differ."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for count in (96, 32, 32):
        grey = torch.randint(60, 180, (count, 3, 16, 16), generator=generator).float()
        target = torch.zeros(count, 5)
        for image, row in zip(grey, target):
            colour, top, left = (int(torch.randint(high, (), generator=generator)) for high in (3, 8, 8))
            image[colour, top : top + 8, left : left + 8] = 255
            row[:] = torch.tensor([colour, left / 16, top / 16, (left + 8) / 16, (top + 8) / 16])
        x = (grey - MEAN.view(1, -1, 1, 1)) / STD.view(1, -1, 1, 1)
        found.append([(part, rows) for part, rows in zip(x.split(32), target.split(32))])
    return tuple(found)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_from_the_model_to_the_device(tmp_path):
    pytest.importorskip("tvm")
    from deploy.tvm_build import HostModule, build
    from lut.kernels import isa_of_host

    data, (example, _) = loaders(), loaders()[0][0]
    torch.manual_seed(0)
    net = Supernet.from_model(randomise(TwoHeads()).train(), example, SPACE, MEAN, STD)
    config = SearchConfig(warmup_epochs=4, epochs=4, batch_size=32, lr=0.05)
    found = search(net, data, None, [Budget.parse("macs=70%"), Budget.parse("ram=95%")], config,
                   loss=loss, metric=metric)  # fmt: skip
    assert all(found.arch.predicted[budget.metric] <= budget.limit for budget in found.budgets)
    subnet = extract(found.net, found.arch)
    tuned = finetune(subnet, data, config=FinetuneConfig(epochs=6, batch_size=32, lr=0.05), loss=loss, metric=metric)
    program = lower(tuned, "heads")
    images = torch.cat([x for x, _ in data[2]])
    as_bytes = (images * STD.view(1, -1, 1, 1) + MEAN.view(1, -1, 1, 1)).round().byte().permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        expected = tuned(images)
    got = values(program, run_program(program, as_bytes))
    assert list(got) == ["classes", "box"]
    for ours, theirs in zip(leaves(got), leaves(expected)):
        assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()
    assert check_exact(program, HostModule(build(program, isa_of_host(), tmp_path)), as_bytes) == 1000
    target = torch.cat([y for _, y in data[2]])
    assert loss(got, target) < 1.0 < loss({"classes": torch.zeros(32, 3), "box": torch.zeros(32, 4)}, target)


def supernet():
    example = loaders()[0][0][0]
    return Supernet.from_model(randomise(TwoHeads()), example, SPACE, MEAN, STD)


@pytest.mark.parametrize(
    "start",
    [
        lambda net: search(net, loaders()),
        lambda net: search(net, loaders(), loss=loss),
        lambda net: search(net, loaders(), metric=metric),
        lambda net: quick(net, loaders()),
        lambda net: finetune(extract(net, net.arch()), loaders(), loss=loss),
        lambda net: train(net, Blobs(), Recipe(), metric=metric),
        lambda net: evaluate(TwoHeads(), Whole(), "test", top1),
    ],
)
def test_the_defaults_are_for_one_tensor_of_scores(start):
    net = supernet()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(InputError, match=r"the network returns a dict of classes, box.*give --loss and --metric"):
        start(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), "nothing was trained"


class Whole(Blobs):
    """Of another shape."""

    def batches(self, split, batch_size, shuffle=False, augment=False, generator=None):
        yield torch.rand(4, 3, 16, 16), torch.arange(4) % 3


def test_a_teacher_of_a_structure_is_refused():
    net = supernet()
    with pytest.raises(InputError, match=r"teacher: .*a dict of classes, box.*finetune\.teacher to none"):
        finetune(extract(net, net.arch()), loaders(), teacher=TwoHeads(), loss=loss, metric=metric)
    still = FinetuneConfig(epochs=1, batch_size=32, teacher="none")
    finetune(extract(net, net.arch()), loaders(), teacher=TwoHeads(), config=still, loss=loss, metric=metric)
    with pytest.raises(InputError, match="distillation: the network returns a dict"):
        Teacher(TwoHeads())(torch.rand(2, 3, 16, 16))


def test_a_run_without_a_loss_is_refused_before_training(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(1, 10, 8), nn.Conv2d(1, 2, 8)\n"
        "    def forward(self, x):\n"
        "        return [self.a(x).flatten(1), self.b(x).flatten(1)]\n"
        "def loss(output, target):\n"
        "    return nn.functional.cross_entropy(output[0], target) + output[1].square().mean()\n"
        "def wrong(output, target):\n"
        "    return output['a']\n"
    )
    given = ["data.name=digits", f"model.name={tmp_path}/mine.py:Net"]
    with pytest.raises(InputError, match=r"mine.py:Net: the network returns a list of 2.*--loss and --metric"):
        load_sources(RunConfig.default(given))
    sources = load_sources(RunConfig.default([*given, f"model.loss={tmp_path}/mine.py:loss"]))
    x, y = next(iter(sources.data.batches("test", 4)))
    assert sources.metric(sources.model(x), y) == -sources.loss(sources.model(x), y)
    wrong = load_sources(RunConfig.default([*given, f"model.loss={tmp_path}/mine.py:wrong"]))
    with pytest.raises(InputError, match="called with output a list of 2: TypeError"):
        wrong.loss(sources.model(x), y)


BROKEN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 10, 8), nn.BatchNorm1d(10)

class Raises(Net):
    def forward(self, x):
        return self.norm(self.conv(x)).flatten(1)

class Asserts(Net):
    def forward(self, x):
        assert x.shape[1] == 3
        return self.conv(x)

class Mismatch(Net):
    def forward(self, x):
        return self.conv(x).flatten(1) @ torch.zeros(3, 2)

class One(Net):
    def forward(self, x):
        return self.conv(x).mean((1, 2, 3))

class Maps(Net):
    def forward(self, x):
        return self.conv(x)

class Mixed(Net):
    def forward(self, x):
        return self.conv(x).flatten().unsqueeze(0)
"""


@pytest.mark.parametrize(
    ("name", "message", "line"),
    [
        ("Raises", "ValueError: expected 2D or 3D input", "return self.norm(self.conv(x)).flatten(1)"),
        ("Asserts", "AssertionError: ", "assert x.shape[1] == 3"),
        ("Mismatch", "RuntimeError: mat1 and mat2", "@ torch.zeros(3, 2)"),
    ],
)
def test_what_a_model_of_ones_own_raises_is_shown_as_its_own_traceback(tmp_path, name, message, line):
    (tmp_path / "mine.py").write_text(BROKEN)
    with pytest.raises(UserCodeError) as caught:
        load_sources(RunConfig.default(["data.name=digits", f"model.name={tmp_path}/mine.py:{name}"]))
    first, *trace = str(caught.value).splitlines()
    assert first.startswith(f"model {tmp_path}/mine.py:{name} on digits of shape (2, 1, 32, 32): {message}")
    assert any(line in text for text in trace)
    assert not any("sources.py" in text or "user_code.py" in text for text in trace)


@pytest.mark.parametrize(
    ("name", "shape"), [("One", r"\(2,\)"), ("Maps", r"\(2, 10, 25, 25\)"), ("Mixed", r"\(1, 12500\)")]
)
def test_without_a_loss_of_ones_own_a_model_returns_scores_of_classes(tmp_path, name, shape):
    (tmp_path / "mine.py").write_text(BROKEN)
    message = rf"mine.py:{name} on digits .*: returned shape {shape}; expected \(2, classes\)"
    with pytest.raises(InputError, match=message):
        load_sources(RunConfig.default(["data.name=digits", f"model.name={tmp_path}/mine.py:{name}"]))


def test_a_network_of_the_registry_that_raises_is_one_line(monkeypatch):
    class Refuses(torch.nn.Module):
        def forward(self, x):
            raise TypeError("not today\nor tomorrow")

    monkeypatch.setitem(BUILDERS, "lenet5", lambda *size: Refuses())
    with pytest.raises(InputError) as caught:
        load_sources(RunConfig.default(["data.name=digits", "model.name=lenet5"]))
    assert str(caught.value) == "model lenet5 on digits of shape (2, 1, 32, 32): TypeError: not today"
