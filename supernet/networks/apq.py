"""APQ's plan of a network (Wang et al. 2020, arXiv:2006.08509) as far as its BitFusion table goes: channels and bits.

Inverted residuals whose outputs are those of ProxylessNAS's stages and whose middle channels are searched between four
and six times the input's (`space.widths: [0.67, 0.83, 1.0]`), at 4, 6 or 8 bits. The table has one row for everything
before the searched blocks (kind `head`: stem and first block) and one for everything after them (`tail`: last 1x1
convolution and classifier). Outputs of blocks are pinned at full width: the table has no others.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..mixed import Block
from .common import Size, he_init
from .mbconv import MBConv, conv_bn_act
from .proxylessnas import FIRST, HEAD, STAGES, STEM

EXPANSION = 6


class Ends(nn.Sequential):
    """Layers that the table prices together, under a kind and a stride."""

    def __init__(self, kind: str, stride: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.kind, self.stride = kind, stride

    def table_block(self) -> Block | None:
        return Block(self.kind, stride=self.stride, by_bits=False)


class PlainMBConv(MBConv):
    """The same block, priced layer by layer."""

    def table_block(self) -> Block | None:
        return None


class Apq(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stem = conv_bn_act(in_channels, STEM, 3, stride=2)
        self.head = Ends("head", 2, stem, PlainMBConv(STEM, FIRST, 3, 1, 1))
        blocks: list[nn.Module] = []
        channels = FIRST
        for out, repeats, first_stride in STAGES:
            for block in range(repeats):
                stride = first_stride if block == 0 else 1
                blocks.append(PlainMBConv(channels, out, 3, stride, EXPANSION))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        last = conv_bn_act(channels, HEAD, 1)
        self.tail = Ends("tail", 1, last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, num_classes))
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.blocks(self.head(x)))


def apq(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> Apq:
    return Apq(num_classes, in_channels)
