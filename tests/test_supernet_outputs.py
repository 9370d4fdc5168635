"""Networks that return a structure: its form, its last layers, and memory that holds every output."""

import copy
import dataclasses
import json
import pickle
import warnings
from collections import OrderedDict, defaultdict, deque

import pytest
import torch
from models import randomise
from test_supernet_zoo import MEAN, SPACE, STD, X, convert, model_of
from torch import nn
from torch.utils._pytree import register_dataclass, register_pytree_node
from zoo_outputs import SEVERAL, Boxes, Detection, leaves, shape

from cost_models.counts import COUNTS
from cost_models.expected import expected
from cost_models.live import live_rows
from cost_models.memory import tensor_bytes
from lut.device import Device
from lut.errors import InputError
from search.relax import softmax
from supernet import SearchSpace, Supernet, extract, load_subnet, register_op, save_subnet
from supernet.extract import adopt
from supernet.nodes import last_layers
from supernet.outputs import Form, described


def test_a_form_builds_what_the_model_returns():
    y = torch.arange(24.0).reshape(1, 2, 3, 4)
    tree = ("dict", (("a", ("tuple", (0, 1))), ("b", ("list", (2,)))))
    form = Form(tree, ((0, "nhwc"), (1, "nc"), (0, "nf")))
    vector = torch.ones(1, 5, 1, 1)
    built = form.build([y, vector])
    assert shape(built) == {"a": ((1, 3, 4, 2), (1, 5)), "b": [(1, 24)]}
    assert torch.equal(built["a"][0], y.permute(0, 2, 3, 1)) and torch.equal(built["b"][0], y.flatten(1))
    assert form.labels == ("a.0", "a.1")
    assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form
    assert Form().labels == ("",) and Form().lone and not form.lone
    assert [described(o) for o in (built, built["b"], y)] == ["a dict of a, b", "a list of 1", "a tensor (1, 2, 3, 4)"]


class Tapped(nn.Module):
    """Returns tensors that its own layers read too, one of them twice, and one before and after its activation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 5)
        self.scores = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        before = self.a(x)
        after = self.b(before.relu())
        pooled = after.mean((2, 3))
        maps = self.scores(after)
        return {"before": before, "after": [after, after.flatten(1)], "head": self.head(pooled), "pooled": pooled,
                "maps": torch.sigmoid(maps)}  # fmt: skip


def test_a_tensor_that_others_read_is_copied_and_both_are_right():
    model = randomise(Tapped())
    net = Supernet.from_model(model, X, SearchSpace((32,), (32,), (1.0,)), MEAN, STD).eval()
    torch.testing.assert_close(net(X), model(X), rtol=1e-4, atol=1e-5)
    assert net.outputs == ("scores.before", "scores.after.0", "head", "scores.pooled", "scores.maps")
    read = {name for node in net.nodes for name in node.inputs}
    assert not read & set(net.outputs)
    assert [node.name for node in net.nodes if node.output] != [], "each is marked"
    assert {node.name for node in net.nodes if node.output} == set(net.outputs)


def test_every_output_has_last_layers_of_full_width_and_8_bits():
    net = Supernet.from_model(randomise(Tapped()), X, SPACE, MEAN, STD)
    assert set(last_layers(net.nodes)) == {"a", "b", "head", "scores"}
    for name in ("a", "b", "head", "scores"):
        assert net.weight[name].options == (8,)
        assert net.width[net.groups[name].name].pinned
    lines = {line.split()[0]: line for line in net.summary().splitlines()}
    assert "output head" in lines["head"] and "output after.0" in lines["scores.after.0"]
    assert "width pinned: the network's output" in lines["b"] and "a last layer" in lines["b"]
    ends = {"two_heads": {"classify", "locate.2"}, "ssd": {"scores.0", "scores.1", "offsets.0", "offsets.1"},
            "early_exit": {"exits.0", "exits.1", "exits.2"}}  # fmt: skip
    for name, layers in ends.items():
        net = convert(name)
        assert layers <= set(last_layers(net.nodes))
        assert all(net.weight[layer].options == (8,) for layer in layers)
        assert [c for c in net.width.values() if not c.pinned], "the trunk is searched"


@pytest.mark.parametrize("name", SEVERAL)
def test_the_structure_survives_copies_training_and_compiling(name):
    net = convert(name)
    wanted = shape(model_of(name)(X))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert shape(twin(X)) == wanted
        assert all(map(torch.equal, leaves(twin(X)), leaves(net(X))))
    subnet = pickle.loads(pickle.dumps(extract(net, net.arch())))
    assert shape(subnet(X)) == wanted
    graph = torch.compile(net.train(), backend="eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's about its own tracing
        assert shape(graph(X, net.sample(softmax()))) == wanted
    sum(leaf.square().sum() for leaf in leaves(net(X))).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == ["quantizers.x.step"]


@pytest.mark.parametrize("name", SEVERAL)
def test_every_operator_costs_once_and_outputs_are_the_callers(name):
    net = convert(name)
    schedule = net.schedule()
    assert len({op.name for op in schedule.ops}) == len(schedule.ops) == len(net.nodes)
    values = net.uniform(4, 4, 0.5).choices
    net.fix(values)
    for metric in ("macs", "weights"):
        total = sum(COUNTS[metric](op.spec(values)) for op in schedule.ops)
        assert expected(COUNTS[metric], schedule, net.choices())(net._fixed).item() == pytest.approx(total, rel=1e-6)
    inside = {tensor for row in live_rows(schedule) for tensor in row.names}
    assert not inside & set(net.outputs), "they are the caller's"


def test_a_microcontrollers_memory_holds_every_output():
    from cost_models.mcu import mcu_costs

    net = convert("ssd")
    schedule = net.schedule()
    all_of_it = mcu_costs(schedule, None)["ram"].outside
    one = mcu_costs(type(schedule)(schedule.ops, schedule.tensors, schedule.input, schedule.outputs[:1]), None)["ram"]
    rest = [schedule.tensors[name].make({}) for name in schedule.outputs[1:]]
    assert all_of_it - one.outside == sum(tensor_bytes(c, h, w, 16) for c, h, w, _ in rest)


@dataclasses.dataclass
class Scores:
    logits: torch.Tensor
    hidden: list


class Sorted(dict):
    """Its constructor takes something else than items."""

    def __init__(self, *, items):
        super().__init__(sorted(items))


class Returns(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.a, self.b, self.form = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), form

    def forward(self, x):
        x = self.a(x).relu()
        return self.form(self.b(x), x)


register_dataclass(Scores)
register_pytree_node(Sorted, lambda s: (list(s.values()), list(s)), lambda v, k: Sorted(items=zip(k, v)))


def types(value):
    """The structure with types in place of tensors."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    parts = value.values() if isinstance(value, dict) else vars(value).values() if type(value) is Scores else value
    return type(value), [types(part) for part in parts]


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        (lambda y, x: OrderedDict(b=y, a=x), ("b", "a")),
        (lambda y, x: {"one": Boxes(y, x), "two": [Boxes(offsets=y, scores=x)]}, ("one.scores", "one.offsets")),
        (lambda y, x: Detection(first=y, rest=(x, Detection(last=y))), ("first", "rest.0")),
        (lambda y, x: Scores(y, [x]), ("logits", "hidden.0")),
        (lambda y, x: Sorted(items=[("z", y), ("a", x)]), ("a", "z")),
        (lambda y, x: defaultdict(list, {"k": y, 7: x}), ("k", "7")),
        (lambda y, x: deque([y, Scores(x, (y,))]), ("0", "1.logits")),
    ],
)
def test_a_structure_comes_back_in_its_own_types(form, labels):
    model = randomise(Returns(form)).eval()
    net = Supernet.from_model(model, X, SearchSpace((32,), (32,), (1.0,)), MEAN, STD).eval()
    assert net.form.labels == labels
    for network in (net, copy.deepcopy(net), extract(net, net.arch())):
        assert types(network(X)) == types(model(X))
    flat = torch.utils._pytree.tree_leaves
    if not isinstance(model(X), Detection):
        torch.testing.assert_close(flat(net(X)), flat(model(X)), rtol=1e-4, atol=1e-5)
    assert described(net(X)).startswith(f"a {type(model(X)).__name__} of ")


def test_a_file_has_standard_types_and_its_networks_own_come_back(tmp_path):
    net = convert("typed")
    subnet = extract(net, net.arch())
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    loaded = load_subnet(tmp_path / "subnet.safetensors")
    tensors = ["tensor", "tensor"]
    found = loaded(X)
    assert types(found) == (dict, [(OrderedDict, tensors), (list, [(type(found["boxes"][0]), tensors)])])
    assert torch.equal(found["boxes"][0].offsets, subnet(X).boxes[0].offsets)
    assert pickle.loads(pickle.dumps(loaded)).form == loaded.form
    assert loaded.form.labels == net.form.labels
    adopt(loaded, net)
    assert types(loaded(X)) == (Detection, [(OrderedDict, tensors), (list, [(Boxes, tensors)])])
    assert all(map(torch.equal, leaves(loaded(X)), leaves(subnet(X))))
    assert loaded(X).boxes[0].offsets.shape == (8, 8, 4, 4)


def test_outputs_that_differ_within_a_structure_are_told_by_their_path():
    class Tests(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return Boxes(self.conv(x), self.conv(x).relu() if isinstance(x, torch.Tensor) else self.conv(x))

    with pytest.raises(InputError, match="computes something else than the model: output 'offsets' differs"):
        Supernet.from_model(Tests(), X)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x), self.conv(x)


def test_a_part_with_several_outputs_is_refused():
    class Twice(nn.Module):
        def forward(self, x):
            return {"a": x.relu(), "b": torch.sigmoid(x)}

    register_op(Pair, lambda module: Twice())
    with pytest.raises(InputError, match=r"1: it returns several outputs \(a, b\); expected one tensor"):
        Supernet.from_model(nn.Sequential(nn.Conv2d(3, 3, 1), Pair()), X)


def test_a_device_sees_the_outputs_in_the_summary():
    text = convert("two_heads").summary(Device.load("host-cpu"))
    assert "output classes" in text and "output box" in text
