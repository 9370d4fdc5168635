"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381, table 2).

A block expands its input t-fold by a 1x1 convolution, filters it depthwise, and projects it to few channels without an
activation; where input and output agree in shape they are added. Width w scales every channel count, rounded to a
multiple of 8 and never below 90 % of the product. The network halves the image five times; at 64 pixels and below, the
stem and the first strided stage keep their size (stride 1), so that a 32-pixel image ends at 4x4 instead of 1x1.

With 1,000 classes at 3x224x224: 3,504,872 parameters, 300,774,272 multiply-accumulates (the paper: 3.4 M, 300 M).
With 10 classes, 2,236,682 parameters: 55,021,952 multiply-accumulates at 96 pixels, 87,976,448 at 32 pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import Size, he_init, pair

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Per stage: expansion t, output channels, number of blocks, stride of the first."""
STEM, HEAD = 32, 1280


def scaled(channels: int, width_mult: float) -> int:
    """channels * width_mult, rounded to a multiple of 8, at least 8 and at least 90 % of the product."""
    target = channels * width_mult
    rounded = max(8, int(target + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * target else rounded


def conv_bn_relu6(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """1x1 expansion (absent when t = 1), 3x3 depthwise, linear 1x1 projection, identity shortcut where it fits."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.add = stride == 1 and c_in == c_out
        expand = [conv_bn_relu6(c_in, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


class MobileNetV2(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], width_mult: float) -> None:
        super().__init__()
        small = min(image_size) <= 64
        channels = scaled(STEM, width_mult)
        layers: list[nn.Module] = [conv_bn_relu6(in_channels, channels, 3, stride=1 if small else 2)]
        for index, (expansion, base, repeats, first_stride) in enumerate(STAGES):
            for block in range(repeats):
                stride = first_stride if block == 0 and not (small and index == 1) else 1
                layers.append(InvertedResidual(channels, scaled(base, width_mult), stride, expansion))
                channels = scaled(base, width_mult)
        head = scaled(HEAD, max(1.0, width_mult))
        self.features = nn.Sequential(*layers, conv_bn_relu6(channels, head, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(head, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))


def mobilenet_v2(
    num_classes: int = 10, in_channels: int = 3, image_size: Size = 32, width_mult: float = 1.0
) -> MobileNetV2:
    """Build a MobileNetV2 whose early strides fit `image_size`; `width_mult` scales the channels."""
    return MobileNetV2(num_classes, in_channels, pair(image_size), width_mult)
