"""Layers that are used several times: one set of parameters, one choice of weight bits, the same channels."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from models import Whole, randomise
from test_supernet_register import CoordinateGate
from test_supernet_zoo import IMAGES, MEAN, SPACE, STD, X, architectures, convert, model_of
from torch import nn
from zoo_outputs import leaves
from zoo_shared import SHARED

from cost_models.counts import COUNTS
from cost_models.expected import expected
from deploy.integer import run_program
from deploy.lower import lower
from lut.errors import InputError
from search.relax import softmax
from supernet import SearchSpace, Supernet, extract, load_subnet, register_op, save_subnet
from supernet.mixed import MixedOp

FLOAT = SearchSpace((32,), (32,), (1.0,))


def loss_of(output):
    return sum(leaf.square().mean() for leaf in leaves(output))


def float_net(model):
    return Supernet.from_model(model, X.double(), FLOAT, MEAN, STD)


def double(name):
    return convert(name).double(), X.double()


class Chain(nn.Module):
    """Calls `steps` in turn, with modules by name."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.steps = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.steps(self, x)


def net_of(forward, space=SPACE, **modules):
    torch.manual_seed(0)
    return Supernet.from_model(randomise(Chain(forward, **modules)), X, space, MEAN, STD).eval()


def notes(net):
    return {line.split()[0]: line for line in net.summary().splitlines()}


@pytest.mark.parametrize("name", SHARED)
def test_searched_extracted_and_reloaded_are_one_to_the_last_digits(name, tmp_path):
    net, x = double(name)
    with torch.no_grad():
        for choices in architectures(net, 4):
            net.fix(choices)
            subnet = extract(net, choices)
            save_subnet(subnet, tmp_path / "subnet.safetensors")
            loaded = load_subnet(tmp_path / "subnet.safetensors")
            assert len(list(loaded.parameters())) == len(list(subnet.parameters()))
            for wanted, cut, read in zip(leaves(net(x)), leaves(subnet(x)), leaves(loaded(x)), strict=True):
                assert (cut - wanted).abs().max() <= 1e-12 * wanted.abs().max()
                assert torch.equal(read, cut)


@pytest.mark.parametrize("name", SHARED)
def test_the_gradient_is_the_sum_over_the_uses_as_in_the_model(name):
    model = model_of(name).double().eval()
    net = float_net(model).eval()
    loss_of(model(X.double())).backward()
    loss_of(net(X.double())).backward()
    shared = {node.weights for node in net.nodes if node.layer_of}
    assert shared
    for layer in shared & {path for path, _ in model.named_modules()}:
        for word in ("weight", "bias"):
            own, users = (getattr(at, word) for at in (net.layer(layer), model.get_submodule(layer)))
            if own is not None:
                torch.testing.assert_close(own.grad, users.grad, rtol=1e-9, atol=1e-12)
    for node in net.nodes:
        assert not node.layer_of or net.layer(node.name).weight is net.layer(node.layer_of).weight


def test_a_shared_norm_takes_the_statistics_of_every_use():
    torch.manual_seed(0)
    model = model_of("recurrent").double().train()
    net = float_net(model).train()
    for module in (model, net):
        module(X.double())
    own, users = net.layer("block.conv1.0").norm, model.block.conv1[1]
    assert net.layer("block.conv1.0.use2").norm is own
    assert own.num_batches_tracked == users.num_batches_tracked
    torch.testing.assert_close(own.running_mean, users.running_mean, rtol=1e-9, atol=1e-12)
    assert net.layer("again.use2").norm is None


@pytest.mark.parametrize("name", SHARED)
def test_parameters_are_listed_once_and_stay_shared(name):
    net = convert(name).train()
    assert len(net.weight_parameters()) == len(set(map(id, net.weight_parameters())))
    twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), convert(name).train()]
    optimizer = torch.optim.SGD(net.weight_parameters(), 0.01)
    loss_of(net(X, net.sample(softmax()))).backward()
    optimizer.step()
    twins[-1].load_state_dict(net.state_dict())
    before, after = net.eval()(X), twins[-1].eval()(X)
    assert all(map(torch.equal, leaves(before), leaves(after)))
    for twin in [net, *twins, extract(net, net.arch()), net.double()]:
        for node in twin.nodes:
            layer, first = (twin.layer(n) if n in twin.weight else None for n in (node.name, node.weights))
            assert layer is None or all(getattr(layer, w) is getattr(first, w) for w in ("weight", "bias", "step"))
            assert not node.norm_of or node.name not in twin.weight or layer.norm is twin.layer(node.norm_of).norm
            assert not node.norm_of or node.kind != "layer_norm" or (
                twin.channel_norm(node.name) is twin.channel_norm(node.norm_of))  # fmt: skip


def test_a_file_holds_shared_weights_once(tmp_path):
    from safetensors import safe_open

    subnet = extract(net := convert("retina"), net.arch())
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    with safe_open(str(tmp_path / "subnet.safetensors"), "pt") as file:
        names = set(file.keys())
    assert "layers.tower__0.weight" in names and "layers.tower__0__use2.norm.weight" in names
    assert not names & {f"layers.tower__0__use2.{word}" for word in ("weight", "bias", "step")}
    loaded = load_subnet(tmp_path / "subnet.safetensors")
    assert loaded.layer("tower.0.use2").weight is loaded.layer("tower.0").weight


def test_uses_have_one_choice_of_weight_bits_and_of_width_and_their_own_activation_bits():
    net = convert("retina")
    assert net.weight["tower.0"] is net.weight["tower.0.use2"]
    assert net.groups["tower.0"] == net.groups["tower.0.use2"]
    assert net.act["silu"] is not net.act["silu_2"]
    assert net.groups["stem.0"] == net.groups["down.0"], "both are read by the first of the tower"
    assert "has the weights of tower.0" in notes(net)["tower.0.use2"]


@torch.no_grad()
def test_each_use_is_lowered_with_its_own_norm_and_counted():
    net = convert("retina")
    subnet = extract(net, net.uniform(4, 8, 0.5)).double()
    program = lower(subnet)
    ops = {op.name: op for op in program.ops}
    first, second = ops["tower.0"], ops["tower.0.use2"]
    assert (first.weights == second.weights).all() and (first.mult != second.mult).any()
    run_program(program, IMAGES)
    weighted = [op for op in program.ops if op.weights is not None]
    for op in weighted:
        stored = -(-op.weights.size * op.spec.w_bits // 8) + 8 * len(op.bias)
        assert COUNTS["weights"](op.spec) == stored
    schedule, values = net.schedule(), net.uniform(4, 8, 0.5).choices
    net.fix(values)
    cost = expected(COUNTS["weights"], schedule, net.choices())(net._fixed).item()
    assert cost == pytest.approx(sum(COUNTS["weights"](op.spec) for op in program.ops))


def test_pins_hold_for_all_uses():
    model = model_of("retina")
    for name in ("tower.1", "tower.1.use2"):
        pinned = SearchSpace(
            SPACE.weight_bits, SPACE.act_bits, SPACE.widths, pin={name: {"weight_bits": 4, "width": 0.5}}
        )
        net = Supernet.from_model(model, X, pinned, MEAN, STD)
        assert net.weight["tower.1"].options == net.weight["tower.1.use2"].options == (4,)
        assert net.groups["tower.1.use2"].counts == (8,)
    net = Supernet.from_model(model, X, SearchSpace((2, 4, 8), pin={"scores.use2": {"weight_bits": 4}}), MEAN, STD)
    assert net.weight["scores"].options == (4,), "in place of the last layer's 8"
    pin = {"tower.1": {"weight_bits": 4}, "tower.1.use2": {"weight_bits": 2}}
    with pytest.raises(InputError, match=r"space\.pin\.tower\.1\.use2\.weight_bits: 2: tied with 'tower\.1', which is "
                       "pinned to 4; pin one of them, or both alike"):  # fmt: skip
        Supernet.from_model(model, X, SearchSpace((2, 4, 8), pin=pin), MEAN, STD)


def exact(net, count=3):
    net = net.double()
    with torch.no_grad():
        for choices in architectures(net, count):
            net.fix(choices)
            wanted, found = net(X.double()), extract(net, choices)(X.double())
            for a, b in zip(leaves(found), leaves(wanted), strict=True):
                assert (a - b).abs().max() <= 1e-12 * b.abs().max()
    return net


def test_a_linear_layer_on_several_shapes_keeps_all_of_their_channels():
    def forward(self, x):
        x = self.a(x).relu()
        y = self.b(x).relu()
        return self.fc(x.flatten(1)) + self.fc(y.flatten(1))

    net = exact(net_of(forward, a=nn.Conv2d(3, 8, 3, 4, 1), b=nn.Conv2d(8, 32, 3, 2, 1), fc=nn.Linear(128, 5)))
    reason = "width pinned: a layer that is used several times reads 8x4x4 and 32x2x2 of them"
    assert all(reason in notes(net)[name] for name in ("a", "b"))


def test_a_layer_that_reads_the_image_too_keeps_its_channels():
    def forward(self, x):
        return self.fc(self.conv(self.conv(x).relu()).mean((2, 3)))

    net = exact(net_of(forward, conv=nn.Conv2d(3, 3, 3, padding=1), fc=nn.Linear(3, 5)))
    assert all("width pinned: the image's channels" in notes(net)[name] for name in ("conv", "conv.use2"))
    assert net.weight["conv.use2"].options == (8,), "the first layer's"
    assert "weight bits pinned: the first layer" in notes(net)["conv.use2"]


def test_factors_behind_one_use_are_no_part_of_the_others_weights():
    def forward(self, x):
        x = self.stem(x).relu()
        return self.fc((self.conv(x) * 2 + 1 + self.conv(x.relu())).mean((2, 3)))

    def normed(self, x):
        x = self.stem(x).relu()
        return self.fc((self.norm(self.conv(x)) * 3 + self.norm(self.other(x))).mean((2, 3)))

    convs = {name: nn.Conv2d(c, 8, 3, padding=1) for name, c in (("stem", 3), ("conv", 8), ("other", 8))}
    exact(net_of(forward, fc=nn.Linear(8, 5), **convs))
    net = exact(net_of(normed, fc=nn.Linear(8, 5), norm=nn.BatchNorm2d(8), **convs))
    assert net.groups["conv"] == net.groups["other"]
    assert net.layer("other").norm is net.layer("conv").norm


def test_uses_of_one_weight_have_strides_of_their_own():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, x):
            x = self.stem(x).relu()
            fine, coarse = (F.conv2d(x, self.weight, None, s, d, d) for s, d in ((1, 1), (2, 2)))
            return self.fc(fine.relu().mean((2, 3)) + coarse.relu().mean((2, 3)))

    net = exact(Supernet.from_model(randomise(Pyramid()), X, SPACE, MEAN, STD).eval())
    strides = {node.name: (node.stride, node.dilation, node.layer_of) for node in net.nodes if "conv2d" in node.name}
    assert strides == {"conv2d": ((1, 1), (1, 1), ""), "conv2d_1": ((2, 2), (2, 2), "conv2d")}


def test_candidates_may_share_a_layer_and_the_one_that_is_left_keeps_it(tmp_path):
    conv = nn.Conv2d(8, 8, 3, padding=1)
    edge = MixedOp(nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv, nn.ReLU6(), conv), nn.Identity())
    parts = {"stem": nn.Conv2d(3, 8, 1), "edge": edge, "fc": nn.Linear(8, 4)}
    net = exact(net_of(lambda self, x: self.fc(self.edge(self.stem(x)).mean((2, 3))), **parts), 8)
    values = dict(net.arch().choices) | {"edge.op": 1}
    subnet = extract(net, values)
    assert [(node.name, node.layer_of) for node in subnet.nodes if node.kind == "conv2d"] == [
        ("stem", ""), ("edge.candidates.1.0", ""), ("edge.candidates.1.0.use2", "edge.candidates.1.0")]  # fmt: skip
    save_subnet(subnet, tmp_path / "subnet.safetensors")
    with torch.no_grad():
        assert torch.equal(load_subnet(tmp_path / "subnet.safetensors")(X.double()), subnet(X.double()))


def test_a_registered_module_may_be_used_twice():
    register_op(CoordinateGate, lambda module: nn.Sequential(module.point, nn.ReLU6()))
    try:
        net = net_of(lambda self, x: self.fc(self.gate(self.gate(self.stem(x))).mean((2, 3))), stem=nn.Conv2d(3, 8, 1),
                     gate=CoordinateGate(8), fc=nn.Linear(8, 4))  # fmt: skip
    finally:
        register_op(CoordinateGate, None)
    exact(net)
    assert [node.layer_of for node in net.nodes if node.layer_of] == ["gate.0"]


def test_a_block_is_priced_at_every_use():
    net = net_of(lambda self, x: self.fc(self.block(self.block(self.stem(x))).mean((2, 3))), stem=nn.Conv2d(3, 8, 1),
                 block=Whole(), fc=nn.Linear(8, 4))  # fmt: skip
    priced = [op.name for op in net.schedule().priced(frozenset({"whole"}))]
    assert priced == ["x", "stem", "block", "block.use2", "mean", "fc"]
