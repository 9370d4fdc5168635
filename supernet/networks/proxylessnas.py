"""ProxylessNAS's mobile search space (Cai et al. 2019, arXiv:1812.00332, sec. 3 and the authors' code).

The plan is MobileNetV2's with fixed channels: a stem of 32, one block of 16 without expansion, then six stages of
blocks (STAGES). Each block chooses its depthwise kernel (3, 5, 7) and its expansion (3, 6); those that keep their
shape may also be skipped: 6^6 7^15 networks. A block is one row of a latency table (kind `mbconv`).

The default network has 3x3 kernels and expansion 6 everywhere. The image is halved five times whatever its size.

`proxylessnas_mobile` is the network that the authors published: 4,080,512 parameters and 320,427,584
multiply-accumulates with 1,000 classes at 3x224x224 (the paper: 4.1 M, 320 M; top-1 74.6 %). Its first stage has 32
channels where the table's has 24.
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


PUBLISHED = (
    (32, 2, ((5, 3), (3, 3))),
    (40, 2, ((7, 3), (3, 3), (5, 3), (5, 3))),
    (80, 2, ((7, 6), (5, 3), (5, 3), (5, 3))),
    (96, 1, ((5, 6), (5, 3), (5, 3), (5, 3))),
    (192, 2, ((7, 6), (7, 6), (7, 3), (7, 3))),
    (320, 1, ((7, 6),)),
)
"""Of the published network per stage: output channels, stride of the first block, kernel and expansion of each."""


class ProxylessNAS(nn.Module):
    """Stem, a first block, `blocks`, head. x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, blocks: list[nn.Module], channels: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = conv_bn_act(in_channels, STEM, 3, stride=2)
        self.first = MBConv(STEM, FIRST, 3, 1, 1)
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn_act(channels, HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(HEAD, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.head(self.blocks(self.first(self.stem(x)))))))


def proxylessnas_space(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> ProxylessNAS:
    """Every block a choice; as a plain module the default network."""
    blocks: list[nn.Module] = []
    channels = FIRST
    for out, repeats, first_stride in STAGES:
        for position in range(repeats):
            stride = first_stride if position == 0 else 1
            candidates: list[nn.Module] = [MBConv(channels, out, kernel, stride, t) for kernel, t in CANDIDATES]
            blocks.append(MixedOp(*candidates, *([nn.Identity()] if position else [])))
            channels = out
    return ProxylessNAS(blocks, channels, num_classes, in_channels)


def proxylessnas_mobile(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> ProxylessNAS:
    """The published network for the Pixel 1."""
    blocks: list[nn.Module] = []
    channels = FIRST
    for out, first_stride, published in PUBLISHED:
        for position, (kernel, expansion) in enumerate(published):
            blocks.append(MBConv(channels, out, kernel, 1 if position else first_stride, expansion))
            channels = out
    return ProxylessNAS(blocks, channels, num_classes, in_channels)
