"""A subnet becomes a program of integer operators (or the float32 baseline's), by the contract in `program.py`.

Batch norm is not folded into the weights. With g = gamma / sigma, y = g (s_x s_w acc + b - mu) + beta, so g goes into
the signed multiplier M = g s_x s_w / s_y = 2^l m / 2^32, and the rest into the int32 bias
2^l ((b - mu) g + beta) / (g s_x s_w), which also takes -z_in sum(w). A channel whose offset exceeds 2^30 units of its
accumulator (gamma near 0) is a constant: zero weights and a multiplier of its own.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lut.errors import InputError
from supernet.extract import Subnet
from supernet.layers import MixedLayer
from supernet.nodes import FLOATS, MOVES, Node
from supernet.ops import parts_of, schedule_of
from supernet.quantizers import SMALLEST_STEP, act_range, weight_range, zero_point
from supernet.unary import UNARY

from . import islands
from .program import Op, Program, Tensor

SCORE_BITS, SCORE_LIMIT = 16, 32767
BIAS_UNIT = 1 / 64
"""Largest step of the bias, in codes of the output."""


def _sums(codes: np.ndarray) -> np.ndarray:
    """Sum per output channel."""
    return codes.reshape(len(codes), -1).sum(1)


def fixed_point(real: np.ndarray, unit: float = 1.0) -> tuple[np.ndarray, int]:
    """(m, l) with real = 2^l m / 2^32, m even and int32, and the smallest l with |real| 2^-l below unit / 2. `real` is
    finite."""
    largest = float(np.abs(real).max(initial=0.0))
    shift = 0
    while largest >= 0.5 * unit * 2**shift * (1 - 2**-30):
        shift += 1
    mult = 2 * np.rint(real * 2.0 ** (31 - shift)).astype(np.int64)
    return mult.astype(np.int32), shift


class _Lowering:
    def __init__(self, subnet: Subnet, name: str):
        self.net, self.name = subnet, name
        schedule = schedule_of(subnet)
        self.image = schedule.input
        self.specs = {op.name: spec.without_site() for op in schedule.ops if (spec := op.spec({}))}
        self.in_place = {op.name: op.in_place for op in schedule.ops}
        self.nodes = {node.name: node for node in subnet.nodes}
        self.tensors: dict[str, Tensor] = {}

    def run(self) -> Program:
        first = self.net.nodes[0]
        self.tensors[self.image] = Tensor(self.image, first.shape[1], first.shape[2], first.shape[0], 8)
        ops = []
        for node in self.net.nodes:
            if not node.output:
                self.tensors[node.name] = self._tensor(node)
            ops += self._parts(node) if node.kind == "concat" else [self._op(node)]
        return Program(tuple(ops), self.tensors, self.image, self.net.outputs, self.name, form=self.net.form)

    def _tensor(self, node: Node) -> Tensor:
        channels, height, width = node.shape
        if self.net.is_float or node.kind in FLOATS:
            return Tensor(node.name, height, width, channels, 32)
        owner = self.net.quantizer_of(node.name)
        quantizer = self.net.quantizer(owner)
        bits = quantizer.bits[0]
        assert quantizer.step is not None
        scale = float(quantizer.step.detach().abs().clamp_min(SMALLEST_STEP)[0])
        return Tensor(node.name, height, width, channels, bits, zero_point(bits, quantizer.signed), scale)

    def _parts(self, node: Node) -> list[Op]:
        """A concat: every input into its channels."""
        ops, offset = [], 0
        for name, source in zip(parts_of(node), node.inputs):
            ops.append(Op(name, self.specs[name], (source,), node.name, offset=offset))
            offset += self.nodes[source].shape[0]
        return ops

    def _op(self, node: Node) -> Op:
        inputs = node.inputs or (self.image,)
        low, high = self._clamp(node)
        op = Op(node.name, self.specs[node.name], inputs, node.name, low=low, high=high,
                in_place=self.in_place[node.name])  # fmt: skip
        if node.kind == "input":
            return replace(op, table=self._table(node))
        if node.kind == "resample":
            channels = self.nodes[node.inputs[0]].shape[0]
            return replace(op, gather=np.array(node.gather or range(channels), np.int32))
        if node.kind in ("conv2d", "conv2d_add", "linear"):
            return self._weighted(node, op)
        if node.kind == "split":
            return replace(op, offset=node.start)
        if node.kind == "layer_norm":
            return islands.layer_norm(op, self.net.channel_norm(node.name))
        if node.output:
            return self._pooled_scores(node, op)
        if node.kind in MOVES or node.kind == "softmax" or self.net.is_float:
            return op
        if node.kind == "dequantize":
            return islands.dequantize(op, self.tensors[node.inputs[0]])
        if node.kind == "quantize":
            return islands.quantize(op, self.tensors[node.name])
        if node.kind == "unary":
            return replace(op, table=self._function(node))
        if node.kind == "mul":
            first, second = (self.tensors[name].scale for name in node.inputs)
            mult, shift = fixed_point(np.array([first * second / self.tensors[node.name].scale]))
            return replace(op, mult=mult, shift=shift)
        scale = self.tensors[node.name].scale
        area = node.kernel[0] * node.kernel[1] if node.kind == "avg_pool" else 1
        mult, shift = fixed_point(np.array([self.tensors[node.inputs[0]].scale / scale / area]))
        return self._with_residual(node, replace(op, mult=mult, shift=shift))

    def _clamp(self, node: Node) -> tuple[float, float]:
        """Bounds of the output: values for float32, codes otherwise."""
        low = float("-inf") if node.act_high is None else 0.0
        high = float("inf") if node.act_high is None else node.act_high
        if self.net.is_float or node.kind in FLOATS:
            return low, high
        if node.name not in self.tensors:
            return -SCORE_LIMIT, SCORE_LIMIT
        tensor = self.tensors[node.name]
        if tensor.bits == SCORE_BITS:
            return max(low / tensor.scale, -SCORE_LIMIT), min(np.rint(high / tensor.scale), SCORE_LIMIT)
        lowest, highest = act_range(tensor.bits, tensor.zero > 0)
        if high != float("inf"):
            highest = min(highest, int(np.rint(high / tensor.scale)))
        return (lowest if low < 0 else 0) + tensor.zero, highest + tensor.zero

    def _table(self, node: Node) -> np.ndarray:
        mean, std = (t.detach().double().cpu().numpy()[:, None] for t in (self.net.mean, self.net.std))
        values = (np.arange(256.0)[None] - mean) / std
        if self.net.is_float:
            return values.astype(np.float32)
        tensor = self.tensors[node.name]
        return np.clip(np.rint(values / tensor.scale) + tensor.zero, 0, 2**tensor.bits - 1).astype(np.uint8)

    def _function(self, node: Node) -> np.ndarray:
        """The output's code for every code of the input."""
        source, target = self.tensors[node.inputs[0]], self.tensors[node.name]
        codes = torch.arange(2**source.bits, dtype=torch.float64)
        values = UNARY[node.fn]((codes - source.zero) * source.scale).numpy()
        return np.clip(np.rint(values / target.scale) + target.zero, *self._clamp(node)).astype(np.uint8)

    def _with_residual(self, node: Node, op: Op) -> Op:
        if len(node.inputs) < 2:
            return op
        real = self.tensors[node.inputs[1]].scale / self.tensors[node.name].scale
        mult, shift = fixed_point(np.array([real]))
        return replace(op, res_mult=int(mult[0]), res_shift=shift)

    def _weighted(self, node: Node, op: Op) -> Op:
        layer = self.net.layer(node.name)
        weight = layer.weight.detach().double().cpu()
        gain, offset = _affine(layer)
        if self.net.is_float:
            self._scores(node, 1.0)
            folded = weight * gain.view(-1, *([1] * (weight.dim() - 1)))
            values = self._layout(node, folded.numpy().astype(np.float32))
            return replace(op, weights=values, bias=offset.numpy().astype(np.float32))
        step = layer.steps().detach().double().cpu()[0]
        lowest, highest = weight_range(layer.bits[0])
        codes = (weight / step.view(-1, *([1] * (weight.dim() - 1)))).round().clamp(lowest, highest).numpy()
        source = self.tensors[node.inputs[0]]
        real = (gain * step).numpy() * source.scale  # value of one unit of the accumulator
        offset_values = offset.numpy()
        constant = np.abs(real) * 2.0**30 <= np.abs(offset_values)
        codes[constant] = 0
        reach = _sums(np.abs(codes)) * (2**source.bits - 1)
        real = np.where(constant, np.maximum(np.abs(offset_values) / 2**20, 1e-12), real)
        if node.output:
            bound = np.abs(real) * reach + np.abs(offset_values)
            self._scores(node, max(float(bound.max()), SMALLEST_STEP) / SCORE_LIMIT)
        weights = self._layout(node, codes.astype(np.int8))
        mult, shift, bias = self._requantize(node, real, offset_values, source.zero * _sums(codes), reach)
        low, high = self._clamp(node)
        op = replace(op, weights=weights, bias=bias, mult=mult, shift=shift, low=low, high=high)
        return self._with_residual(node, op)

    def _pooled_scores(self, node: Node, op: Op) -> Op:
        """A mean over windows as the output."""
        source = self.tensors[node.inputs[0]]
        if self.net.is_float:
            self._scores(node, 1.0)
            return op
        self._scores(node, source.scale * (2**source.bits - 1) / SCORE_LIMIT)
        area = node.kernel[0] * node.kernel[1]
        mult, shift = fixed_point(np.array([source.scale / self.tensors[node.name].scale / area]))
        return replace(op, mult=mult, shift=shift)

    def _requantize(
        self, node: Node, real: np.ndarray, offset: np.ndarray, correction: np.ndarray, reach: np.ndarray
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """(m, l, bias): l is the shift that BIAS_UNIT asks for, or less where the accumulator leaves no room for it."""
        unit = BIAS_UNIT
        while True:
            mult, shift = fixed_point(real / self.tensors[node.name].scale, unit)
            bias = np.rint(offset / real * 2.0**shift) - correction * 2.0**shift
            largest = float((np.abs(bias) + reach * 2.0**shift).max())
            if largest < 2**31:
                return mult, shift, bias.astype(np.int32)
            if unit >= 1:
                raise InputError(
                    f"{node.name}: an accumulator can reach {largest:.3g}, past int32; give it or its input more "
                    "bits, or re-estimate its batch norm (a channel's scale is far below its shift)"
                )
            unit *= 2

    def _scores(self, node: Node, scale: float) -> None:
        """An output tensor: int16 at a scale that no input can overflow (float32 in the baseline)."""
        if node.output:
            channels, height, width = node.shape
            self.tensors[node.name] = Tensor(
                node.name, height, width, channels, 32 if self.net.is_float else 16, 0, scale
            )

    def _layout(self, node: Node, weight: np.ndarray) -> np.ndarray:
        """(c_out, c_in / groups, kh, kw); a linear layer's columns go from channel-first to channel-last order."""
        if node.kind != "linear":
            return np.ascontiguousarray(weight)
        channels, height, width = self.nodes[node.inputs[0]].shape
        hwc = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(hwc.reshape(len(weight), -1, 1, 1))


def _affine(layer: MixedLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """(gain, offset) per channel with layer(x) = gain (W x) + offset, batch norm in eval mode included."""
    channels = len(layer.weight)
    bias = torch.zeros(channels, dtype=torch.float64)
    if layer.bias is not None:
        bias = layer.bias.detach().double().cpu()
    norm = layer.norm
    if not isinstance(norm, nn.BatchNorm2d):
        return torch.ones(channels, dtype=torch.float64), bias
    assert norm.running_var is not None and norm.running_mean is not None
    gain = norm.weight.detach().double().cpu() / (norm.running_var.double().cpu() + norm.eps).sqrt()
    return gain, (bias - norm.running_mean.double().cpu()) * gain + norm.bias.detach().double().cpu()


def lower(subnet: Subnet, name: str = "net") -> Program:
    """Lower an extracted subnet. Any bits from 1 to 8: what a back end has kernels for is its own affair. Raises
    InputError for an accumulator past int32."""
    for node in subnet.nodes:
        if node.name in subnet.act and subnet.quantizer(node.name).bits[0] < 1:
            raise InputError(f"{node.name}: 0-bit activations can't be deployed")
    return _Lowering(subnet if subnet.mean.is_cpu else copy.deepcopy(subnet).cpu(), name).run()
