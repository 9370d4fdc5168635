"""An architecture is cut out of the supernet: channels truly removed, one quantizer step kept per tensor.

In float64 and eval mode the subnet equals the supernet fixed to the architecture up to the order of summation.
A subnet saves to one safetensors file that holds weights, graph and architecture, and loads without the user's code.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lut.errors import InputError
from lut.files import atomic_write

from .arch import Arch
from .choice import Choice
from .convert import Parts
from .fuse import Node
from .layers import MixedConv2d, MixedLayer, MixedLinear
from .mixed import Block
from .network import MOVES, QuantNetwork
from .ops import schedule_of
from .quantizers import ActQuantizer
from .schedule import Schedule
from .supernet import Supernet
from .ties import Group


class Subnet(QuantNetwork):
    """One architecture: every choice has one option. `arch` is the one it was cut by."""

    def __init__(self, parts: Parts, arch: Arch):
        super().__init__(*parts)
        self.arch = arch
        self.priced: Schedule | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, classes) of a normalised batch (n, C, H, W)."""
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
    return {name: torch.nonzero(net.rank(name) < values[choice.name]).flatten() for name, choice in net.width.items()}


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
    return cut


def _cut_layer(net: Supernet, node: Node, cut: Node, into: Tensor, out: Tensor, option: int, bits: int) -> MixedLayer:
    layer = net.layer(node.name)
    weight = layer.weight.detach()[out]
    if node.kind == "linear":
        area = weight.shape[1] // len(net.rank(net.groups[node.inputs[0]].name))
        weight = weight.unflatten(1, (-1, area))[:, into].flatten(1)
    elif node.groups == 1:
        weight = weight[:, into]
    bias = None if layer.bias is None else layer.bias.detach()[out].clone()
    if node.kind == "linear":
        small: MixedLayer = MixedLinear(weight.clone(), bias, (bits,), None, node.act_high)
    else:
        small = MixedConv2d(cut, weight.clone(), bias, (bits,), _norm(layer.norm, out))
    if layer.step is not None and small.step is not None:
        small.step.data = layer.step.detach()[option : option + 1, out].clone()
    return small


def _gather(node: Node, into: Tensor, out: Tensor) -> tuple[int, ...] | None:
    if node.gather is None:
        return None
    position = {int(c): i for i, c in enumerate(into)}
    return tuple(position.get(node.gather[int(c)], -1) for c in out)


def extract(net: Supernet, arch: Arch | Mapping[str, int]) -> Subnet:
    """Cut `arch` out of `net`; the supernet is left as it was. InputError when it is not one of the net's."""
    values = net.check(arch)
    kept = _kept(net, values)
    nodes, layers, quantizers = [], {}, {}
    chosen = _chosen(net, values)
    for node in net.nodes:
        if node.name not in chosen or node.kind == "mix":
            continue
        node = replace(node, inputs=tuple(chosen[name] for name in node.inputs), when=())
        out = kept[net.groups[node.name].name]
        into = kept[net.groups[node.inputs[0]].name] if node.inputs else out
        groups = len(out) if node.depthwise else node.groups
        cut = replace(node, shape=(len(out), *node.shape[1:]), groups=groups, gather=_gather(node, into, out))
        nodes.append(cut)
        if node.name in net.weight:
            choice = net.weight[node.name]
            bits = values[choice.name]
            layers[node.name] = _cut_layer(net, node, cut, into, out, choice.position(bits), bits)
        if node.name in net.act:
            choice = net.act[node.name]
            bits = values[choice.name]
            old = net.quantizer(node.name)
            quantizers[node.name] = ActQuantizer((bits,), old.signed).to(net.alpha.dtype)
            if old.step is not None:
                index = choice.position(bits)
                quantizers[node.name].step.data = old.step.detach()[index : index + 1].clone()  # type: ignore
    names = {node.name for node in nodes}
    used = {net.groups[name].name for name in names}
    groups_cut = {
        name: replace(group, channels=len(kept[group.name]), members=tuple(m for m in group.members if m in names))
        for name, group in net.groups.items()
        if name in names | used
    }
    ranks = {name: net.rank(name)[keep].argsort().argsort() for name, keep in kept.items() if name in used}
    tables = {"width": (net.width, used), "weight_bits": (net.weight, names), "act_bits": (net.act, names)}
    choices = {
        kind: {name: replace(c, options=(values[c.name],)) for name, c in table.items() if name in left}
        for kind, (table, left) in tables.items()
    }
    full = arch if isinstance(arch, Arch) else Arch({}, net.space.hash())
    parts = Parts(nodes, groups_cut, layers, quantizers, ranks, choices, net.mean.clone(), net.std.clone())
    subnet = Subnet(parts, replace(full, choices=values))
    price(subnet, net)
    subnet.to(net.alpha.device).train(net.training)
    return subnet


def price(subnet: Subnet, net: Supernet) -> None:
    """Let a subnet of `net` cost what the supernet says, where that is priced for another input."""
    if net.priced_elsewhere:
        subnet.priced = net.schedule().fixed(net.check(subnet.arch))


def unquantized(subnet: Subnet) -> Subnet:
    """A copy with float32 weights and activations: the same network before rounding."""
    plain = copy.deepcopy(subnet)
    for part in [*plain.layers.values(), *plain.quantizers.values()]:
        part.step = None  # type: ignore[assignment]
    return plain


def save_subnet(subnet: Subnet, path: str | Path) -> None:
    """Write weights, graph and architecture to one safetensors file, atomically."""
    graph: dict[str, Any] = {
        "nodes": [asdict(replace(node, layer=None, norm=None)) for node in subnet.nodes],
        "groups": {name: asdict(group) for name, group in subnet.groups.items()},
        "signed": {node.name: subnet.quantizer(node.name).signed for node in subnet.nodes if node.name in subnet.act},
        "bias": [name for name in subnet.weight if subnet.layer(name).bias is not None],
        "norm": {n: subnet.layer(n).norm.eps for n in subnet.weight if subnet.layer(n).norm is not None},  # type: ignore
        "choices": {
            kind: {name: asdict(choice) for name, choice in getattr(subnet, attribute).items()}
            for kind, attribute in (("width", "width"), ("weight_bits", "weight"), ("act_bits", "act"))
        },
    }
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in subnet.state_dict().items()}
    metadata = {"format": "lutier-subnet-1", "arch": subnet.arch.to_json(), "graph": json.dumps(graph)}
    atomic_write(path, safetensors.torch.save(tensors, metadata))


def load_subnet(path: str | Path) -> Subnet:
    """Read a subnet back, in eval mode. InputError for a file that is missing, truncated or of another kind."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not a sound safetensors file: {error}") from None
    if metadata.get("format") != "lutier-subnet-1":
        raise InputError(f"{path}: not a subnet of this version (format {metadata.get('format')!r})")
    try:
        subnet = _rebuild(json.loads(metadata["graph"]), tensors, Arch.from_json(metadata["arch"], f"{path}: arch"))
        subnet.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: its graph and its weights do not belong together: {error}") from None
    return subnet.eval()


def _node(body: Mapping[str, Any]) -> Node:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
    if fields.get("block"):
        fields["block"] = Block(**fields["block"])
    return Node(**fields)


def _rebuild(graph: Mapping[str, Any], tensors: Mapping[str, Tensor], arch: Arch) -> Subnet:
    nodes = [_node(body) for body in graph["nodes"]]
    groups = {name: Group(**{**body, "members": tuple(body["members"])}) for name, body in graph["groups"].items()}
    choices = {
        kind: {name: Choice(**{**body, "options": tuple(body["options"])}) for name, body in table.items()}
        for kind, table in graph["choices"].items()
    }
    layers: dict[str, MixedLayer] = {}
    for node in nodes:
        if node.name not in choices["weight_bits"]:
            continue
        bits = choices["weight_bits"][node.name].options
        weight = torch.zeros_like(tensors[f"layers.{node.name.replace('.', '__')}.weight"])
        bias = torch.zeros(len(weight), dtype=weight.dtype) if node.name in graph["bias"] else None
        norm = nn.BatchNorm2d(len(weight), graph["norm"][node.name]) if node.name in graph["norm"] else None
        if node.kind == "linear":
            layers[node.name] = MixedLinear(weight, bias, bits, None, node.act_high)
        else:
            layers[node.name] = MixedConv2d(node, weight, bias, bits, norm)
    quantizers = {
        node.name: ActQuantizer(choices["act_bits"][node.name].options, graph["signed"][node.name])
        for node in nodes[:-1]
        if node.kind not in MOVES
    }
    ranks = {name: torch.zeros(groups[name].channels, dtype=torch.int64) for name in choices["width"]}
    channels = nodes[0].shape[0]
    return Subnet(
        Parts(nodes, groups, layers, quantizers, ranks, choices, torch.zeros(channels), torch.ones(channels)), arch
    )
