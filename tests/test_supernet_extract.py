import copy
import json
import pickle
import random
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from models import Mixture, PlainAdd, randomise
from safetensors import safe_open

from lut.errors import InputError
from search.relax import softmax
from supernet import Arch, SearchSpace, Supernet, extract, load_subnet, save_subnet
from supernet.choice import Gates
from supernet.extract import unquantized
from supernet.networks import NETWORKS

SPACE = SearchSpace(weight_bits=(2, 4, 8), act_bits=(2, 4, 8), widths=(0.25, 0.5, 1.0))


def architectures(net, count, seed=0):
    draw = random.Random(seed)
    return [{c.name: draw.choice(c.options) for c in net.choices()} for _ in range(count)]


def build(name):
    torch.manual_seed(0)
    if name == "mixture":
        return Mixture(), (3, 16, 16)
    if name == "plain_add":
        return PlainAdd(), (1, 8, 8)
    channels, size = {"lenet5": (1, 28), "ds_cnn": (1, 32)}.get(name, (3, 32))
    return NETWORKS[name](num_classes=10, in_channels=channels, image_size=size), (channels, size, size)


@pytest.mark.parametrize("name", ["mixture", "plain_add", *NETWORKS])
def test_subnet_equals_the_fixed_supernet(name):
    model, shape = build(name)
    x = torch.randn(1, *shape)
    net = Supernet.from_model(randomise(model), x, SPACE).double().eval()
    for values in architectures(net, 2):
        net.fix(values)
        expected = net(x.double())
        got = extract(net, values)(x.double())
        assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()
        assert expected.abs().max() > 0


@pytest.fixture(scope="module")
def net():
    model = randomise(Mixture())
    return Supernet.from_model(model, torch.randn(4, 3, 16, 16), SPACE).eval()


def test_channels_are_truly_removed_and_specs_agree(net):
    values = net.uniform(4, 8, 0.5).choices
    subnet = extract(net, values)
    assert subnet.layer("blocks.0.conv1").weight.shape == (8, 8, 3, 3)
    assert subnet.layer("depthwise.0").groups == 16
    full = [op.spec(values) for op in net.schedule().ops]
    assert full == [op.spec({}) for op in subnet.schedule().ops]


def test_kept_channels_are_the_most_important(net):
    values = {**net.uniform(8, 8).choices, "blocks.0.conv1.width": 8}
    subnet = extract(net, values)
    kept = torch.nonzero(net.rank("blocks.0.conv1") < 8).flatten()
    expected = net.layer("blocks.0.conv1").norm.bias[kept]
    assert torch.equal(subnet.layer("blocks.0.conv1").norm.bias, expected)


def test_saved_subnet_is_the_same(net, tmp_path):
    values = architectures(net, 1, seed=3)[0]
    subnet = extract(net, Arch(values, net.space.hash(), {"latency": 3.0}, seed=4))
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    loaded = load_subnet(tmp_path / "subnet.safetensors")
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(loaded(x), subnet(x))
    assert loaded.arch == subnet.arch
    assert [op.spec({}) for op in loaded.schedule().ops] == [op.spec({}) for op in subnet.schedule().ops]


def test_saved_subnet_keeps_its_type_and_the_momentum_of_its_norms(net, tmp_path):
    exact = copy.deepcopy(net).double()
    exact.std /= 3  # no float32 has these values
    exact.layer("stem.1").norm.momentum, exact.layer("depthwise.0").norm.momentum = 0.01, None
    for norm in exact.batch_norms():
        norm.running_var /= 3
    subnet = extract(exact, exact.uniform(4, 8, 0.5))
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    loaded = load_subnet(tmp_path / "subnet.safetensors")
    expected = subnet.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(loaded(x), subnet(x))
    assert [norm.momentum for norm in loaded.batch_norms()] == [norm.momentum for norm in subnet.batch_norms()]
    assert {0.01, None} <= {norm.momentum for norm in loaded.batch_norms()}
    assert [name for name, p in loaded.named_parameters() if not p.requires_grad] == ["quantizers.x.step"]


def change(path, edit):
    """Change the graph in a subnet's file."""
    with safe_open(str(path), "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    graph = json.loads(metadata["graph"])
    edit(graph)
    path.write_bytes(safetensors.torch.save(tensors, {**metadata, "graph": json.dumps(graph)}))


@pytest.mark.parametrize(
    "edit",
    [
        lambda graph: graph.update(nodes=[]),
        lambda graph: graph["nodes"].insert(0, None),
        lambda graph: graph["nodes"][1].update(kind="nonsense"),
        lambda graph: graph["nodes"][1].update(inputs=["nowhere"]),
        lambda graph: graph["nodes"][1].update(stride=[3, 3]),
        lambda graph: graph["nodes"][1].update(shape=[16]),
        lambda graph: graph["outputs"].update(names=["nowhere"]),
        lambda graph: graph["outputs"].update(leaves=[]),
        lambda graph: graph.update(groups=3),
        lambda graph: graph["layout"].update(fc=[]),
    ],
)
def test_a_graph_that_does_not_hold_together(net, tmp_path, edit):
    path = tmp_path / "subnet.safetensors"
    save_subnet(extract(net, net.uniform(8, 8)), path)
    change(path, edit)
    with pytest.raises(InputError, match=r"subnet\.safetensors: its graph and its weights do not belong together: "):
        load_subnet(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_subnet(tmp_path)


def test_a_subnet_of_a_version_that_kept_no_momentum(net, tmp_path):
    path = tmp_path / "subnet.safetensors"
    save_subnet(extract(net, net.uniform(8, 8)), path)
    change(path, lambda graph: graph.pop("momentum"))
    assert {norm.momentum for norm in load_subnet(path).batch_norms()} == {0.1}


def test_damaged_subnet_files(net, tmp_path):
    path = tmp_path / "subnet.safetensors"
    save_subnet(extract(net, net.uniform(8, 8)), path)
    raw = path.read_bytes()
    for damaged in (b"", raw[:100], raw[: len(raw) // 2], b"\x80\x04" + raw[2:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"subnet\.safetensors"):
            load_subnet(path)
    with pytest.raises(InputError, match="no such file"):
        load_subnet(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("choices", "weight_bits", "fc", "options"), [10**25], r"fc.weight_bits: \(10{25},\) are no bits"),
        (("choices", "act_bits", "x", "options"), [9], r"x.act_bits: \(9,\) are no bits"),
        (("choices", "weight_bits", "fc", "options"), [4.5], "are no bits"),
        (("nodes", 9, "inputs"), ["nothing"], "StopIteration"),
        (("nodes", -1, "inputs"), ["nothing"], "KeyError"),
    ],
)  # fmt: skip
def test_damaged_graphs_are_an_error(net, tmp_path, place, value, reason):
    path = tmp_path / "subnet.safetensors"
    save_subnet(extract(net, net.uniform(8, 8)), path)

    def damage(graph):
        *outer, last = place
        for key in outer:
            graph = graph[key]
        graph[last] = value

    change(path, damage)
    with pytest.raises(InputError, match=rf"its graph and its weights do not belong together: .*{reason}"):
        load_subnet(path)


def test_architecture_of_another_network_is_refused(net):
    with pytest.raises(InputError, match=r"'conv9\.width' is not one of this network's"):
        extract(net, {"conv9.width": 4})
    values = dict(net.uniform(8, 8).choices)
    values["stem.1.width"] = 5
    with pytest.raises(InputError, match=r"stem\.1\.width: 5 is not one of"):
        net.fix(values)
    del values["stem.1.width"]
    with pytest.raises(InputError, match=r"stem\.1\.width: None"):
        net.fix(values)


def test_architecture_of_another_space_is_refused(net):
    arch = net.uniform(8, 8)
    other = replace(arch, space=SearchSpace().hash())
    for take in (net.check, net.fix, lambda a: extract(net, a)):
        with pytest.raises(InputError, match=rf"arch\.space: {other.space} .* this network's is {arch.space}"):
            take(other)
    for same in (arch, replace(arch, space=""), other.choices):
        assert net.check(same) == arch.choices


def test_an_images_step_is_calibrated_and_stays(tmp_path):
    net = Supernet.from_model(randomise(Mixture()), torch.randn(4, 3, 16, 16), SPACE)
    subnet = extract(net, net.arch())
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    for network in (net, copy.deepcopy(net), subnet, load_subnet(tmp_path / "subnet.safetensors")):
        step = network.quantizer("x").step
        assert 0.001 < step.item() < 0.1, "8 bits of values to 4"
        assert not step.requires_grad
        assert all(network.quantizer(name).step.requires_grad for name in network.act if name != "x")


def test_gates_none_is_the_softmax_and_every_parameter_gets_a_gradient():
    net = Supernet.from_model(randomise(Mixture()), torch.randn(4, 3, 16, 16), SPACE)
    x = torch.randn(4, 3, 16, 16)
    expected = net(x, Gates(torch.softmax(net.logits(), 1)))
    assert torch.equal(net(x), expected)
    net.train()
    net(x).square().sum().backward()
    searchable = [c.index for c in net.choices() if not c.pinned]
    assert net.alpha.grad[searchable].abs().sum(1).min() > 0
    # option 2 of a pinned layer does not exist; every other parameter takes part
    assert [n for n, p in net.named_parameters() if p.grad is None] == ["quantizers.x.step"]


def test_architecture_steps_leave_statistics_alone():
    net = Supernet.from_model(randomise(Mixture()), torch.randn(4, 3, 16, 16), SPACE).train()
    before = [b.running_mean.clone() for b in net.batch_norms()]
    with net.kept_statistics():
        net(torch.randn(4, 3, 16, 16))
    assert all(torch.equal(a, b.running_mean) for a, b in zip(before, net.batch_norms()))
    assert all(b.num_batches_tracked == 0 for b in net.batch_norms())
    net(torch.randn(4, 3, 16, 16))
    assert not any(torch.equal(a, b.running_mean) for a, b in zip(before, net.batch_norms()))


def test_copy_and_state_survive_a_search_in_progress():
    x = torch.randn(2, 3, 16, 16)
    net = Supernet.from_model(randomise(Mixture()), x, SPACE)
    values = net.uniform(4, 8, 0.5).choices
    net.schedule()
    net.train()(x, net.sample(softmax())).sum().backward()
    net.eval()
    twin = copy.deepcopy(net)
    twin.fix(values)
    pickled = pickle.loads(pickle.dumps(twin))
    assert torch.equal(pickled(x), twin(x))
    assert [op.spec(values) for op in pickled.ops()] == [op.spec(values) for op in net.ops()]
    fresh = Supernet.from_model(randomise(Mixture(), seed=9), x, SPACE).eval()
    fresh.load_state_dict(net.state_dict())
    fresh.fix(values)
    assert torch.equal(twin(x), fresh(x))


def test_arch_json_round_trip_and_bad_files(net, tmp_path):
    arch = net.arch()
    arch.write(tmp_path / "arch.json")
    assert Arch.read(tmp_path / "arch.json") == arch
    for text in ("", "[]", '{"schema": 1}', '{"schema": 9, "choices": {}}', '{"schema": 1, "choices": {"a": "b"}}'):
        (tmp_path / "arch.json").write_text(text)
        with pytest.raises(InputError, match=r"arch\.json"):
            Arch.read(tmp_path / "arch.json")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("space", None, "space: None is not a hash"),
        ("seed", "x", "seed: 'x' is not a whole number"),
        ("seed", None, "seed: None is not a whole number"),
        ("predicted", [3], r"predicted: \[3\] is not an object of numbers"),
        ("predicted", {"latency": "fast"}, r"predicted: \{'latency': 'fast'\} is not an object of numbers"),
        ("choices", {"a": True}, r"choices\.a: True is not an integer option"),
    ],
)
def test_arch_json_with_a_field_of_another_type(field, value, message):
    body = {"schema": 1, "space": "ab", "seed": 1, "choices": {"a": 4}, "predicted": {"latency": 1}}
    assert Arch.from_json(json.dumps(body)) == Arch({"a": 4}, "ab", {"latency": 1.0}, 1)
    with pytest.raises(InputError, match=rf"arch\.json: {message}"):
        Arch.from_json(json.dumps({**body, field: value}))


def test_arch_json_that_is_no_text(tmp_path):
    for path, raw in ((tmp_path / "arch.json", bytes(range(256))), (tmp_path / "deep.json", b"[" * 100_000)):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=path.name):
            Arch.read(path)
    with pytest.raises(InputError, match="not readable as text"):
        Arch.read(tmp_path)


def test_unquantized_copy_is_the_float_model_at_full_width(net):
    model = randomise(Mixture())
    x = torch.randn(3, 3, 16, 16)
    net = Supernet.from_model(model, x, SPACE).eval()
    subnet = extract(net, net.uniform(8, 8))
    torch.testing.assert_close(unquantized(subnet)(x), model(x))
    assert not torch.equal(subnet(x), model(x))
