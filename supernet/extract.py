"""An architecture is cut out of the supernet: channels truly removed, one quantizer step kept per tensor.

In float64 and eval mode the subnet equals the supernet fixed to the architecture up to the order of summation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .arch import Arch
from .convert import Parts
from .frozen import train_as
from .layers import ChannelNorm, MixedConv2d, MixedLayer, MixedLinear
from .network import QuantNetwork
from .nodes import Node
from .ops import schedule_of
from .quantizers import ActQuantizer
from .schedule import Schedule
from .shared import owned
from .supernet import Supernet
from .ties import Group, Layout


class Subnet(QuantNetwork):
    """One architecture: every choice has one option. `arch` is the one it was cut by."""

    def __init__(self, parts: Parts, arch: Arch):
        super().__init__(*parts)
        self.arch = arch
        self.priced: Schedule | None = None

    def forward(self, x: Tensor) -> Any:
        """What the model returns of a normalised batch (n, C, H, W)."""
        return self.run(x, None)

    def schedule(self) -> Schedule:
        """What it costs: its own operators, or those for the input that the supernet was priced for."""
        return self.priced or schedule_of(self)

    def values(self) -> dict[str, int]:
        """Value of every choice by name."""
        return {choice.name: choice.options[0] for choice in self.choices()}

    @property
    def is_float(self) -> bool:
        return any(choice.options == (32,) for choice in self.weight.values())


def _kept(net: Supernet, values: Mapping[str, int]) -> dict[str, Tensor]:
    """Kept channel indices, in their old order, by group name."""
    kept = {}
    for group in {group.name: group for row in net.layout.values() for group in row}.values():
        choice = net.width[group.name]
        count = group.counts[choice.position(values[choice.name])]
        kept[group.name] = torch.nonzero(net.rank(group.name) < count).flatten()
    return kept


def _channels(row: tuple[Group, ...], kept: Mapping[str, Tensor]) -> Tensor:
    """Kept channel indices of a tensor that is these groups in a row."""
    found, start = [], 0
    for group in row:
        found.append(kept[group.name] + start)
        start += group.channels
    return torch.cat(found)


def _chosen(net: Supernet, values: Mapping[str, int]) -> dict[str, str]:
    """The node that makes each tensor that exists in the architecture; for a mix, its candidate's."""
    made: dict[str, str] = {}
    for node in net.nodes:
        if node.kind == "mix":
            if (source := node.inputs[values[net.op[node.name].name]]) in made:
                made[node.name] = made[source]
        elif all(values[net.op[mix].name] == at for mix, at in node.when):
            made[node.name] = node.name
    return made


def _norm(norm: nn.BatchNorm2d | None, keep: Tensor) -> nn.BatchNorm2d | None:
    if norm is None:
        return None
    cut = nn.BatchNorm2d(len(keep), norm.eps, norm.momentum)
    state = {k: v if v.dim() == 0 else v[keep] for k, v in norm.state_dict().items()}
    cut.to(next(norm.parameters()))
    cut.load_state_dict(state)
    train_as(cut, norm)
    return cut


def _cut_layer(net: Supernet, node: Node, cut: Node, into: Tensor, out: Tensor, option: int, bits: int) -> MixedLayer:
    layer = net.layer(node.name)
    weight = layer.weight.detach()[out]
    if node.kind == "linear":
        channels = sum(group.channels for group in net.layout[node.inputs[0]])
        weight = weight.unflatten(1, (channels, -1))[:, into].flatten(1)
    elif not node.depthwise:
        weight = weight[:, into[into < weight.shape[1]]]  # the groups of a grouped convolution keep the same ones
    bias = None if layer.bias is None else layer.bias.detach()[out].clone()
    if node.kind == "linear":
        small: MixedLayer = MixedLinear(weight.clone(), bias, (bits,), _norm(layer.norm, out), node.act_high)
    else:
        small = MixedConv2d(cut, weight.clone(), bias, (bits,), _norm(layer.norm, out))
    if layer.step is not None and small.step is not None:
        small.step = nn.Parameter(layer.step.detach()[option : option + 1, out].clone())
    train_as(small, layer, "weight", "bias", "step")
    return small


def _layer_norm(norm: ChannelNorm, keep: Tensor) -> ChannelNorm:
    cut = nn.LayerNorm(len(keep), norm.eps)
    cut.weight, cut.bias = (nn.Parameter(old.detach()[keep].clone()) for old in (norm.weight, norm.bias))
    train_as(cut, norm)
    return ChannelNorm(cut)


def _group(group: Group, kept: Tensor, names: set[str]) -> Group:
    members = tuple(member for member in group.members if member in names)
    return replace(group, channels=len(kept), members=members, counts=(len(kept),))


def _gather(node: Node, into: Tensor, out: Tensor) -> tuple[int, ...] | None:
    if node.gather is None:
        return None
    position = {int(c): i for i, c in enumerate(into)}
    return tuple(position.get(node.gather[int(c)], -1) for c in out)


def extract(net: Supernet, arch: Arch | Mapping[str, int]) -> Subnet:
    """Cut `arch` out of `net`; the supernet is left as it was. InputError when it is not one of the net's."""
    values = net.check(arch)
    kept = _kept(net, values)
    nodes, layers, norms, quantizers = [], {}, {}, {}
    chosen = _chosen(net, values)
    for node in net.nodes:
        if node.name not in chosen or node.kind == "mix":
            continue
        node = replace(node, inputs=tuple(chosen[name] for name in node.inputs), when=())
        out = _channels(net.layout[node.name], kept)
        into = _channels(net.layout[node.inputs[0]], kept) if node.inputs else out
        groups = len(out) if node.depthwise else node.groups
        cut = replace(node, shape=(len(out), *node.shape[1:]), groups=groups, gather=_gather(node, into, out),
                      start=int((into < node.start).sum()))  # fmt: skip
        nodes.append(cut)
        if node.kind == "layer_norm":
            norms[node.name] = _layer_norm(net.channel_norm(node.name), out)
        if node.name in net.weight:
            choice = net.weight[node.name]
            bits = values[choice.name]
            layers[node.name] = _cut_layer(net, node, cut, into, out, choice.position(bits), bits)
        if node.name in net.act:
            choice = net.act[node.name]
            bits = values[choice.name]
            old, owner = net.quantizer(node.name), node.quantizer or node.name
            quantizers[owner] = ActQuantizer((bits,), old.signed)
            if old.step is not None:
                index = choice.position(bits)
                quantizers[owner].step = nn.Parameter(old.step.detach()[index : index + 1].clone())
                train_as(quantizers[owner], old, "step")
    owned(nodes)
    names = {node.name for node in nodes}
    layout: Layout = {}
    for node in nodes:
        layout[node.name] = tuple(_group(group, kept[group.name], names) for group in net.layout[node.name])
    used = {group.name for row in layout.values() for group in row}
    ranks = {name: net.rank(name)[keep].argsort().argsort() for name, keep in kept.items() if name in used}
    tables = {"width": (net.width, used), "weight_bits": (net.weight, names), "act_bits": (net.act, names)}
    choices = {
        kind: {name: replace(c, options=(values[c.name],)) for name, c in table.items() if name in left}
        for kind, (table, left) in tables.items()
    }
    full = arch if isinstance(arch, Arch) else Arch({}, net.space.hash())
    mean, std = net.mean.clone(), net.std.clone()
    parts = Parts(nodes, net.outputs, net.form, layout, layers, norms, quantizers, ranks, choices, mean, std)
    subnet = Subnet(parts, replace(full, choices=values))
    adopt(subnet, net)
    subnet.to(net.alpha.device).train(net.training)
    return subnet


def adopt(subnet: Subnet, net: Supernet) -> None:
    """Let a subnet of `net` return the types of the user's model, which a file does not hold, and cost what the
    supernet says, where that is priced for another input."""
    subnet.form = net.form
    if net.priced_elsewhere:
        subnet.priced = net.schedule().fixed(net.check(subnet.arch.choices))


def unquantized(subnet: Subnet) -> Subnet:
    """A copy with float32 weights and activations: the same network before rounding."""
    plain = copy.deepcopy(subnet)
    for part in [*plain.layers.values(), *plain.quantizers.values()]:
        part.step = None  # type: ignore[assignment]
    return plain
