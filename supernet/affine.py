"""One weight and one bias per channel: y_c = scale_c x_c + shift_c, in a convolution, a batch norm, or by itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .frozen import train_as

Norm = nn.BatchNorm2d | nn.LayerNorm | None


def convolution(channels: int, scale: Tensor, shift: Tensor | None = None) -> nn.Conv2d:
    """Depthwise 1x1; scale and shift: (channels,), the shift none by default."""
    biased = shift is not None and bool(shift.any())
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=biased, dtype=scale.dtype, device=scale.device)
    with torch.no_grad():
        conv.weight.copy_(scale.view(-1, 1, 1, 1))
        if conv.bias is not None and shift is not None:
            conv.bias.copy_(shift)
    return conv


def folded(
    layer: nn.Conv2d | nn.Linear | None, norm: Norm, scale: Tensor, shift: Tensor
) -> tuple[nn.Conv2d | nn.Linear, Norm]:
    """Copies of a layer and its batch norm with scale and shift (channels,) behind them."""
    assert layer is not None
    layer, norm = copy.deepcopy(layer), copy.deepcopy(norm)
    last: nn.Module = layer if norm is None else norm
    with torch.no_grad():
        weight = last.weight
        assert isinstance(weight, Tensor)
        weight.mul_(scale.view(-1, *([1] * (weight.dim() - 1))))
        if last.bias is not None:
            assert isinstance(last.bias, Tensor)
            last.bias.mul_(scale).add_(shift)
        elif bool(shift.any()):
            last.bias = nn.Parameter(shift.clone().to(weight.dtype), weight.requires_grad)
    return layer, norm


def norm2d(module: nn.Module | None) -> nn.BatchNorm2d:
    """A batch norm of images; that of vectors has the same state."""
    if isinstance(module, nn.BatchNorm2d):
        return module
    assert isinstance(module, nn.BatchNorm1d)
    norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum)
    norm.to(module.weight.device, module.weight.dtype)
    norm.load_state_dict(module.state_dict())
    train_as(norm, module)
    return norm
