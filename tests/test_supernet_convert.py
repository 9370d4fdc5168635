import pytest
import torch
from models import Mixture, PlainAdd, randomise
from torch import nn

from lut.errors import InputError
from supernet import SearchSpace, Supernet


def net_of(model, shape=(3, 16, 16), space=None):
    return Supernet.from_model(randomise(model), torch.randn(2, *shape), space or SearchSpace())


def test_ties_follow_adds_depthwise_pools_and_shortcuts():
    net = net_of(Mixture())
    group = {name: g.name for name, g in net.groups.items()}
    assert group["stem.1"] == group["blocks.0.conv2"]  # identity shortcut
    assert group["blocks.1.conv2"] == group["depthwise.0"]  # depthwise after the add
    assert group["blocks.1.conv1"] not in (group["stem.1"], group["blocks.1.conv2"])
    assert group["stem.1"] != group["blocks.1.conv2"]  # zero channels have no counterpart
    assert group["max_pool2d"] == group["bottleneck.0"]
    resample = next(n for n in net.nodes if n.kind == "resample")
    assert group[resample.name] == group["blocks.1.conv2"]
    assert resample.gather == (-1,) * 8 + tuple(range(16)) + (-1,) * 8


def test_every_layer_is_found_and_fused():
    kinds = [node.kind for node in net_of(Mixture()).nodes]
    assert kinds == [
        "input", "conv2d", "conv2d", "conv2d_add", "conv2d", "resample", "conv2d_add", "conv2d", "conv2d", "max_pool",
        "linear",
    ]  # fmt: skip
    assert [n.kind for n in net_of(PlainAdd(), (1, 8, 8)).nodes][3:] == ["add", "avg_pool", "conv2d"]


def test_asymmetric_pad_moves_into_the_convolution():
    stem = next(n for n in net_of(Mixture()).nodes if n.name == "stem.1")
    assert stem.pad == (0, 0, 1, 1)
    assert stem.shape == (16, 8, 8)


def test_first_and_last_layer_are_pinned_and_pin_overrides():
    net = net_of(Mixture())
    assert net.weight["stem.1"].options == (8,) == net.weight["fc"].options
    assert net.width[net.groups["fc"].name].options == (10,)
    space = SearchSpace(pin={"blocks.0.conv1": {"weight_bits": 4, "width": 0.5, "act_bits": 8}})
    pinned = net_of(Mixture(), space=space)
    assert pinned.weight["blocks.0.conv1"].options == (4,)
    assert pinned.act["blocks.0.conv1"].options == (8,)
    assert pinned.width["blocks.0.conv1"].options == (8,)


def test_choices_have_distinct_names_and_rows():
    choices = net_of(Mixture()).choices()
    assert [c.index for c in choices] == list(range(len(choices)))
    assert len({c.name for c in choices}) == len(choices)


def test_ranks_follow_weight_norms():
    model = randomise(PlainAdd())
    with torch.no_grad():
        for branch in (model.a, model.b):
            for channel in range(8):
                branch[0].weight[channel] = 1.0 + (channel * 3) % 8
    net = Supernet.from_model(model, torch.rand(2, 1, 8, 8))
    expected = torch.tensor([(c * 3) % 8 for c in range(8)]).argsort(descending=True).argsort()
    assert torch.equal(net.rank(net.groups["a.0"].name), expected)


def test_float_space_reproduces_the_model():
    model = randomise(Mixture())
    x = torch.randn(4, 3, 16, 16)
    net = Supernet.from_model(model, x, SearchSpace((32,), (32,), (1.0,)))
    torch.testing.assert_close(net(x), model(x))


def test_summary_names_every_node_and_says_why_pinned():
    net = net_of(Mixture())
    text = net.summary()
    assert all(node.name in text for node in net.nodes)
    assert "the network's output" in text


class Unknown(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.strange = layer
        self.fc = nn.Linear(3 * 16 * 16, 2)

    def forward(self, x):
        return self.fc(self.strange(x).flatten(1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 2)

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        return self.fc(x.flatten(1))


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x), x


class Divide(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 2)

    def forward(self, x):
        return self.fc((2 / x).flatten(1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unknown(nn.PixelShuffle(1)), "PixelShuffle 'strange'"),
        (Unknown(nn.Conv2d(3, 3, 3, padding="same", padding_mode="reflect")), "padding"),
        (Unknown(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), "count_include_pad"),
        (Branches(), "control flow that depends on the data"),
        (TwoOutputs(), "returns its input as '1'"),
        (Divide(), "a constant divided by a tensor"),
        (Unknown(nn.Linear(7, 7)), "does not fit"),
    ],
)
def test_what_cannot_be_converted_says_so(model, message):
    with pytest.raises(InputError, match=message):
        Supernet.from_model(model, torch.randn(2, 3, 16, 16))


def test_wrong_input_and_nan_weights():
    with pytest.raises(InputError, match="expected \\(batch, channels, height, width\\)"):
        Supernet.from_model(Mixture(), torch.randn(3, 16, 16))
    model = Mixture()
    model.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"fc\.weight: holds NaN"):
        Supernet.from_model(model, torch.randn(2, 3, 16, 16))


def test_unknown_pin_names_the_nearest_layer():
    with pytest.raises(InputError, match=r"the nearest is 'blocks\.0\.conv1'"):
        net_of(Mixture(), space=SearchSpace(pin={"blocks.0.con1": {"width": 1.0}}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": ()}, "weight_bits: empty"),
        ({"weight_bits": (8, 4)}, "not strictly ascending"),
        ({"act_bits": (4, 9)}, "from 1 to 8"),
        ({"weight_bits": (1, 8)}, "ternary"),
        ({"widths": (0.5, 1.5)}, r"\(0, 1\]"),
        ({"pin": {"conv": {"bits": 8}}}, "unknown word 'bits'"),
        ({"weight_bits": 8}, r"space\.weight_bits: 8 is not a list; expected options such as \(2, 4, 8\)"),
        ({"act_bits": "48"}, r"space\.act_bits: '48' is not a list"),
        ({"act_bits": (4.5, 8)}, r"space\.act_bits: \[4\.5, 8\]: bits are integers from 1 to 8"),
        ({"act_bits": (True, 8)}, r"space\.act_bits: True is not a number"),
        ({"weight_bits": (8, 32)}, r"space\.weight_bits: \[8, 32\]: bits are integers from 2 to 8 \(or 32 alone"),
        ({"weight_bits": (8,), "act_bits": (32,)}, r"space\.act_bits: \[32\] beside weight_bits \[8\]: .* 32 alone"),
        ({"weight_bits": (32,), "act_bits": (4, 8)}, r"space\.act_bits: \[4, 8\] beside weight_bits \[32\]"),
        ({"widths": ("a",)}, r"space\.widths: 'a' is not a number"),
        ({"widths": (float("nan"),)}, r"space\.widths: nan: .*\(0, 1\]"),
        ({"channel_multiple": 2.5}, r"space\.channel_multiple: 2\.5 is not a whole number of at least 1"),
        ({"channel_multiple": "4"}, r"space\.channel_multiple: '4' is not a whole number"),
        ({"channel_multiple": 0}, r"space\.channel_multiple: 0 is not a whole number"),
        *(
            ({"first_last_bits": bits}, rf"space\.first_last_bits: {bits!r}: .* from 2 to 8; None")
            for bits in (0, 1, 9, 32, "8", True, 8.0)
        ),
        ({"pin": [4]}, r"space\.pin: \[4\] is not a mapping"),
        ({"pin": {"l": 4}}, r"space\.pin\.l: 4 is not a mapping; pins are \{'conv1'"),
        *(
            (
                {"pin": {"l": {"weight_bits": bits}}},
                rf"space\.pin\.l\.weight_bits: {bits}: bits are integers from 2 to 8",
            )
            for bits in (99, 32, 4.7, 1)
        ),
        ({"pin": {"l": {"act_bits": 0}}}, r"space\.pin\.l\.act_bits: 0: bits are integers from 1 to 8"),
        *(
            ({"pin": {"l": {"width": width}}}, rf"space\.pin\.l\.width: {width}: widths are fractions .*\(0, 1\]")
            for width in (2.0, 64, 0, -1)
        ),
        (
            {"weight_bits": (32,), "act_bits": (32,), "pin": {"l": {"weight_bits": 8}}},
            r"pin\.l\.weight_bits: 8: a float32",
        ),
    ],
)
def test_space_rejects(options, message):
    with pytest.raises(InputError, match=message):
        SearchSpace(**options)


def test_the_same_space_has_the_same_hash_however_its_numbers_are_written():
    spaces = [SearchSpace(widths=(0.5, one), pin={"fc": {"width": one, "weight_bits": 8}}) for one in (1, 1.0)]
    assert spaces[0].hash() == spaces[1].hash() != SearchSpace(widths=(0.5, 1.0)).hash()


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"fc": {"width": 0.5}}, r"pin\.fc\.width: 0\.5: .*the network's output; only 1\.0 is possible"),
        ({"fc": {"act_bits": 8}}, r"pin\.fc\.act_bits: 8: the network's output is not quantized"),
        ({"max_pool2d": {"act_bits": 8}}, r"max_pool2d\.act_bits: 8: max_pool has the bits .* pin 'bottleneck\.0'"),
        ({"max_pool2d": {"weight_bits": 8}}, r"max_pool2d\.weight_bits: 8: max_pool has no weights"),
        (
            {"stem.1": {"width": 0.5}, "blocks.0.conv2": {"width": 1.0}},
            r"conv2\.width: 1: tied with 'stem\.1', .* to 0\.5",
        ),
    ],
)
def test_pins_without_effect_and_pins_that_differ_are_refused(pin, message):
    with pytest.raises(InputError, match=message):
        net_of(Mixture(), space=SearchSpace(pin=pin))


def test_pins_of_tied_layers_may_agree():
    net = net_of(Mixture(), space=SearchSpace(pin={n: {"width": 0.5} for n in ("stem.1", "blocks.0.conv2")}))
    assert net.width["stem.1"].options == (8,)
    assert net_of(Mixture(), space=SearchSpace(pin={"fc": {"width": 1.0}})).width["fc"].options == (10,)


class Joined(nn.Module):
    """A concat of the image and a layer: one number of bits for both."""

    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(11, 4, 1)

    def forward(self, x):
        return self.fc(torch.cat([x, self.a(x)], 1)).mean((2, 3))


def test_pins_of_tensors_with_the_same_bits_must_agree():
    with pytest.raises(InputError, match=r"space\.pin\.a\.act_bits: 4: tied with 'x', which is pinned to 8"):
        net_of(Joined(), space=SearchSpace(pin={"a": {"act_bits": 4}}))
    pinned = net_of(Joined(), space=SearchSpace(pin={"a": {"act_bits": 4}, "x": {"act_bits": 4}}))
    assert pinned.act["a"].options == (4,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": Mixture}, r"model: the class Mixture; expected an instance of nn\.Module"),
        ({"model": torch.relu}, "model: a builtin_function_or_method; expected an instance"),
        ({"example": [[1.0]]}, r"example input: a list; expected a tensor \(batch, channels, height, width\)"),
        ({"example": torch.zeros(2, 3, 16, 16).numpy()}, "example input: a ndarray; expected a tensor"),
        ({"example": torch.zeros(0, 3, 16, 16)}, r"example input: shape \(0, 3, 16, 16\) holds no values"),
        ({"example": torch.full((2, 3, 16, 16), torch.nan)}, "example input: holds NaN or infinite"),
        ({"example": torch.full((2, 3, 16, 16), torch.inf)}, "example input: holds NaN or infinite"),
        ({"mean": torch.zeros(3)}, "std: not given; give both mean and std, or neither"),
        ({"std": torch.ones(3)}, "mean: not given; give both"),
        ({"mean": [0.0] * 3, "std": torch.ones(3)}, "mean: a list; expected a tensor of 3 numbers"),
        ({"mean": torch.zeros(3), "std": torch.ones(1)}, r"std: shape \(1,\); expected a tensor of 3 numbers"),
        ({"mean": torch.full((3,), torch.nan), "std": torch.ones(3)}, r"mean: \[nan, nan, nan\]: expected finite"),
        ({"mean": torch.zeros(3), "std": torch.zeros(3)}, r"std: \[0\.0, 0\.0, 0\.0\]: expected positive finite"),
    ],
)
def test_arguments_that_are_no_model_no_batch_and_no_normalisation(change, message):
    given = {"model": randomise(Mixture()), "example": torch.randn(2, 3, 16, 16), "mean": None, "std": None, **change}
    with pytest.raises(InputError, match=message):
        Supernet.from_model(given["model"], given["example"], None, given["mean"], given["std"])


def test_a_negative_variance_is_named():
    model = randomise(Mixture())
    norm = next(name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d))
    model.get_submodule(norm).running_var[1] = -0.5
    with pytest.raises(InputError, match=rf"{norm}\.running_var: -0\.5 is no variance"):
        Supernet.from_model(model, torch.randn(2, 3, 16, 16))


def test_space_loads_from_yaml(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("weight_bits: [4, 8]\nwidths: [0.5, 1.0]\n")
    assert SearchSpace.load(path) == SearchSpace(weight_bits=(4, 8), widths=(0.5, 1.0))
    path.write_text("weigth_bits: [4, 8]\n")
    with pytest.raises(InputError, match="unknown option 'weigth_bits'"):
        SearchSpace.load(path)
    path.write_text("weight_bits: 8\n")
    with pytest.raises(InputError, match=r"space\.yaml: space\.weight_bits: 8 is not a list"):
        SearchSpace.load(path)
    with pytest.raises(InputError, match="no such file"):
        SearchSpace.load(tmp_path / "none.yaml")
    path.write_text("!!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="values are not read"):
        SearchSpace.load(path)


def test_conversion_calibrates_every_step():
    net = net_of(Mixture())
    for name in net.weight:
        steps = net.layer(name).steps()
        assert (steps < 1).all()
        assert (steps.diff(dim=0) < 0).all()  # more bits, finer steps
    for name, choice in net.act.items():
        assert choice.pinned or (net.quantizer(name).step.diff() < 0).all()
        assert (net.quantizer(name).step > 1e-6).all()
