"""ResNet-8, the image classification network of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597).

One residual block per width 16, 32, 64: conv-bn-relu-conv-bn, plus the shortcut, relu. It follows the Keras reference:
convolutions have biases, batch norm has eps 1e-3 and is absent from the 1x1 shortcuts, and a 3x3 convolution with
stride 2 and `same` padding on an even size pads the bottom and the right only.

At 3x32x32 and 10 classes: 78,186 trainable parameters, 12,501,632 multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lut.errors import InputError

from .common import Size, he_init, pair

EPS = 1e-3


class Block(nn.Module):
    """Residual block; with stride 2 the shortcut is a 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1 if stride == 1 else 0)
        self.bn1 = nn.BatchNorm2d(c_out, eps=EPS)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(c_out, eps=EPS)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride) if stride != 1 or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        y = self.relu1(self.bn1(self.conv1(y)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return self.relu2(x + y)


class ResNet8(nn.Module):
    """x: (N, in_channels, height, width), both multiples of 4 -> scores (N, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=EPS)
        self.relu1 = nn.ReLU()
        self.block1 = Block(widths[0], widths[0], stride=1)
        self.block2 = Block(widths[0], widths[1], stride=2)
        self.block3 = Block(widths[1], widths[2], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.flatten(self.pool(x)))


def resnet8(
    num_classes: int = 10, in_channels: int = 3, image_size: Size = 32, widths: Sequence[int] = (16, 32, 64)
) -> ResNet8:
    """Build a ResNet-8. Raises InputError when a side of the image is not a multiple of 4 pixels."""
    height, width = pair(image_size)
    if height % 4 or width % 4:
        raise InputError(f"resnet8: image_size: {height}x{width}: both sides must be multiples of 4 pixels")
    return ResNet8(num_classes, in_channels, widths)
