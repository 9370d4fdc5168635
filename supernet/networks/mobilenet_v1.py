"""MobileNetV1: depthwise separable convolutions (Howard et al. 2017, arXiv:1704.04861, table 1), at width 0.25 the
visual wake words network of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597; vww_model.py).

A 3x3 convolution with stride 2, thirteen depthwise separable blocks, average pool, linear: 96 pixels end at 3. As in
the Keras reference: biases, batch norm eps 1e-3, relu, `same` padding, every channel count a fraction of the paper's.

At 3x96x96, 2 classes and width 0.25: 216,322 trainable parameters, 7,489,664 multiply-accumulates.
"""

from __future__ import annotations

from torch import Tensor, nn

from lut.errors import InputError

from .common import Size, he_init, pair
from .ds_cnn import EPS, same_padding

STEM = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Output channels at width 1, and the depthwise convolution's stride."""


class MobileNetV1(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], width_mult: float) -> None:
        super().__init__()
        self.size = image_size
        channels = int(STEM * width_mult)
        layers = self._convolution(in_channels, channels, 3, 2)
        for base, stride in BLOCKS:
            layers += self._convolution(channels, channels, 3, stride, channels)
            layers += self._convolution(channels, int(base * width_mult), 1, 1)
            channels = int(base * width_mult)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)
        he_init(self)

    def _convolution(self, c_in: int, c_out: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
        """Padded as `same`, with batch norm and relu; keeps account of the image's size."""
        (top, bottom), (left, right) = (same_padding(side, kernel, stride) for side in self.size)
        even = top == bottom == left == right
        frame = [] if even else [nn.ZeroPad2d((left, right, top, bottom))]
        self.size = -(-self.size[0] // stride), -(-self.size[1] // stride)
        conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=top if even else 0, groups=groups)
        return [*frame, conv, nn.BatchNorm2d(c_out, eps=EPS), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))


def mobilenet_v1(
    num_classes: int = 2, in_channels: int = 3, image_size: Size = 96, width_mult: float = 0.25
) -> MobileNetV1:
    """Build a MobileNetV1 for images of any size. Raises InputError for a width that leaves no channels."""
    if int(STEM * width_mult) < 1:
        raise InputError(f"mobilenet_v1: width_mult: {width_mult:g} leaves no channels; expected {1 / STEM:g} or more")
    return MobileNetV1(num_classes, in_channels, pair(image_size), width_mult)
