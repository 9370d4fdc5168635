"""The settings of one run: what a YAML file under scripts/configs/ holds, section by section.

The defaults search ResNet-8 on scikit-learn's digits (32x32) in a few minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lut.errors import InputError
from lut.files import atomic_write
from lut.strict import dump, load, loads, ranged

Compile = Literal["auto", "always", "never"]
"""Of training steps: search.compiled."""
Precision = Literal["float32", "bfloat16"]
"""Of training steps: search.accelerator."""


@dataclass(frozen=True)
class DataConfig:
    """name: one of search.data.DATASETS, else a folder with a sub-folder of images per class, or `file.py:function`."""

    name: str = "digits"
    root: str | None = None  # folder of the archives; else $LUTIER_DATA
    image_size: int = ranged(32, 1)  # pixels to which a folder's images are resized
    augment: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """name: a network of supernet.networks, or `file.py:function` that returns an nn.Module."""

    name: str = "resnet8"
    checkpoint: str | None = None  # .safetensors of float weights, or `published`; else trained from scratch
    loss: str | None = None  # file.py:function(output, target); else cross-entropy
    metric: str | None = None  # file.py:function(output, target), higher is better; else top-1


@dataclass(frozen=True)
class PriceConfig:
    """The input for which costs count, where the network is searched on smaller images than it will see; default the
    data's own. Networks of the registry only."""

    image_size: int | None = ranged(None, 1)  # pixels
    channels: int | None = ranged(None, 1)
    classes: int | None = ranged(None, 2)


@dataclass(frozen=True)
class Recipe:
    """How a network with fixed choices is trained: linear warm-up of the learning rate, then half a cosine to 0."""

    epochs: int = ranged(15, 0)
    batch_size: int = ranged(64, 1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = ranged(0.1, 0.0)
    ramp_epochs: float = ranged(1.0, 0.0)
    momentum: float = ranged(0.9, 0.0, 1.0)
    weight_decay: float = ranged(5e-4, 0.0)
    clip: float | None = ranged(5.0, 0.0)  # largest norm of the gradient
    label_smoothing: float = ranged(0.0, 0.0, 1.0)
    patience: int | None = ranged(None, 1)  # epochs without a better validation metric before stopping
    step_lr: float = ranged(1.0, 0.0)  # learning rate of quantizer steps, relative to lr
    distill: float = ranged(0.0, 0.0, 1.0)  # share of the teacher's term in the loss
    temperature: float = ranged(4.0, 0.1)  # of the teacher's softmax
    compile: Compile = "auto"  # the training step, where it saves more time than it takes
    precision: Precision = "float32"  # of the training step; bfloat16: mixed


@dataclass(frozen=True)
class FinetuneConfig(Recipe):
    """teacher: the float network that the subnet came from, or none (then `distill` is not used)."""

    epochs: int = ranged(20, 0)
    lr: float = ranged(0.05, 0.0)
    weight_decay: float = ranged(1e-4, 0.0)
    step_lr: float = ranged(0.1, 0.0)
    distill: float = ranged(0.5, 0.0, 1.0)
    teacher: Literal["float", "none"] = "float"
    baseline_epochs: int | None = ranged(None, 0)  # a sweep's baselines; null: those of warm-up and search as well


@dataclass(frozen=True)
class PinConfig:
    """Options of one layer that the search may not change."""

    weight_bits: int | None = ranged(None, 2, 8)
    act_bits: int | None = ranged(None, 1, 8)
    width: float | None = ranged(None, 0.01, 1.0)


@dataclass(frozen=True)
class SpaceConfig:
    """The options of every layer; `pin` takes a layer's name to its fixed options, `skip` names the modules that a
    network may do without (supernet.skip)."""

    weight_bits: tuple[int, ...] = ranged((2, 4, 8), 2, 32)  # 2 to 8, or 32 alone: float32
    act_bits: tuple[int, ...] = ranged((2, 4, 8), 1, 32)
    widths: tuple[float, ...] = ranged((0.25, 0.5, 0.75, 1.0), 0.01, 1.0)
    channel_multiple: int = ranged(4, 1)
    first_last_bits: int | None = ranged(8, 2, 8)  # weights of the first and the last layer; null leaves them free
    pin: dict[str, PinConfig] = field(default_factory=dict)
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits", "widths"):
            options = getattr(self, name)
            if not options or list(options) != sorted(set(options)):
                raise InputError(f"{name}: {list(options)} must be ascending, without repeats, and not empty")
            if name != "widths" and options != (32,) and max(options) > 8:
                raise InputError(f"{name}: {list(options)}: bits are at most 8, or 32 alone: float32")


@dataclass(frozen=True)
class SearchConfig:
    """The search loop. `update`: alphas on validation batches after every `arch_every` weight steps (alternate), or
    both from the same training batch (joint). `tau` defaults to what the method's paper has, `penalty` to what
    search.objective does.
    `method`: alphas by gradient descent, or from post-training sensitivity (search.quick) without training."""

    method: Literal["gradient", "sensitivity"] = "gradient"
    relaxation: Literal["softmax", "gumbel", "gumbel_st", "gdas", "two_path", "reinforce"] = "gumbel"
    update: Literal["alternate", "joint"] = "alternate"
    epochs: int = ranged(16, 0)
    warmup_epochs: int = ranged(4, 0)  # weights only, before the alphas move
    batch_size: int = ranged(64, 1)
    lr: float = ranged(0.05, 0.0)
    momentum: float = ranged(0.9, 0.0, 1.0)
    weight_decay: float = ranged(1e-4, 0.0)
    step_lr: float = ranged(0.1, 0.0)
    clip: float | None = ranged(5.0, 0.0)
    label_smoothing: float = ranged(0.0, 0.0, 1.0)
    alpha_lr: float = ranged(0.05, 0.0)
    alpha_decay: float = ranged(0.0, 0.0)
    arch_every: int = ranged(1, 1)  # weight steps, counted over all epochs of the search
    tau: float | None = ranged(None, 1e-3)  # temperature at the start
    tau_end: float | None = ranged(None, 1e-3)
    objective: Literal["lagrangian", "linear", "power", "log"] = "lagrangian"
    penalty: float | None = ranged(None, 0.0)  # first r of lagrangian, lambda of linear, w of power, beta of log
    compile: Compile = "auto"  # as in training
    precision: Precision = "float32"  # as in training
    trial_epochs: int = ranged(2, 0)  # of fine-tuning, before finalists are compared (search.finalists); 0: none are
    seed: int = ranged(0, 0, 2**63 - 1)

    def __post_init__(self) -> None:
        if self.objective == "lagrangian" and self.penalty == 0:
            raise InputError("penalty: 0: the first r of lagrangian must be above 0, or null for its own")


@dataclass(frozen=True)
class ProfileConfig:
    """How rows are measured that the table lacks. schedules: how many of a kernel's are tried, the fastest kept.

    tune: trials of MetaSchedule per row that has a search space, kept where they beat the template.
    """

    schedules: int = ranged(1, 1, 16)
    tune: int = ranged(0, 0, 4096)


@dataclass(frozen=True)
class DeployConfig:
    """validate: measure on the target. tighten: how often a limit that the measured network broke is tightened."""

    validate: bool = True
    tighten: int = ranged(3, 0, 10)
    repeats: int = ranged(7, 1)  # processes over which a measurement is interleaved


@dataclass(frozen=True)
class RunConfig:
    """One run. `table` defaults to tables/<device>.csv, `out` to runs/<date>-<device>-<model>. `sweep`: lists of
    budgets, each as in `latency=80%,weights=60%`, for a Pareto front from one warm-up (search.pareto). accelerator:
    where networks are trained, cpu, cuda, cuda:1 or what else PyTorch knows; `device` is where they will run."""

    device: str = "host-cpu"
    accelerator: str = "cpu"
    table: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    price: PriceConfig = field(default_factory=PriceConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    train: Recipe = field(default_factory=Recipe)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    budgets: tuple[str, ...] = ("latency=60%", "weights=40%")
    sweep: tuple[str, ...] = ()
    deploy: DeployConfig = field(default_factory=DeployConfig)
    out: str | None = None

    @staticmethod
    def read(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
        """From a YAML file and `a.b=value` overrides; InputError says which line is wrong, and what would be right."""
        return load(RunConfig, path, overrides)

    @staticmethod
    def default(overrides: Sequence[str] = ()) -> RunConfig:
        return loads(RunConfig, "", "defaults", overrides)

    def write(self, path: str | Path) -> None:
        """As YAML that `read` takes back to an equal object."""
        atomic_write(path, dump(self))
