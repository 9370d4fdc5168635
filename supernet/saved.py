"""A subnet in one safetensors file that holds weights, graph and architecture, and loads without the user's code."""

from __future__ import annotations

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
from lut.spec import FLOAT_BITS

from .arch import Arch
from .choice import Choice
from .convert import Parts
from .extract import Subnet
from .layers import ChannelNorm, MixedConv2d, MixedLayer, MixedLinear
from .mixed import Block
from .network import key
from .nodes import Node
from .outputs import Form
from .quantizers import ActQuantizer
from .space import MOST
from .ties import Group

DAMAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, StopIteration,
          TypeError, ValueError)  # fmt: skip
"""What a graph raises that was not written by `save_subnet`."""


def save_subnet(subnet: Subnet, path: str | Path) -> None:
    """Write weights, graph and architecture to one safetensors file, atomically."""
    norms = {name: norm for name in subnet.weight if (norm := subnet.layer(name).norm) is not None}
    graph: dict[str, Any] = {
        "outputs": {"names": subnet.outputs, **subnet.form.to_json()},
        "nodes": [asdict(replace(node, layer=None, norm=None)) for node in subnet.nodes],
        "groups": {group.name: asdict(group) for row in subnet.layout.values() for group in row},
        "layout": {name: [group.name for group in row] for name, row in subnet.layout.items()},
        "signed": {node.name: subnet.quantizer(node.name).signed for node in subnet.nodes if node.name in subnet.act},
        "frozen": [name for name, parameter in subnet.named_parameters() if not parameter.requires_grad],
        "bias": [name for name in subnet.weight if subnet.layer(name).bias is not None],
        "norm": {name: norm.eps for name, norm in norms.items()},
        "momentum": {name: norm.momentum for name, norm in norms.items()},
        "choices": {
            kind: {name: asdict(choice) for name, choice in getattr(subnet, attribute).items()}
            for kind, attribute in (("width", "width"), ("weight_bits", "weight"), ("act_bits", "act"))
        },
    }
    once = {name for name, source in _sources(subnet).items() if name == source}
    state = {name: tensor for name, tensor in subnet.state_dict().items() if name in once}
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in state.items()}
    metadata = {"format": "lutier-subnet-1", "arch": subnet.arch.to_json(), "graph": json.dumps(graph)}
    atomic_write(path, safetensors.torch.save(tensors, metadata))


def load_subnet(path: str | Path) -> Subnet:
    """Read a subnet back, in eval mode. InputError for a file that is missing, truncated, of another kind, or whose
    graph does not hold together."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not a sound safetensors file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if metadata.get("format") != "lutier-subnet-1":
        raise InputError(f"{path}: not a subnet of this version (format {metadata.get('format')!r})")
    try:
        subnet = _rebuild(json.loads(metadata["graph"]), tensors, Arch.from_json(metadata["arch"], f"{path}: arch"))
        every = {name: tensors[source] for name, source in _sources(subnet).items() if source in tensors}
        subnet.load_state_dict(tensors | every, assign=True)  # in the type that each tensor was saved in
        subnet.tie_weights()
        for name in json.loads(metadata["graph"]).get("frozen", []):  # earlier versions kept none
            subnet.get_parameter(name).requires_grad_(False)
        _run_once(subnet.eval())
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: its graph and its weights do not belong together: {reason}") from None
    return subnet


def _sources(subnet: Subnet) -> dict[str, str]:
    """For every name of a parameter or buffer, the first name of the same one."""
    first: dict[int, str] = {}
    named = [*subnet.named_parameters(remove_duplicate=False), *subnet.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


@torch.no_grad()
def _run_once(subnet: Subnet) -> None:
    """What is wrong with a graph raises now, not in the middle of what is done with it."""
    schedule = subnet.schedule()
    for op in schedule.ops:
        op.spec({})
    for tensor in schedule.tensors.values():
        tensor.make({})
    subnet(torch.zeros(1, *subnet.nodes[0].shape, dtype=subnet.mean.dtype))


def _node(body: Mapping[str, Any]) -> Node:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
    if fields.get("block"):
        fields["block"] = Block(**fields["block"])
    return Node(**fields)


def _group(body: Mapping[str, Any]) -> Group:
    counts = body.get("counts", [body["channels"]])
    return Group(**{**body, "members": tuple(body["members"]), "counts": tuple(counts)})


def _choice(body: Mapping[str, Any], bits: bool) -> Choice:
    options = tuple(body["options"])
    if bits and not all(isinstance(option, int) and option in (*range(1, MOST + 1), FLOAT_BITS) for option in options):
        raise ValueError(f"{body['name']}: {options} are no bits")
    return Choice(**{**body, "options": options})


def _rebuild(graph: Mapping[str, Any], tensors: Mapping[str, Tensor], arch: Arch) -> Subnet:
    nodes = [_node(body) for body in graph["nodes"]]
    nodes[-1].output |= "outputs" not in graph  # a file of a version with one
    made = graph.get("outputs", {"names": [nodes[-1].name], **Form().to_json()})
    groups = {name: _group(body) for name, body in graph["groups"].items()}
    layout = {
        node.name: tuple(groups[n] for n in graph.get("layout", {}).get(node.name, [node.name])) for node in nodes
    }
    choices = {
        kind: {name: _choice(body, "bits" in kind) for name, body in table.items()}
        for kind, table in graph["choices"].items()
    }
    layers: dict[str, MixedLayer] = {}
    for node in nodes:
        if node.name not in choices["weight_bits"]:
            continue
        bits = choices["weight_bits"][node.name].options
        weight = torch.zeros_like(tensors[f"layers.{key(node.weights)}.weight"])
        bias = torch.zeros(len(weight), dtype=weight.dtype) if node.name in graph["bias"] else None
        norm = None
        if node.name in graph["norm"]:
            norm = nn.BatchNorm2d(len(weight), graph["norm"][node.name])
            norm.momentum = graph.get("momentum", {}).get(node.name, norm.momentum)  # earlier versions kept none
        if node.kind == "linear":
            layers[node.name] = MixedLinear(weight, bias, bits, norm, node.act_high)
        else:
            layers[node.name] = MixedConv2d(node, weight, bias, bits, norm)
    norms = {n.name: ChannelNorm(nn.LayerNorm(n.shape[0], n.eps)) for n in nodes if n.kind == "layer_norm"}
    quantizers = {
        node.quantizer or node.name: ActQuantizer(choices["act_bits"][node.name].options, graph["signed"][node.name])
        for node in nodes
        if node.quantizes
    }
    ranks = {group.name: torch.zeros(group.channels, dtype=torch.int64) for row in layout.values() for group in row}
    channels = nodes[0].shape[0]
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    outputs, form = tuple(made["names"]), Form.from_json(made)
    parts = Parts(nodes, outputs, form, layout, layers, norms, quantizers, ranks, choices, zeros, ones)
    return Subnet(parts, arch)
