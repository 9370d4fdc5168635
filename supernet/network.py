"""A network of fused nodes with quantized edges: what a supernet and an extracted subnet have in common.

Each node makes one tensor. Order on an edge: conv, batch norm, residual, activation, quantizer, mask. What only moves
codes (`nodes.MOVES`) shares its input's quantizer, all inputs of a concat have one. The output tensors are not
quantized; a layer norm and a softmax read and make float32. A `mix` weighs its candidates' quantized outputs, so it
needs no quantizer of its own, and one candidate is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .choice import Choice, Gates
from .layers import ChannelNorm, MixedLayer, activate, channel_softmax
from .nodes import MOVES, Node
from .outputs import Form
from .quantizers import ActQuantizer
from .ties import Layout
from .unary import UNARY

KINDS = ("width", "weight_bits", "act_bits", "op")
"""Kinds of choices, in the order of a QuantNetwork's four tables of them."""


def key(name: str) -> str:
    """A node's name as a module name, which may hold no dot and be no attribute of a dict of modules."""
    name = name.replace(".", "__")
    return f"{name}__" if hasattr(nn.ModuleDict, name) else name


class QuantNetwork(nn.Module):
    """Runs `nodes` in order.

    outputs: the nodes that make the output tensors; form: what is returned of them. layout: the width groups in a row
    of every node's output, by its name; groups: the first of them. width, weight, act, op: the choice of a group, a
    layer, a quantizer, a mix, by the name of the group, the layer's node, the node that makes codes, the mix's node.
    ranks: per group name, the importance rank of each channel (0 = kept longest).
    mean, std: the input's bytes are normalised as (byte - mean) / std.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, nodes: list[Node], outputs: tuple[str, ...], form: Form, layout: Layout,
                 layers: Mapping[str, MixedLayer], norms: Mapping[str, ChannelNorm],
                 quantizers: Mapping[str, ActQuantizer], ranks: Mapping[str, Tensor],
                 choices: Mapping[str, Mapping[str, Choice]], mean: Tensor, std: Tensor):  # fmt: skip
        super().__init__()
        self.nodes, self.outputs, self.form, self.layout = nodes, outputs, form, dict(layout)
        self.groups = {name: row[0] for name, row in layout.items()}
        self.layers = nn.ModuleDict({key(name): layer for name, layer in layers.items()})
        self.norms = nn.ModuleDict({key(name): norm for name, norm in norms.items()})
        self.tie_weights()
        self.quantizers = nn.ModuleDict({key(name): quantizer for name, quantizer in quantizers.items()})
        self.width, self.weight, self.act, self.op = (dict(choices.get(kind, {})) for kind in KINDS)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        counts = {group.name: group.counts for row in layout.values() for group in row}
        for name, rank in ranks.items():
            self.register_buffer(f"rank_{key(name)}", rank)
            options = torch.tensor(counts[name])[:, None]
            self.register_buffer(f"options_{key(name)}", options, persistent=False)
        for node in nodes:
            if node.gather is not None:
                self.register_buffer(f"gather_{key(node.name)}", torch.tensor(node.gather), persistent=False)
        self._last_reader = {name: node.name for node in nodes for name in node.inputs}
        self._quantizer = {node.name: node.quantizer or node.name for node in nodes}
        self._padded = {n.name for n in nodes if n.gather is not None} & set(_read_alone(nodes))
        # The image keeps its calibrated step: to learn it, every training step would compute the gradient of the first
        # layer's input, which nothing else needs (a tenth of DS-CNN's step).
        self.quantizer(nodes[0].name).requires_grad_(False)

    def tie_weights(self) -> None:
        """Let all uses of a layer, or of a norm, have the same parameters."""
        for node in self.nodes:
            if node.layer_of:
                layer, first = self.layer(node.name), self.layer(node.layer_of)
                layer.weight, layer.bias, layer.step = first.weight, first.bias, first.step
            if node.norm_of and node.kind == "layer_norm":
                self.norms[key(node.name)] = self.norms[key(node.norm_of)]
            elif node.norm_of:
                self.layer(node.name).norm = self.layer(node.norm_of).norm

    def choices(self) -> tuple[Choice, ...]:
        """Every choice, by its row in the alpha matrix; pinned ones have one option."""
        found = [*self.width.values(), *self.weight.values(), *self.act.values(), *self.op.values()]
        return tuple(sorted(dict.fromkeys(found), key=lambda choice: choice.index))

    def quantizer_of(self, name: str) -> str:
        """The node whose quantizer made the codes of a node's output."""
        node = next(n for n in self.nodes if n.name == name)
        return self.quantizer_of(node.inputs[0]) if node.kind in MOVES else name

    def layer(self, name: str) -> MixedLayer:
        return self.layers[key(name)]  # type: ignore[return-value]

    def channel_norm(self, name: str) -> ChannelNorm:
        return self.norms[key(name)]  # type: ignore[return-value]

    def quantizer(self, name: str) -> ActQuantizer:
        """That of the codes which a node makes."""
        return self.quantizers[key(self._quantizer[name])]  # type: ignore[return-value]

    def rank(self, group: str) -> Tensor:
        """Importance rank of each channel of a group, (C,) int64."""
        return getattr(self, f"rank_{key(group)}")

    def run(self, x: Tensor, gates: Gates | None, observe: dict[str, Tensor] | None = None,
            quantize: bool = True) -> Any:  # fmt: skip
        """What the user's model returns of a normalised batch x (n, C, H, W).

        observe: filled with every tensor before its quantizer by node name; then activations are not quantized.
        quantize: False for neither activations nor weights, at full width; gates then select operators alone.
        """
        values: dict[str, Tensor] = {}
        for node in self.nodes:
            if node.when and gates is not None and not self._runs(node, gates):
                continue
            y = (
                self._mix(node, values, gates)
                if node.kind == "mix"
                else self._node(node, values, x, gates if quantize else None, quantize)
            )
            if node.quantizes and quantize:
                if observe is None:
                    p, active = _weights(self.act[node.name], gates)
                    y = self.quantizer(node.name)(y, p, active, self._mask(node.name, gates))
                else:
                    observe[node.name] = y
            values[node.name] = y
            for name in node.inputs:
                if self._last_reader[name] == node.name:
                    values.pop(name, None)
        return self.form.build([values[name] for name in self.outputs])

    def _runs(self, node: Node, gates: Gates) -> bool:
        """Whether the candidates that a node belongs to must be computed."""
        return all(at in gates.active(self.op[mix]) for mix, at in node.when)

    def _mix(self, node: Node, values: Mapping[str, Tensor], gates: Gates | None) -> Tensor:
        """sum_o p_o y_o over the candidates that ran; their plain mean without gates."""
        if gates is None:
            return torch.stack([values[name] for name in node.inputs]).mean(0)
        active, p = gates.active(self.op[node.name]), gates.of(self.op[node.name])
        parts = [p[i] * values[node.inputs[i]] for i in active]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _node(self, node: Node, values: Mapping[str, Tensor], x: Tensor, gates: Gates | None,
              quantize: bool) -> Tensor:  # fmt: skip
        inputs = [values[name] for name in node.inputs]
        match node.kind:
            case "input":
                return x
            case "conv2d" | "conv2d_add" | "linear":
                p, active = _weights(self.weight[node.name], gates) if quantize else (None, [])
                return self.layer(node.name)(inputs[0], p, active, inputs[1] if len(inputs) > 1 else None)
            case "unary":
                return UNARY[node.fn](inputs[0])
            case "mul":
                return inputs[0] * inputs[1]
            case "add":
                y = inputs[0] + inputs[1]
                return activate(y, node.act_high)
            case "avg_pool":
                return F.avg_pool2d(inputs[0], node.kernel, node.stride)
            case "max_pool":
                top, left, bottom, right = node.pad
                padded = F.pad(inputs[0], (left, right, top, bottom), value=float("-inf"))
                return F.max_pool2d(padded, node.kernel, node.stride, 0, node.dilation)
            case "resample":
                y = resample(inputs[0], node.stride, getattr(self, f"gather_{key(node.name)}", None))
                mask = self._mask(node.name, gates) if node.name in self._padded else None
                return y if mask is None else y * mask.view(-1, 1, 1)
            case "concat":
                return torch.cat(inputs, 1)
            case "split":
                return inputs[0].narrow(1, node.start, node.shape[0])
            case "shuffle":
                return F.channel_shuffle(inputs[0], node.groups)
            case "pad":
                top, left, bottom, right = node.pad
                return F.pad(inputs[0], (left, right, top, bottom))
            case "dequantize" | "quantize":
                return inputs[0]
            case "layer_norm":
                return self.channel_norm(node.name)(inputs[0], self._mask(node.name, gates))
            case "softmax":
                return channel_softmax(inputs[0], self._mask(node.name, gates))
        raise AssertionError(node.kind)

    def _mask(self, name: str, gates: Gates | None) -> Tensor | None:
        """Mixed width mask (C,) of a node's output, or None where the width is pinned."""
        row = self.layout[name]
        if gates is None or all(self.width[group.name].pinned for group in row):
            return None
        masks = {name: self._group_mask(name, gates) for name in dict.fromkeys(group.name for group in row)}
        return masks[row[0].name] if len(row) == 1 else torch.cat([masks[group.name] for group in row])

    def _group_mask(self, group: str, gates: Gates) -> Tensor:
        alive = self.rank(group) < getattr(self, f"options_{key(group)}")  # (options, C)
        return gates.of(self.width[group]) @ alive.to(gates.weights.dtype)

    @contextmanager
    def kept_statistics(self) -> Iterator[None]:
        """Whatever runs inside in training mode (an architecture step), running statistics are as before afterwards."""
        buffers = [buffer for norm in self.batch_norms() for buffer in norm.buffers()]
        before = [buffer.clone() for buffer in buffers]
        try:
            yield
        finally:
            for buffer, value in zip(buffers, before):
                buffer.copy_(value)

    def batch_norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    @torch.no_grad()
    def calibrate(self, batches: list[Tensor], samples: int = 65536) -> None:
        """Set activation steps from normalised batches, weight steps from the weights, by least squared error."""
        was_training = self.training
        self.eval()
        for layer in self.layers.values():
            layer.calibrate()  # type: ignore[operator]
        seen: dict[str, list[Tensor]] = {}
        for x in batches:
            observed: dict[str, Tensor] = {}
            self.run(x, None, observed)
            for name, value in observed.items():
                seen.setdefault(self._quantizer[name], []).append(value.flatten())
        generator = torch.Generator().manual_seed(0)
        for name, parts in seen.items():
            values = torch.cat(parts)
            if len(values) > samples:
                values = values[torch.randint(len(values), (samples,), generator=generator)]
            self.quantizers[key(name)].calibrate(values)  # type: ignore[operator]
        self.train(was_training)


def _read_alone(nodes: list[Node]) -> list[str]:
    """Tensors that something else than a sum reads: a sum masks what it is given."""
    found: list[str] = []
    for node in nodes:
        found += [] if node.kind == "add" else node.inputs[:1] if node.kind == "conv2d_add" else node.inputs
    return found


def _weights(choice: Choice, gates: Gates | None) -> tuple[Tensor | None, list[int]]:
    if choice.pinned or gates is None:
        return None, [len(choice.options) - 1]
    active = gates.active(choice)
    return gates.of(choice), active


def resample(x: Tensor, stride: tuple[int, int], gather: Tensor | None) -> Tensor:
    """Strided rows and columns, then the channels of `gather`, zeros where it is -1."""
    x = x[:, :, :: stride[0], :: stride[1]]
    if gather is None:
        return x
    zero = F.pad(x, (0, 0, 0, 0, 1, 0))  # before the others, so that -1 + 1 is its place
    return zero.index_select(1, gather + 1)
