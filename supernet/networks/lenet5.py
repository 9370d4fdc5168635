"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11)).

Two 5x5 convolutions of 6 and 16 channels, each followed by a 2x2 pool, and linear layers of 120, 84 and num_classes.
This is today's usual version: ReLU for tanh, max pool for trainable subsampling, a full second convolution, a linear
output. The paper's 28-pixel digits were padded to 32; here images below 32 pixels get padding 2 in the first layer.

At 1x28x28 (or 1x32x32) and 10 classes: 61,706 parameters, 416,520 multiply-accumulates.
"""

from __future__ import annotations

from torch import Tensor, nn

from lut.errors import InputError

from .common import Size, pair


class LeNet5(nn.Module):
    """x: (N, in_channels, *image_size) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        padding = 2 if min(image_size) < 32 else 0
        rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in image_size)
        if min(rows, columns) < 1:
            raise InputError(
                f"lenet5: image_size: {image_size[0]}x{image_size[1]}: each side must have 12 pixels or more"
            )
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * rows * columns, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(self.flatten(x)))
        return self.fc3(self.relu4(self.fc2(x)))


def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: Size = 28) -> LeNet5:
    """Build a LeNet-5. Raises InputError when the image is too small for it."""
    return LeNet5(num_classes, in_channels, pair(image_size))
