"""Data, model, loss and metric that the settings name: of the registry, or of a person's own files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from lut.errors import InputError
from supernet.networks import BUILDERS, build, pretrained
from supernet.outputs import described
from supernet.skip import skippable

from . import data as datasets
from .config import PriceConfig, RunConfig
from .dataset import DataSource
from .evaluate import one_tensor, top1
from .outcome import TOP1
from .train import smoothed_cross_entropy
from .user_code import UserCodeError, call, load, user_dataset


@dataclass(frozen=True)
class Sources:
    """What a run trains on. pretrained: the model came with trained weights, so no float training is needed. scored:
    the metric's name, TOP1 or what a person gave; classes: whether the outputs are scores of classes."""

    data: DataSource
    model: nn.Module
    loss: Callable[..., Any]
    metric: Callable[..., Any]
    pretrained: bool
    classes: bool
    scored: str = TOP1


def load_sources(config: RunConfig) -> Sources:
    """Raises InputError for what does not exist or does not fit, UserCodeError for user code that raises."""
    own_loss = config.model.loss
    data = _data(config, classes=own_loss is None)
    model, ready, data = _model(config, data)
    loss = _wrapped(own_loss) if own_loss else smoothed_cross_entropy(config.search.label_smoothing)
    metric = _wrapped(config.model.metric) if config.model.metric else top1 if own_loss is None else _minus(loss)
    x = _check(model, data, config)
    model = skippable(model, config.space.skip, x)
    scored = config.model.metric or (TOP1 if own_loss is None else f"-{own_loss}")
    return Sources(data, model, loss, metric, ready, own_loss is None, scored)


def priced_input(config: RunConfig, data: Any) -> tuple[nn.Module, torch.Tensor] | None:
    """The network and an example of the input for which costs count, when it is not the data's."""
    price, name = config.price, config.model.name
    if price == PriceConfig():
        return None
    if name not in BUILDERS:
        raise InputError(f"price: {name}: only a network of the registry can be built for another input")
    rows, cols = data.image_size if price.image_size is None else (price.image_size, price.image_size)
    channels, classes = price.channels or data.channels, price.classes or data.num_classes
    example = torch.zeros(1, channels, rows, cols)
    return skippable(build(name, classes, channels, (rows, cols)).eval(), config.space.skip, example), example


def _data(config: RunConfig, classes: bool) -> Any:
    name = config.data.name
    if ".py:" in name:
        return user_dataset(name, classes)
    if name not in datasets.DATASETS and Path(name).is_dir():  # a folder called digits is given as ./digits
        return datasets.image_folder(name, config.data.image_size)
    return datasets.load(name, config.data.root)


def _model(config: RunConfig, data: Any) -> tuple[nn.Module, bool, Any]:
    name, checkpoint = config.model.name, config.model.checkpoint
    if ".py:" in name:
        model = call(load(name), name)
        if not isinstance(model, nn.Module):
            raise InputError(f"{name}: returned {type(model).__name__}; expected a torch.nn.Module")
    elif checkpoint == "published":
        model, normalisation = pretrained(name, config.data.root)
        if data.name != "cifar10":
            raise InputError(f"model.checkpoint: the published {name} is for cifar10, not {data.name}")
        return model, True, data.normalised(normalisation.mean, normalisation.std)
    else:
        model = build(name, data.num_classes, data.channels, data.image_size) if name in BUILDERS else _unknown(name)
    if checkpoint:
        load_weights(model, checkpoint)
    return model, bool(checkpoint), data


def _unknown(name: str) -> nn.Module:
    if name.endswith(".py"):
        raise InputError(f"model: {name}: name the function that builds the network, {name}:build")
    return build(name, 1, 1, 32)  # raises with the nearest name


def load_weights(model: nn.Module, path: str | Path) -> None:
    """A state_dict from a .safetensors file. InputError when it is missing, damaged or of another network."""
    try:
        state = safetensors.torch.load_file(str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not a sound safetensors file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise InputError(f"{path}: does not fit {type(model).__name__}: {' '.join(lines[1:3]).strip()}") from None


def _wrapped(reference: str) -> Callable[..., Any]:
    """A user's function whose exceptions name where it was called from."""
    function = load(reference)

    def wrapped(output: Any, target: Any) -> Any:
        return call(function, f"{reference}: called with output {described(output)}", output, target)

    return wrapped


def _minus(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Higher is better: the negated loss, where a person gave a loss and no metric."""
    return lambda output, target: -loss(output, target)


def _check(model: nn.Module, data: Any, config: RunConfig) -> torch.Tensor:
    """One batch, which went through the model, so that a wrong shape is known before anything is trained."""
    x, y = next(iter(data.batches("validation", 2)))
    was_training = model.training
    model.eval()
    where = f"model {config.model.name} on {config.data.name} of shape {tuple(x.shape)}"
    try:
        with torch.no_grad():
            output = call(model, where, x)
    except UserCodeError as error:
        if ".py:" in config.model.name:  # theirs to trace
            raise
        raise InputError(str(error).splitlines()[0]) from None
    finally:
        model.train(was_training)
    if config.model.loss is None:
        scores = one_tensor(output, config.model.name)
        if scores.ndim != 2 or len(scores) != len(x):
            raise InputError(f"{where}: returned shape {tuple(scores.shape)}; expected ({len(x)}, classes), scores of "
                             "the images' classes; for anything else give --loss and --metric")  # fmt: skip
        if scores.shape[1] < int(y.max()) + 1:
            raise InputError(f"{where}: {scores.shape[1]} scores for classes up to {int(y.max())}")
    return x
