"""ProxylessNAS's mobile search space (Cai et al. 2019, arXiv:1812.00332, sec. 3 and the authors' code).

The plan is MobileNetV2's with fixed channels: a stem of 32, one block of 16 without expansion, then six stages of
blocks (STAGES). Each block chooses its depthwise kernel (3, 5, 7) and its expansion (3, 6); those that keep their
shape may also be skipped: 6^6 7^15 networks. A block is one row of a latency table (kind `mbconv`).

The default network has 3x3 kernels and expansion 6 everywhere. The image is halved five times whatever its size.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..mixed import MixedOp
from .common import Size, he_init
from .mbconv import MBConv, conv_bn_act

STEM, FIRST, HEAD = 32, 16, 1280
STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
"""Per stage: output channels, number of blocks, stride of the first."""
CANDIDATES = ((3, 6), (3, 3), (5, 3), (5, 6), (7, 3), (7, 6))
"""Kernel and expansion; the first is the default."""


class ProxylessMobile(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = conv_bn_act(in_channels, STEM, 3, stride=2)
        self.first = MBConv(STEM, FIRST, 3, 1, 1)
        blocks: list[nn.Module] = []
        channels = FIRST
        for out, repeats, first_stride in STAGES:
            for block in range(repeats):
                stride = first_stride if block == 0 else 1
                candidates: list[nn.Module] = [MBConv(channels, out, kernel, stride, t) for kernel, t in CANDIDATES]
                if block > 0:
                    candidates.append(nn.Identity())
                blocks.append(MixedOp(*candidates))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn_act(channels, HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(HEAD, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.head(self.blocks(self.first(self.stem(x)))))))


def proxyless_mobile(num_classes: int = 10, in_channels: int = 3, image_size: Size = 32) -> ProxylessMobile:
    """Build the space; as a plain module it is its default network."""
    return ProxylessMobile(num_classes, in_channels)
