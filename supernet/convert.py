"""A user's model becomes the parts of a supernet: nodes, width groups, layers, quantizers, choices, ranks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lut.errors import InputError

from .choice import Choice
from .fuse import Node, fuse
from .layers import MixedConv2d, MixedLayer, MixedLinear
from .network import KINDS, MOVES
from .quantizers import ActQuantizer
from .space import SearchSpace
from .ties import Group, UnionFind, tie
from .trace import trace
from .unary import POSITIVE


class Parts(NamedTuple):
    """The arguments of QuantNetwork, in order."""

    nodes: list[Node]
    groups: dict[str, Group]
    layers: dict[str, MixedLayer]
    quantizers: dict[str, ActQuantizer]
    ranks: dict[str, Tensor]
    choices: dict[str, dict[str, Choice]]
    mean: Tensor
    std: Tensor


def convert(model: nn.Module, example: Tensor, space: SearchSpace, mean: Tensor | None, std: Tensor | None) -> Parts:
    """See Supernet.from_model."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name}: holds NaN or infinite values; load a sound checkpoint first")
    nodes = fuse(trace(model, example))
    if not any(node.layer is not None for node in nodes):
        raise InputError(f"{type(model).__name__}: no convolution or linear layer to search")
    groups = tie(nodes)
    mean, std = _encoding(example, mean, std)
    choices = _choices(nodes, groups, space)
    signed = _signed(nodes, bool((mean > 0).any()))
    layers = {n.name: _layer(n, choices["weight_bits"][n.name].options) for n in nodes if n.layer is not None}
    quantizers = {
        n.name: ActQuantizer(choices["act_bits"][n.name].options, signed[n.name])
        for n in nodes[:-1]
        if n.kind not in MOVES
    }
    ranks = _ranks(nodes, groups)
    stripped = [replace(node, layer=None, norm=None) for node in nodes]
    return Parts(stripped, groups, layers, quantizers, ranks, choices, mean, std)


def _encoding(example: Tensor, mean: Tensor | None, std: Tensor | None) -> tuple[Tensor, Tensor]:
    """Per-channel (mean, std) in byte units; from the example's range when not given."""
    if mean is not None and std is not None:
        if len(mean) != example.shape[1] or len(std) != example.shape[1] or bool((std <= 0).any()):
            raise InputError(f"mean, std: need {example.shape[1]} positive values each, one per input channel")
        return mean.float().clone(), std.float().clone()
    low, high = example.amin((0, 2, 3)).float(), example.amax((0, 2, 3)).float()
    span = (high - low).clamp_min(1e-6)
    return -low * 255 / span, 255 / span


def _layer(node: Node, bits: tuple[int, ...]) -> MixedLayer:
    assert node.layer is not None
    weight = node.layer.weight.detach().clone()
    bias = None if node.layer.bias is None else node.layer.bias.detach().clone()
    if isinstance(node.layer, nn.Linear):
        return MixedLinear(weight, bias, bits, None, node.act_high)
    return MixedConv2d(node, weight, bias, bits, copy.deepcopy(node.norm))


def _signed(nodes: list[Node], signed_input: bool) -> dict[str, bool]:
    """Whether each node's output can be negative."""
    signed: dict[str, bool] = {}
    for node in nodes:
        if node.kind == "input":
            signed[node.name] = signed_input
        elif node.act_high is not None:
            signed[node.name] = False
        elif node.layer is not None:
            signed[node.name] = True
        elif node.kind == "unary":
            signed[node.name] = node.fn not in POSITIVE
        else:
            signed[node.name] = any(signed[name] for name in node.inputs)
    return signed


def _pins(nodes: list[Node], groups: Mapping[str, Group], space: SearchSpace) -> dict[str, dict[str, float]]:
    """Pins per node name, of the space and by default. InputError for a layer that is not there."""
    weighted = [node.name for node in nodes if node.layer is not None]
    pins: dict[str, dict[str, float]] = {nodes[0].name: {"act_bits": 8}}
    if space.first_last_bits is not None and not space.is_float:
        for name in (weighted[0], weighted[-1]):
            pins.setdefault(name, {})["weight_bits"] = space.first_last_bits
    for name, words in space.pin.items():
        if name not in groups:
            near = get_close_matches(name, list(groups), 1, 0)
            raise InputError(f"space.pin.{name}: no such layer; the nearest is '{near[0] if near else weighted[0]}'")
        pins.setdefault(name, {}).update(words)
    return pins


def _choices(nodes: list[Node], groups: Mapping[str, Group], space: SearchSpace) -> dict[str, dict[str, Choice]]:
    pins = _pins(nodes, groups, space)
    found: dict[str, dict[str, Choice]] = {kind: {} for kind in KINDS}
    count = 0
    owners = _bit_owners(nodes)

    def add(kind: str, name: str, options: tuple[int, ...]) -> None:
        nonlocal count
        found[kind][name] = Choice(f"{name}.{kind}", kind, options, count)
        count += 1

    for node in nodes:
        group = groups[node.name]
        if group.name == node.name:
            pinned = [pins[m]["width"] for m in group.members if "width" in pins.get(m, {})]
            fractions = (1.0,) if group.pinned or space.is_float else (pinned[0],) if pinned else None
            add("width", group.name, space.channel_options(group.channels, fractions))
        own = pins.get(node.name, {})
        if node.layer is not None:
            add("weight_bits", node.name, (int(own["weight_bits"]),) if "weight_bits" in own else space.weight_bits)
        if node.kind == "mix":
            add("op", node.name, tuple(range(len(node.inputs))))
        if node.kind in MOVES or node is nodes[-1]:
            continue
        if (owner := owners[node.name]) != node.name:
            found["act_bits"][node.name] = found["act_bits"][owner]
            continue
        pinned = [pins[n]["act_bits"] for n, o in owners.items() if o == owner and "act_bits" in pins.get(n, {})]
        add("act_bits", node.name, (int(pinned[0]),) if pinned and not space.is_float else space.act_bits)
    return found


def _bit_owners(nodes: list[Node]) -> dict[str, str]:
    """For every quantizer the first of those with the same bits: a mix has one number of bits."""
    sources: dict[str, set[str]] = {}  # quantizers that may have made a tensor
    tied = UnionFind(node.name for node in nodes)
    for node in nodes:
        sources[node.name] = {q for n in node.inputs for q in sources[n]} if node.kind in MOVES else {node.name}
        first, *others = sources[node.name]
        for name in others:
            tied.union(first, name)
    return {node.name: tied.find(node.name) for node in nodes if node.kind not in MOVES}


def _ranks(nodes: list[Node], groups: Mapping[str, Group]) -> dict[str, Tensor]:
    """Importance rank per channel: L1 norm of the weights that make it (Li et al. 2017), times |gamma| / sigma."""
    scores = {group.name: torch.zeros(group.channels) for group in groups.values()}
    for node in nodes:
        if node.layer is None:
            continue
        score = node.layer.weight.detach().float().abs().flatten(1).sum(1)
        if node.norm is not None:
            gain = node.norm.weight.detach().abs() / (node.norm.running_var + node.norm.eps).sqrt()  # type: ignore
            score = score * gain.float()
        scores[groups[node.name].name] += score / score.sum().clamp_min(1e-12)
    return {name: score.argsort(descending=True, stable=True).argsort() for name, score in scores.items()}
