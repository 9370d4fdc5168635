"""Training on another device than the CPU, which `twin` stands for, and in mixed precision."""

import copy
import json

import pytest
import small_run
import torch
import twin
from models import bytes_and_input, randomise
from search_toys import Blobs
from torch import nn
from zoo import ZOO
from zoo_outputs import leaves

from lut.errors import InputError
from search.accelerator import accelerator, at_hand, describe, exact_products, mixed, require
from search.bilevel import run_search
from search.chain import run_chain
from search.checkpoint import read
from search.compiled import pays
from search.config import Recipe, RunConfig, SearchConfig
from search.evaluate import evaluate
from search.relax import RELAXATIONS
from search.run import Run
from search.train import train
from supernet import SearchSpace, Supernet, extract
from supernet.mixed import MixedOp
from supernet.quantizers import ActQuantizer

SPACE = SearchSpace((2, 4, 8), (4, 8), (0.5, 1.0))
IMAGES, X, MEAN, STD = bytes_and_input((3, 16, 16), 8)
HALF = [f"{section}.precision=bfloat16" for section in ("train", "search", "finetune")]
CLOCKS = ("cpu_seconds", "wall_seconds")


def blobs_net(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)]
    return nn.Sequential(*layers)


def blobs_supernet():
    return Supernet.from_model(blobs_net(), next(iter(Blobs().batches("train", 48)))[0], SPACE)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKS} for line in lines]


def test_the_twin_is_another_device():
    here, there = torch.ones(2), torch.ones(2, device="twin")
    assert there.device.type == "twin"
    assert (there + there).cpu().tolist() == [2.0, 2.0]
    for mix in (lambda: here + there, lambda: nn.Linear(2, 1).to("twin")(here)):
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


@pytest.mark.parametrize("name", ZOO)
def test_every_network_is_the_same_there(name):
    torch.manual_seed(0)
    here = Supernet.from_model(randomise(ZOO[name]()), X, SPACE, MEAN, STD).train()
    there = copy.deepcopy(here).to("twin")
    results = []
    for net, x in ((here, X), (there, X.to("twin"))):
        gates = net.sample(RELAXATIONS["gumbel"](), torch.Generator().manual_seed(0))
        outputs = leaves(net(x, gates))
        sum(output.sum() for output in outputs).backward()
        subnet = extract(net, net.arch()).eval()
        results.append([*outputs, net.alpha.grad, *leaves(subnet(x))])
    assert all(tensor.device.type == "twin" for tensor in results[1])
    for one, other in zip(*results):
        torch.testing.assert_close(other.detach().cpu(), one.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("update", ["alternate", "joint"])
def test_every_relaxation_searches_there(relaxation, update):
    config = SearchConfig(relaxation=relaxation, update=update, epochs=1, warmup_epochs=1, batch_size=16)
    here = blobs_supernet()
    there = copy.deepcopy(here).to("twin")
    found = [run_search(net, Blobs(), {}, [], config) for net in (here, there)]
    torch.testing.assert_close(found[1].scores, found[0].scores, rtol=1e-4, atol=1e-5)
    assert there.alpha.device.type == "twin"


def test_operators_are_chosen_there():
    class Model(nn.Sequential):
        def __init__(self):
            op = MixedOp(nn.Conv2d(8, 8, 1), nn.Identity())
            super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), op, nn.Flatten(), nn.Linear(8 * 14 * 14, 3))

    here = Supernet.from_model(Model(), X, SPACE)
    there = copy.deepcopy(here).to("twin")
    torch.testing.assert_close(there(X.to("twin")).cpu(), here(X))


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """The same small run on both devices: by device, its folder and its result."""
    folder = tmp_path_factory.mktemp("chains")
    files = small_run.write(folder)
    return {
        name: (folder / name, run_chain(RunConfig.read(files, [f"accelerator={name}"]), folder / name, ["test"]))
        for name in ("cpu", "twin")
    }


def test_the_whole_chain_runs_there_and_finds_the_same(chains):
    (here, expected), (there, found) = chains["cpu"], chains["twin"]
    assert json.loads((there / "arch.json").read_text()) == json.loads((here / "arch.json").read_text())
    assert found["networks"] == expected["networks"]
    for one, other in zip(rows(here), rows(there), strict=True):
        assert other["phase"] == one["phase"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    machine = json.loads((there / "env.json").read_text())["machine"]
    assert machine["accelerator"] == "twin"
    assert "accelerator" not in json.loads((here / "env.json").read_text())["machine"]


def test_a_run_that_lost_files_is_made_whole_there(chains):
    folder, before = chains["twin"]
    (folder / "uniform8.safetensors").unlink()
    again = run_chain(RunConfig.read(folder / "config.yaml"), folder, ["test"])
    assert again["networks"]["found"]["top1"] == before["networks"]["found"]["top1"]


def test_a_checkpoint_from_there_goes_on_here(tmp_path):
    """Half of the epochs on one device, half on the other: the same as on one."""
    recipe = Recipe(epochs=2, batch_size=16)
    whole = blobs_net()
    train(whole, Blobs(), recipe, checkpoint=tmp_path / "whole.pt")

    class Killed(Exception):
        pass

    class Once(Blobs):
        passes = 0

        def batches(self, split, *args):
            Once.passes += split == "train"
            if Once.passes > 1:
                raise Killed
            return super().batches(split, *args)

    with pytest.raises(Killed):
        train(blobs_net().to("twin"), Once(), recipe, checkpoint=tmp_path / "net.pt")
    state = read(tmp_path / "net.pt")["state"]
    assert all(not isinstance(tensor, twin.Twin) for tensor in state["model"].values())
    rest = blobs_net(seed=1)
    train(rest, Blobs(), recipe, checkpoint=tmp_path / "net.pt")
    for one, other in zip(whole.state_dict().values(), rest.state_dict().values()):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_a_teacher_on_the_cpu_teaches_there():
    recipe = Recipe(epochs=1, batch_size=16, distill=0.5)
    teacher, here = blobs_net(1).eval(), blobs_net()
    there = copy.deepcopy(here).to("twin")
    losses = []
    for student in (here, there):
        train(student, Blobs(), recipe, teacher=teacher)
        losses.append(next(student.parameters()).detach().cpu())
    torch.testing.assert_close(losses[1], losses[0])
    assert next(teacher.parameters()).is_cpu


def test_there_a_step_is_compiled_only_when_asked():
    """What compiling saves was measured on CPUs."""
    net = blobs_supernet()
    assert pays(net, 10**9, 16)
    assert not pays(net.to("twin"), 10**9, 16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("cuda:99", "cuda:99"), ("gpu", "gpu"), ("", "''"), ("meta", "meta")],
)
def test_a_device_that_is_not_there_is_refused_before_anything_runs(name, reason, tmp_path):
    with pytest.raises(InputError, match=f"accelerator: .*{reason}.*here there is cpu"):
        accelerator(name)
    config = RunConfig.read(small_run.write(tmp_path), [f"accelerator='{name}'"])
    with pytest.raises(InputError, match="accelerator"):
        Run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_devices_have_names():
    assert at_hand()[0] == "cpu"
    assert describe(torch.device("cpu")) is None
    assert describe(accelerator("twin")) == "twin"


def test_a_run_says_once_that_there_is_a_faster_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("search.accelerator.at_hand", lambda: ["cpu", "cuda"])
    run = Run(RunConfig.read(small_run.write(tmp_path)), tmp_path / "run")
    run.start(["test"])
    assert capsys.readouterr().err.count("--accelerator cuda") == 1
    monkeypatch.setattr("search.accelerator.at_hand", lambda: ["cpu"])
    run.start(["test"])
    assert "accelerator" not in capsys.readouterr().err


def test_a_device_without_bfloat16_refuses_mixed_precision_early(tmp_path):
    require(torch.device("cpu"), ["float32", "bfloat16"])
    require(torch.device("twin"), ["float32"])
    with pytest.raises(InputError, match=r"precision: bfloat16 on 'twin'.*float32"):
        require(torch.device("twin"), ["bfloat16"])
    config = RunConfig.read(small_run.write(tmp_path), ["accelerator=twin", "search.precision=bfloat16"])
    with pytest.raises(InputError, match="precision"):
        Run(config, tmp_path / "run")


def test_mixed_precision_is_of_the_forward_pass_alone():
    seen = []
    net = blobs_net()
    net[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = next(iter(Blobs().batches("train", 48)))[0]
    out = mixed(net, torch.device("cpu"), "bfloat16")(x)
    assert (out.dtype, seen) == (torch.float32, [torch.bfloat16])
    assert mixed(net, torch.device("cpu"), "float32") is net
    structure = mixed(lambda x: {"scores": (net(x), 3)}, torch.device("cpu"), "bfloat16")(x)
    assert structure["scores"][0].dtype == torch.float32
    assert structure["scores"][1] == 3


@pytest.mark.parametrize("quantized", [False, True])
def test_mixed_precision_learns_as_float32_does(quantized):
    reached = {}
    for precision in ("float32", "bfloat16"):
        net = extract(blobs_supernet(), blobs_supernet().uniform(4, 4)) if quantized else blobs_net()
        train(net, Blobs(), Recipe(epochs=6, batch_size=16, precision=precision))
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
        reached[precision] = evaluate(net, Blobs(), "test")
    assert reached["bfloat16"] >= reached["float32"] - 0.1 >= 0.7


def test_gradients_of_steps_are_summed_in_float32():
    """LSQ's gradient is a small difference of two large sums, whose bfloat16 has 8 bits."""
    quantizer = ActQuantizer((4,), signed=False)
    quantizer.step.data.fill_(0.25)
    x = torch.full((60, 8, 2, 61), 0.25 * 2.25)  # to 2: what every element gives is -0.25
    y = quantizer(x.bfloat16(), None, [0], None)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert quantizer.step.grad.item() == pytest.approx(-0.25 * x.numel() / (x[0].numel() * 15) ** 0.5, rel=1e-4)


def test_the_whole_chain_runs_in_mixed_precision(tmp_path, chains):
    result = run_chain(RunConfig.read(small_run.write(tmp_path), HALF), tmp_path / "run", ["test"])
    assert result["networks"]["found"]["top1"]["integer"] > 0.9
    assert all(row["met"] for row in result["budgets"])
    assert rows(tmp_path / "run") != rows(chains["cpu"][0])


def search_to(file):
    run_search(blobs_supernet(), Blobs(), {}, [], SearchConfig(epochs=1, batch_size=16), folder=file.parent)


def train_to(file):
    train(blobs_net(), Blobs(), Recipe(epochs=1, batch_size=16), checkpoint=file)


@pytest.mark.parametrize("loop", [search_to, train_to])
def test_a_run_from_before_there_was_a_precision_goes_on(loop, tmp_path):
    loop(file := tmp_path / "last.pt")
    body = read(file)
    assert body["settings"].pop("precision") == "float32"
    torch.save(body, file)
    loop(file)
    body["settings"]["precision"] = "bfloat16"
    torch.save(body, file)
    with pytest.raises(InputError, match="precision: it was made with 'bfloat16', this run has 'float32'"):
        loop(file)


def test_evaluation_on_a_gpu_forgoes_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with exact_products(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    with exact_products(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32
