"""ResNet-18 and ResNet-50 for ImageNet (He et al. 2016, arXiv:1512.03385, table 1), with torchvision's module names.

A bottleneck halves the image in its 3x3 convolution (torchvision's "v1.5") or, as in the paper, in its first 1x1
(`resnet50_v1`, which is what HAWQ-V3's table was measured on). Shortcuts that change the shape are 1x1 convolutions
(option B). The image is halved five times whatever its size.

At 3x224x224 with 1,000 classes: ResNet-18 11,689,512 parameters, 1,814,073,344 multiply-accumulates; ResNet-50
25,557,032 parameters, 4,089,184,256 (v1: 3,857,973,248).
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import Size, he_init


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the first one strides."""

    expansion = 1

    def __init__(self, c_in: int, channels: int, stride: int, stride_first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut(c_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with four times the channels; `stride_first` strides in the first, else in the second."""

    expansion = 4

    def __init__(self, c_in: int, channels: int, stride: int, stride_first: bool) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(c_in, channels, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut(c_in, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, block: type[BasicBlock | Bottleneck], repeats: tuple[int, ...], num_classes: int,
                 in_channels: int, stride_first: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)

        def stage(index: int, c_in: int) -> nn.Sequential:
            channels, strides = 64 << index, [2 if index else 1] + [1] * (repeats[index] - 1)
            inputs = [c_in] + [channels * block.expansion] * (repeats[index] - 1)
            return nn.Sequential(*(block(c, channels, s, stride_first) for c, s in zip(inputs, strides)))

        grown = block.expansion
        self.layer1 = stage(0, 64)
        self.layer2 = stage(1, 64 * grown)
        self.layer3 = stage(2, 128 * grown)
        self.layer4 = stage(3, 256 * grown)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * grown, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> ResNet:
    """Strides in the 3x3 convolutions, as torchvision has it."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


def resnet50_v1(num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224) -> ResNet:
    """Strides in the first 1x1 convolutions, as the paper has it."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, stride_first=True)
