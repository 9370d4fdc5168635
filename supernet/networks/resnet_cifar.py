"""ResNet-20, 32, 44 and 56 for CIFAR-10 (He et al. 2015, arXiv:1512.03385, section 4.2).

Depth 6n + 2: a 3x3 stem, three stages of n blocks with widths 16, 32, 64, average pool, linear. Shortcuts are the
paper's option A: no parameters; where the size halves, every second pixel is taken and zero channels are added on both
sides. Parameter names are those of github.com/akamaster/pytorch_resnet_cifar10, whose checkpoints load as they are.

| at 3x32x32, 10 classes | parameters | multiply-accumulates |
|---|---|---|
| ResNet-20 | 269,722 | 40,551,040 |
| ResNet-32 | 464,154 | 68,862,592 |
| ResNet-44 | 658,586 | 97,174,144 |
| ResNet-56 | 853,018 | 125,485,696 |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .common import Size, he_init


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, plus the identity or the option-A shortcut, relu."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.added = planes - in_planes  # channels of zeros
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.added:
            front = self.added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.added - front))
        out = out + x
        return F.relu(out)


class ResNetCifar(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes). `blocks` per stage: the paper's n."""

    def __init__(self, blocks: int, num_classes: int, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[0], blocks, stride=1)
        self.layer2 = _stage(widths[0], widths[1], blocks, stride=2)
        self.layer3 = _stage(widths[1], widths[2], blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[2], num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(self.flatten(self.pool(out)))


def _stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_planes, planes, stride), *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1))
    )


def _builder(depth: int) -> Callable[..., ResNetCifar]:
    def build(
        num_classes: int = 10, in_channels: int = 3, image_size: Size = 32, widths: Sequence[int] = (16, 32, 64)
    ) -> ResNetCifar:
        return ResNetCifar((depth - 2) // 6, num_classes, in_channels, widths)

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = f"Build a ResNet-{depth}; it takes any image_size."
    return build


resnet20, resnet32, resnet44, resnet56 = (_builder(depth) for depth in (20, 32, 44, 56))
