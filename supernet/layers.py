"""Convolution and linear layers whose weights are mixed over bit options before one single operator runs.

y = act(norm(conv(x, sum_i p_i Q_i(W)) + b) + residual). Quantizer and width mask of the output tensor belong to the
edge (`quantizers.ActQuantizer`), not to the layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nodes import Node
from .quantizers import SMALLEST_STEP, kept_as_input, mix_quantize, mse_step, options, weight_range


def activate(y: Tensor, high: float | None) -> Tensor:
    """Identity for None, else min(max(y, 0), high)."""
    if high is None:
        return y
    return F.relu(y) if high == float("inf") else y.clamp(0, high)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of every pixel (Ba et al. 2016), by those that live: with a mask m,

    mean = sum(m x) / sum(m),  var = sum(m (x - mean)^2) / sum(m),  y = (x - mean) / sqrt(var + eps) weight + bias
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(p.detach().clone(), p.requires_grad) for p in (norm.weight, norm.bias))
        self.eps = norm.eps

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (n, C, H, W), dead channels 0; mask (C,) or None for all."""
        alive = x.new_ones(x.shape[1]) if mask is None else mask
        m, total = alive.view(1, -1, 1, 1), alive.sum()
        mean = x.sum(1, keepdim=True) / total
        variance = (m * (x - mean).square()).sum(1, keepdim=True) / total
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def channel_softmax(x: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the channels of every pixel of x (n, C, H, W), by those that live: with a mask m (C,),

    y = exp(x - top) / sum(m exp(x - top)), top the largest living x. Dead channels of y are the mask's affair.
    """
    if mask is None:
        return x.softmax(1)
    m = mask.view(1, -1, 1, 1)
    top = x.masked_fill(m == 0, float("-inf")).amax(1, keepdim=True)
    power = (x - top).clamp_max(0).exp()
    return power / (m * power).sum(1, keepdim=True)


class MixedLayer(nn.Module):
    """Weights (c_out, ...), a step per bit option and output channel (1 until `calibrate`), batch norm, activation.

    The single bit option 32 is a float32 layer without steps.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: tuple[int, ...], norm: nn.BatchNorm2d | None,
                 act_high: float | None):  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.bits, self.norm, self.act_high = bits, norm, act_high
        self.step = nn.Parameter(torch.ones(len(bits), len(weight), dtype=weight.dtype)) if bits != (32,) else None

    @torch.no_grad()
    def calibrate(self) -> None:
        """Set the steps to those of least squared error."""
        if self.step is not None:
            for i, bits in enumerate(self.bits):
                self.step[i] = mse_step(self.weight.flatten(1), *weight_range(bits))

    def steps(self) -> Tensor:
        """Positive steps (options, c_out)."""
        assert self.step is not None
        return self.step.abs().clamp_min(SMALLEST_STEP)

    def quantized(self, p: Tensor | None, active: list[int]) -> Tensor:
        """sum_i p_i Q_i(W), shape of the weights; W itself where no option is active."""
        if self.step is None or not active:
            return self.weight
        steps = options(self.steps(), active).view(len(active), -1, *([1] * (self.weight.dim() - 1)))
        ranges = tuple(weight_range(self.bits[i]) for i in active)
        weights = None if p is None else options(p, active)
        return mix_quantize(self.weight, weights, steps, None, ranges, self.weight[0].numel())

    def finish(self, y: Tensor, residual: Tensor | None) -> Tensor:
        """Batch norm, residual, activation."""
        if self.norm is not None:
            y = self.norm(y)
        if residual is not None:
            y = y + residual
        return activate(y, self.act_high)


def thin_and_strided(kernel: tuple[int, ...], stride: tuple[int, ...], channels: int) -> bool:
    """Whether oneDNN would spoil the gradient of a convolution with `channels` inputs per group.

    Of 1x1 ones with a stride and fewer channels than a vector holds (8 with AVX2, 16 with AVX-512), channels innermost,
    it writes behind its workspace: wrong gradients with several threads, a corrupted heap with one
    (https://github.com/uxlfoundation/oneDNN/issues/6035, in PyTorch 2.13).
    """
    return all(k == 1 for k in kernel) and any(s > 1 for s in stride) and channels < 16


class MixedConv2d(MixedLayer):
    """`node` holds the geometry: stride, padding (asymmetric allowed), dilation, groups."""

    def __init__(self, node: Node, weight: Tensor, bias: Tensor | None, bits: tuple[int, ...],
                 norm: nn.BatchNorm2d | None):  # fmt: skip
        super().__init__(weight, bias, bits, norm, node.act_high)
        top, left, bottom, right = node.pad
        self.symmetric = top == bottom and left == right
        self.pad = (left, right, top, bottom)
        self.stride, self.dilation, self.groups = node.stride, node.dilation, node.groups
        padded = self.symmetric and any(self.pad)  # by the convolution itself, which is another kernel of oneDNN
        self.thin = thin_and_strided(node.kernel, node.stride, weight.shape[1]) and not padded

    def forward(self, x: Tensor, p: Tensor | None, active: list[int], residual: Tensor | None = None) -> Tensor:
        """x (n, c_in, H, W) -> (n, c_out, H', W'), before the edge's quantizer."""
        x = x.contiguous(memory_format=torch.channels_last)  # in training 10 to 35 % faster on a CPU, and on GPUs
        padding = (self.pad[2], self.pad[0]) if self.symmetric else 0
        x = x if self.symmetric else F.pad(x, self.pad)
        stride = self.stride
        if self.thin:
            x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
        weight = self.quantized(p, active)
        with kept_as_input(x):
            y = F.conv2d(x, weight, self.bias, stride, padding, self.dilation, self.groups)
        return self.finish(y, residual)


class MixedLinear(MixedLayer):
    """Weights (c_out, c_in H W): flattens its input in channel, row, column order."""

    def forward(self, x: Tensor, p: Tensor | None, active: list[int], residual: Tensor | None = None) -> Tensor:
        """x (n, C, H, W) -> (n, c_out, 1, 1)."""
        y = F.linear(x.flatten(1), self.quantized(p, active), self.bias)
        return self.finish(y[:, :, None, None], residual)
