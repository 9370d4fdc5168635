"""Compiled training steps: equal to eager ones, eager where they must be, and the choice between the two."""

import copy
import shutil
import sysconfig
import warnings
from pathlib import Path

import pytest
import torch
from models import randomise
from search_toys import Blobs
from torch import nn
from zoo import ZOO

from search import compiled
from search.bilevel import SearchLoop, make_objective, make_relaxation, run_search
from search.checkpoint import Checkpoint
from search.compiled import Compiled, channels_last, own_code, pays, training_step
from search.config import RunConfig, SearchConfig
from search.evaluate import top1
from search.progress import read_metrics
from search.relax import gdas, softmax
from search.train import smoothed_cross_entropy
from supernet import SearchSpace, Supernet, extract
from supernet.networks import NETWORKS

HEADER = Path(sysconfig.get_path("include"), "Python.h")
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or not HEADER.exists(), reason="needs g++ and Python's headers"
)
SPACE = SearchSpace((2, 8), (4, 8), (0.5, 1.0), channel_multiple=2, first_last_bits=None)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet.from_model(randomise(Tiny()), torch.randn(8, 1, 2, 2), SPACE).train()


@needs_compiler
def test_a_compiled_step_has_the_gradients_of_an_eager_one(capsys):
    net, x, y = supernet(), torch.randn(6, 1, 2, 2), torch.arange(6) % 3
    twin = copy.deepcopy(net)
    step = training_step(net, "always", 1, 6)
    assert isinstance(step, Compiled)
    for made, forward in ((net, step), (twin, twin)):
        smoothed_cross_entropy()(forward(x, made.sample(softmax())), y).backward()
    assert step.state == "ready"
    assert "compiling the training step" in capsys.readouterr().err
    for (name, p), q in zip(net.named_parameters(), twin.parameters()):
        if not p.requires_grad:
            continue
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    for a, b in zip(net.buffers(), twin.buffers()):
        torch.testing.assert_close(a, b)


SLOW = ("shufflenet_v2", "mobilenet_v3", "se_resnet", "inception")


@pytest.mark.parametrize("name", ["densenet", "convnext", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_networks_of_every_kind_are_one_graph(name):
    """Traced and differentiated as for compiling, without the C++ that takes most of its time."""
    model, x = ZOO[name](), torch.randn(4, 3, 16, 16)
    net = Supernet.from_model(randomise(model), x, SPACE).train()
    graph = torch.compile(own_code(net), backend="aot_eager", fullgraph=True, dynamic=False)
    torch.manual_seed(0)
    gates = net.sample(softmax())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = graph(x, gates)
    y.square().sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.requires_grad}
    net.zero_grad()
    expected = net(x, net.sample(softmax()))
    expected.square().sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    for n, p in ((n, p) for n, p in net.named_parameters() if p.requires_grad):
        scale = p.grad.abs().max().clamp_min(1e-6)
        assert (found[n] - p.grad).abs().max() <= 1e-3 * scale, n


class Counting:
    """Stands for torch.compile: what was called through the graph."""

    def __init__(self, forward, **settings):
        self.forward, self.calls = forward, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.forward(*arguments)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(torch, "compile", Counting)


def test_only_full_training_batches_of_all_options_go_through_the_graph(counted):
    net, x = supernet(), torch.randn(6, 1, 2, 2)
    step = Compiled(net, 6, lambda line: None)
    step(x, net.sample(softmax()))
    assert step.graph.calls == 1
    step(x[:5], net.sample(softmax()))
    step(x, net.sample(gdas()))
    net.eval()
    step(x, net.sample(softmax()))
    assert step.graph.calls == 1


def test_where_compiling_fails_the_step_is_eager_and_says_so_once(monkeypatch):
    def broken(forward, **settings):
        def graph(*arguments):
            raise RuntimeError("wrapped") from FileNotFoundError("no C++ compiler\nand a long trace")

        return graph

    monkeypatch.setattr(torch, "compile", broken)
    said: list[str] = []
    net, x = supernet(), torch.randn(6, 1, 2, 2)
    step = Compiled(net, 6, said.append)
    for _ in range(3):
        assert step(x, net.sample(softmax())).shape == (6, 3)
    assert len(said) == 2
    assert said[1].endswith("FileNotFoundError: no C++ compiler")


def test_an_error_of_a_step_that_was_compiled_is_not_swallowed(counted):
    net, x = supernet(), torch.randn(6, 1, 2, 2)
    step = Compiled(net, 6, lambda line: None)
    step(x, net.sample(softmax()))
    with pytest.raises(RuntimeError):
        step(torch.randn(6, 5, 2, 2), net.sample(softmax()))


def test_auto_compiles_where_the_steps_ahead_pay_for_it():
    net = Supernet.from_model(NETWORKS["resnet8"](10, 3, 32), torch.randn(2, 3, 32, 32), SPACE)
    config = RunConfig.default()
    digits = 1078 // config.search.batch_size * (config.search.warmup_epochs + config.search.epochs)
    assert not pays(net, digits, config.search.batch_size)
    assert pays(net, 45_000 // 64 * 20, 64)
    assert not pays(nn.Linear(2, 2), 10**9, 64)
    assert training_step(net, "never", 10**9, 64) is net
    assert training_step(net, "always", 0, 64) is net
    subnet = extract(net, net.uniform(8, 8))
    least = next(steps for steps in range(0, 10**6, 10) if pays(net, steps, 64))
    assert not pays(subnet, least, 64)  # a subnet's step has less to save


def test_a_search_goes_through_the_compiled_step_and_keeps_statistics(monkeypatch):
    made = []

    def counting(forward, **settings):
        made.append(Counting(forward))
        return made[-1]

    monkeypatch.setattr(torch, "compile", counting)
    outcomes = []
    for mode in ("never", "always"):
        net = supernet()
        config = SearchConfig(epochs=1, warmup_epochs=1, batch_size=16, compile=mode)
        run_search(net, Blobs(48), {"bits": lambda gates: gates.weights.sum()}, [], config)
        outcomes.append(net.state_dict())
    assert made[0].calls == 3 + 3 + 3  # three batches an epoch, architecture steps in the second
    for name, value in outcomes[0].items():
        torch.testing.assert_close(value, outcomes[1][name], msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("relaxation", ["two_path", "gdas", "reinforce"])
def test_a_step_of_some_options_alone_is_as_without_compiling(counted, relaxation):
    """No step can go through the graph, and a weight step of two paths runs one of them."""
    net = supernet()
    config = SearchConfig(relaxation=relaxation, batch_size=16, compile="always")
    parts = make_objective(config, []), make_relaxation(config), smoothed_cross_entropy(), top1
    loop = SearchLoop(net, Blobs(48), {}, {}, config, *parts, False)
    assert not loop.compiled
    seen = []
    net.sample = lambda *given: seen.append(type(net).sample(net, *given)) or seen[-1]
    x, y = next(loop.batches("train"))
    loop.weight_step(x, y, "here")
    loop.arch_step(x, y, "here")
    most = 2 if relaxation == "two_path" else 1
    assert [gates.run.sum(1).max().item() for gates in seen] == [1, most]


@needs_compiler
@pytest.mark.slow
def test_a_compiled_search_that_was_stopped_goes_on_to_the_bit(tmp_path, monkeypatch):
    def search(folder):
        net = supernet()
        run_search(net, Blobs(48), {"bits": lambda gates: gates.weights.sum()}, [], config, folder=folder)
        return net.state_dict(), [{k: v for k, v in row.items() if "seconds" not in k} for row in read_metrics(
            folder / "metrics.jsonl")]  # fmt: skip

    config = SearchConfig(epochs=2, warmup_epochs=1, batch_size=16, compile="always")
    unbroken, rows = search(tmp_path / "unbroken")
    save = Checkpoint.save

    def last(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", last)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "stopped")
    resumed, again = search(tmp_path / "stopped")
    assert again == rows
    assert all(torch.equal(value, resumed[name]) for name, value in unbroken.items())


def test_channels_last_copies_leave_the_teacher_and_give_way_to_views():
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).train()
    fast = channels_last(net, x)
    assert fast is not net and net[0].weight.is_contiguous() and fast[0].weight.stride()[1] == 1
    torch.testing.assert_close(fast(x), net(x))

    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).view(len(x), -1)

    viewing = Viewing()
    assert channels_last(viewing, x) is viewing


def test_reason_is_the_first_line_of_the_root():
    root, outer = ValueError("\n  first\nsecond"), RuntimeError("outer")
    outer.__cause__ = root
    assert compiled.reason(outer) == "ValueError: first"
