"""DS-CNN, the keyword spotting network of MLPerf Tiny (Zhang et al. 2017, arXiv:1711.07128; arXiv:2106.07597).

A 10x4 convolution with stride 2 over a spectrogram (time x frequency, one channel), four depthwise separable
convolutions of 64 channels at one resolution, average pool, linear. It follows the Keras reference: biases, batch norm
eps 1e-3, `same` padding (the larger part at the bottom and right), a pool of half the input's size, rounded down. Its
dropout is left out: it is the identity at inference, and quantization noise regularises in training.

At 1x49x10 and 12 classes: 23,756 trainable parameters, 2,656,768 multiply-accumulates.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import Size, he_init, pair

EPS = 1e-3
KERNEL, STRIDE = (10, 4), 2
BLOCKS = 4


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis such that the output has ceil(size / stride) elements (TensorFlow's `same`)."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def separable(channels: int) -> nn.Sequential:
    """3x3 depthwise, then 1x1, each with batch norm and relu."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.BatchNorm2d(channels, eps=EPS),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels, eps=EPS),
        nn.ReLU(),
    )


class DSCNN(nn.Module):
    """x: (N, in_channels, *image_size) -> scores (N, num_classes). `width`: channels of every convolution."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int) -> None:
        super().__init__()
        top, bottom = same_padding(image_size[0], KERNEL[0], STRIDE)
        left, right = same_padding(image_size[1], KERNEL[1], STRIDE)
        self.stem = nn.Sequential(
            nn.ZeroPad2d((left, right, top, bottom)),
            nn.Conv2d(in_channels, width, KERNEL, STRIDE),
            nn.BatchNorm2d(width, eps=EPS),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(separable(width) for _ in range(BLOCKS)))
        self.pool = nn.AvgPool2d((image_size[0] // 2, image_size[1] // 2))
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flatten(self.pool(self.blocks(self.stem(x)))))


def ds_cnn(num_classes: int = 12, in_channels: int = 1, image_size: Size = (49, 10), width: int = 64) -> DSCNN:
    """Build a DS-CNN for spectrograms (or images) of `image_size`, at least 2x2."""
    return DSCNN(num_classes, in_channels, pair(image_size), width)
