"""A user's model becomes the parts of a supernet: nodes, width groups, layers, quantizers, choices, ranks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lut.errors import InputError

from .choice import Choice
from .codes import islands, share_quantizers, signs
from .frozen import train_as
from .fuse import fuse
from .heads import split_off
from .layers import ChannelNorm, MixedConv2d, MixedLayer, MixedLinear
from .network import KINDS
from .nodes import FLOATS, Node, last_layers
from .outputs import Form
from .patterns import recognised
from .primitives import Traced
from .quantizers import ActQuantizer
from .shared import share
from .space import SearchSpace
from .ties import Layout, tie
from .trace import trace
from .widths import width_choice, width_sets

Pins = dict[str, dict[str, float]]
"""Fixed values by node name and word."""
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules that run another one, and where it is."""


class Parts(NamedTuple):
    """The arguments of QuantNetwork, in order."""

    nodes: list[Node]
    outputs: tuple[str, ...]
    form: Form
    layout: Layout
    layers: dict[str, MixedLayer]
    norms: dict[str, ChannelNorm]
    quantizers: dict[str, ActQuantizer]
    ranks: dict[str, Tensor]
    choices: dict[str, dict[str, Choice]]
    mean: Tensor
    std: Tensor


def read(model: nn.Module, example: Tensor) -> Traced:
    """The primitives of a user's model, checked. Raises InputError."""
    _check(model, example)
    traced = split_off(recognised(trace(model, example)))
    share(traced.ops)
    if not any(raw.op in ("conv", "linear") for raw in traced.ops):
        raise InputError(f"{type(model).__name__}: no convolution or linear layer to search")
    return traced


def convert(traced: Traced, example: Tensor, space: SearchSpace, mean: Tensor | None, std: Tensor | None) -> Parts:
    """See Supernet.from_model."""
    nodes, outputs = fuse(traced)
    nodes = nodes if space.is_float else islands(nodes)
    mean, std = _encoding(example, mean, std)
    layout, choices = _choices(nodes, tie(nodes), space)
    layers = {n.name: _layer(n, choices["weight_bits"][n.name].options) for n in nodes if n.layer is not None}
    norms = {n.name: ChannelNorm(n.norm) for n in nodes if isinstance(n.norm, nn.LayerNorm)}
    quantizers = {
        name: ActQuantizer(choices["act_bits"][name].options, signed)
        for name, signed in signs(nodes, bool((mean > 0).any())).items()
    }
    ranks = _ranks(nodes, layout)
    stripped = [replace(node, layer=None, norm=None) for node in nodes]
    return Parts(stripped, outputs, traced.form, layout, layers, norms, quantizers, ranks, choices, mean, std)


def _check(model: nn.Module, example: Tensor) -> None:
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"model: {what}; expected an instance of nn.Module, such as Net()")
    if not isinstance(example, Tensor):
        raise InputError(
            f"example input: a {type(example).__name__}; expected a tensor (batch, channels, height, width)"
        )
    name = type(model).__name__
    for wrapper, inner in WRAPPERS.items():
        if any(kind.__name__ == wrapper for kind in type(model).__mro__):
            raise InputError(f"{name}: it only runs another module; give that to from_model: model.{inner}")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(f"{name}: it was compiled by torch.jit; give from_model the module that it was made of")
    if not example.is_floating_point():
        raise InputError(f"example input: {example.dtype}; expected floats, normalised as in training")
    if not example.numel():
        raise InputError(f"example input: shape {tuple(example.shape)} holds no values; give at least one image")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise InputError(f"{name}: it has no shape yet; run the model on an example first")
        if tensor.device != example.device:
            raise InputError(f"{name}: on {tensor.device}, and the example input on {example.device}; move one of them")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name}: holds NaN or infinite values; load a sound checkpoint first")
        if name.endswith("running_var") and (tensor < 0).any():
            raise InputError(f"{name}: {tensor.min().item():.3g} is no variance, which is at least 0; load a sound "
                             "checkpoint first")  # fmt: skip
    if not torch.isfinite(example).all():
        raise InputError("example input: holds NaN or infinite values; give images normalised as in training")


def _encoding(example: Tensor, mean: Tensor | None, std: Tensor | None) -> tuple[Tensor, Tensor]:
    """Per-channel (mean, std) in byte units; from the example's range when not given."""
    if mean is not None or std is not None:
        for name, value in (("mean", mean), ("std", std)):
            _check_normalisation(name, value, example.shape[1])
        return mean.float().clone(), std.float().clone()  # type: ignore[union-attr]
    low, high = example.amin((0, 2, 3)).float(), example.amax((0, 2, 3)).float()
    span = (high - low).clamp_min(1e-6)
    return -low * 255 / span, 255 / span


def _check_normalisation(name: str, value: Any, channels: int) -> None:
    if value is None:
        raise InputError(f"{name}: not given; give both mean and std, or neither: the example's range tells them")
    if not isinstance(value, Tensor) or value.shape != (channels,):
        shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(f"{name}: {shown}; expected a tensor of {channels} numbers, one per input channel")
    if not torch.isfinite(value).all() or (name == "std" and (value <= 0).any()):
        kind = "positive finite" if name == "std" else "finite"
        raise InputError(f"{name}: {value.tolist()}: expected {kind} numbers, one per input channel")


def _layer(node: Node, bits: tuple[int, ...]) -> MixedLayer:
    assert node.layer is not None
    weight = node.layer.weight.detach().clone()
    bias = None if node.layer.bias is None else node.layer.bias.detach().clone()
    norm = copy.deepcopy(node.norm)
    assert not isinstance(norm, nn.LayerNorm)
    linear = isinstance(node.layer, nn.Linear)
    layer = (
        MixedLinear(weight, bias, bits, norm, node.act_high) if linear else MixedConv2d(node, weight, bias, bits, norm)
    )
    train_as(layer, node.layer)
    return layer


def _pins(nodes: list[Node], space: SearchSpace) -> Pins:
    """Pins per node name, of the space and by default. InputError for a layer that is not there."""
    weighted = [node.name for node in nodes if node.layer is not None]
    names = [node.name for node in nodes]
    pins: Pins = {nodes[0].name: {"act_bits": 8}}
    listed = {node.name: node.weights for node in nodes}
    asked = {listed.get(name) for name, words in space.pin.items() if "weight_bits" in words}
    for node in nodes:
        if node.one_weight and node.weights not in asked:
            pins[node.weights] = {"weight_bits": space.weight_bits[0]}
    if space.first_last_bits is not None and not space.is_float:
        for name in (weighted[0], *last_layers(nodes)):
            if listed[name] not in asked:
                pins.setdefault(listed[name], {})["weight_bits"] = space.first_last_bits
    for name, words in space.pin.items():
        if name not in names:
            near = get_close_matches(name, names, 1, 0)
            raise InputError(f"space.pin.{name}: no such layer; the nearest is '{near[0] if near else weighted[0]}'")
        pins.setdefault(name, {}).update(words)
    return pins


def _check_pins(nodes: list[Node], layout: Layout, pins: Pins, owners: Mapping[str, str]) -> None:
    """InputError for a pin that has no effect, and for two of one choice that differ. owners: as share_quantizers'."""
    seen: dict[tuple[str, str], tuple[str, float]] = {}
    for node in nodes:
        for word, value in pins.get(node.name, {}).items():
            where, choices = f"space.pin.{node.name}.{word}: {value:g}", list[str]()
            if word == "weight_bits" and node.layer is None:
                raise InputError(f"{where}: {node.kind} has no weights")
            if word == "weight_bits":
                choices = [node.weights]
            if word == "act_bits":
                if node.name not in owners:
                    raise InputError(f"{where}: {_uncoded(node)}")
                choices = [owners[node.name]]
            if word == "width":
                choices = [group.name for group in layout[node.name]]
                if value != 1 and (reasons := [group.pinned for group in layout[node.name] if group.pinned]):
                    raise InputError(f"{where}: all of its channels are needed: {reasons[0]}; only 1.0 is possible")
            for choice in choices:
                other, before = seen.setdefault((word, choice), (node.name, value))
                if before != value:
                    raise InputError(f"{where}: tied with '{other}', which is pinned to {before:g}; pin one of them, "
                                     "or both alike")  # fmt: skip


def _uncoded(node: Node) -> str:
    """Why a node has no activation bits of its own."""
    if node.output:
        return "the network's output is not quantized"
    if node.kind in FLOATS:
        return f"{node.kind} makes float32; pin what quantizes it"
    return f"{node.kind} has the bits of what it reads; pin '{node.inputs[0]}'"


def _choices(nodes: list[Node], layout: Layout, space: SearchSpace) -> tuple[Layout, dict[str, dict[str, Choice]]]:
    """(the layout with every group's channel counts, choices by kind and name)."""
    pins = _pins(nodes, space)
    found: dict[str, dict[str, Choice]] = {kind: {} for kind in KINDS}
    count = 0
    owners = share_quantizers(nodes)
    if not space.is_float:
        _check_pins(nodes, layout, pins, owners)
    sets = width_sets(nodes, layout, space, {n: words["width"] for n, words in pins.items() if "width" in words})

    def add(kind: str, name: str, options: tuple[int, ...]) -> Choice:
        nonlocal count
        found[kind][name] = Choice(f"{name}.{kind}", kind, options, count)
        count += 1
        return found[kind][name]

    bits = {n.weights: int(pins[n.name]["weight_bits"]) for n in nodes if "weight_bits" in pins.get(n.name, {})}
    for node in nodes:
        for groups in sets:
            if groups[0].maker == node.name:
                found["width"] |= width_choice(groups, partial(add, "width"))
        if node.layer_of:
            found["weight_bits"][node.name] = found["weight_bits"][node.layer_of]
        elif node.layer is not None:
            add("weight_bits", node.name, (bits[node.name],) if node.name in bits else space.weight_bits)
        if node.kind == "mix":
            add("op", node.name, tuple(range(len(node.inputs))))
        if not node.quantizes:
            continue
        if (owner := owners[node.name]) != node.name:
            found["act_bits"][node.name] = found["act_bits"][owner]
            continue
        pinned = [pins[n]["act_bits"] for n, o in owners.items() if o == owner and "act_bits" in pins.get(n, {})]
        add("act_bits", node.name, (int(pinned[0]),) if pinned and not space.is_float else space.act_bits)
    counted = {group.name: group for groups in sets for group in groups}
    return {name: tuple(counted[group.name] for group in row) for name, row in layout.items()}, found


def _ranks(nodes: list[Node], layout: Layout) -> dict[str, Tensor]:
    """Importance rank per channel: L1 norm of the weights that make it (Li et al. 2017), times |gamma| / sigma."""
    scores = {group.name: torch.zeros(group.channels) for row in layout.values() for group in row}
    for node in nodes:
        if node.layer is None:
            continue
        score = node.layer.weight.detach().float().cpu().abs().flatten(1).sum(1)
        if isinstance(node.norm, nn.BatchNorm2d):
            gain = node.norm.weight.detach().abs() / (node.norm.running_var + node.norm.eps).sqrt()  # type: ignore
            score = score * gain.float().cpu()
        score = score / score.sum().clamp_min(1e-12)
        row = layout[node.name]
        for group, part in zip(row, score.split([group.channels for group in row])):
            scores[group.name] += part
    return {name: score.argsort(descending=True, stable=True).argsort() for name, score in scores.items()}
