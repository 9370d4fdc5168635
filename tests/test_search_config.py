"""Settings: defaults, round trip, overrides, and an error with line, path and cure for every kind of mistake."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from lut.device import Device
from lut.errors import InputError
from lut.strict import dump, loads
from search.budget import Budget
from search.config import DataConfig, PinConfig, RunConfig
from supernet.networks import BUILDERS
from supernet.space import SearchSpace


def test_defaults_dump_and_read_back_equal(tmp_path):
    config = RunConfig.default(["space.pin.stem={width: 0.5}", "search.alpha_lr=1e-3", "budgets=[latency=5ms]"])
    config.write(tmp_path / "config.yaml")
    assert RunConfig.read(tmp_path / "config.yaml") == config
    assert config.space.pin == {"stem": PinConfig(width=0.5)}
    assert config.search.alpha_lr == 0.001
    assert config.budgets == ("latency=5ms",)


def test_every_default_lies_in_its_own_range():
    assert loads(RunConfig, dump(RunConfig())) == RunConfig()


def test_the_space_section_mirrors_the_search_space():
    mirrored = {f.name for f in dataclasses.fields(RunConfig().space)}
    assert mirrored - {"skip"} == {f.name for f in dataclasses.fields(SearchSpace)}, "skip changes the model instead"


def test_a_file_is_overridden_by_set(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("device: x86\nsearch:\n  epochs: 3\n")
    config = RunConfig.read(path, ["search.epochs=4", "finetune.teacher=none", "out=runs/a"])
    assert (config.device, config.search.epochs, config.finetune.teacher, config.out) == ("x86", 4, "none", "runs/a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search:\n  alpha_lrr: 1\n", r"f.yaml:2: search.alpha_lrr: unknown key; did you mean alpha_lr\?"),
        ("serach: {}\n", r"f.yaml:1: serach: unknown key; did you mean search\?"),
        ("device: a\n\nsearch:\n  epochs: many\n", r"f.yaml:4: search.epochs: 'many' is not a whole number"),
        ("search:\n  epochs: 1.5\n", r"f.yaml:2: search.epochs: 1.5 is not a whole number"),
        ("search:\n  epochs: true\n", r"f.yaml:2: search.epochs: True is not a whole number"),
        ("search:\n  epochs: null\n", r"f.yaml:2: search.epochs: None is not a whole number"),
        ("search:\n  epochs: -1\n", r"f.yaml:2: search.epochs: -1 is out of range; expected at least 0"),
        ("search:\n  momentum: 1.5\n", r"search.momentum: 1.5 is out of range; expected 0.0 to 1.0"),
        ("search:\n  lr: .nan\n", r"search.lr: nan is not a finite number"),
        ("search:\n  relaxation: gumble\n", r"f.yaml:2: search.relaxation: 'gumble' .* did you mean gumbel\?"),
        ("space:\n  weight_bits: 8\n", r"f.yaml:2: space.weight_bits: 8 is not a list"),
        ("space:\n  weight_bits:\n  - 4\n  - 9\n", r"space.weight_bits: .4, 9.: bits are at most 8, or 32 alone"),
        ("space:\n  weight_bits:\n  - 4\n  - x\n", r"f.yaml:4: space.weight_bits.1: 'x' is not a whole number"),
        ("space:\n  weight_bits: [8, 4]\n", r"f.yaml:2: space.weight_bits: \[8, 4\] must be ascending"),
        ("space:\n  pin:\n    conv1: {widht: 1}\n", r"f.yaml:3: space.pin.conv1.widht: .* did you mean width\?"),
        ("space:\n  pin: 3\n", r"f.yaml:2: space.pin: 3 is not a mapping"),
        ("search: 3\n", r"f.yaml:1: search: 3 is not a section"),
        ("[1, 2]\n", r"f.yaml:1: \[1, 2\] is not a section"),
        ("data:\n  augment: 1\n", r"f.yaml:2: data.augment: 1 is not true or false"),
        ("device: a\ndevice: b\n", r"f.yaml:2: device: given twice"),
        ("device: [a\n", r"f.yaml:2: not YAML"),
    ],
)
def test_mistakes_name_line_path_and_cure(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        RunConfig.read("f.yaml")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("search.epoch=3", r"--set: search.epoch: unknown key; did you mean epochs\?"),
        ("search.epochs=x", r"--set: search.epochs: 'x' is not a whole number"),
        ("search", r"--set search: expected section.name=value"),
        ("device.a=1", r"device: {'a': 1} is not text"),
        ("budgets=[", r"--set budgets:1: not YAML"),
    ],
)
def test_bad_overrides(item, message):
    with pytest.raises(InputError, match=message):
        RunConfig.default([item])


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: no such file"):
        RunConfig.read(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        RunConfig.read(tmp_path / "b.yaml")


def test_a_field_without_default_is_required():
    @dataclasses.dataclass
    class Needs:
        a: int
        b: str = "x"

    with pytest.raises(InputError, match="config:1: a: missing"):
        loads(Needs, "b: y")


def test_the_dump_is_plain_yaml():
    assert yaml.safe_load(dump(DataConfig())) == dataclasses.asdict(DataConfig())


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "scripts" / "configs").glob("*.yaml")), ids=str)
def test_every_config_that_ships_names_things_that_exist(path):
    config = RunConfig.read(path)
    device = Device.load(config.device)
    assert config.model.name in BUILDERS
    for name in ("weight_bits", "act_bits"):
        assert set(getattr(config.space, name)) <= set(getattr(device.supports, name))
    for budget in config.budgets:
        Budget.parse(budget)
