"""Once-for-All's MobileNetV3 space (Cai et al. 2020, arXiv:1908.09791) and networks that were published from it.

A stem, a fixed block, then five stages of two to four blocks (STAGES). Each block chooses its depthwise kernel (3, 5,
7) and its expansion (3, 4, 6); the last two of a stage may be skipped. Whether a stage has squeeze-and-excite and which
activation it uses is MobileNetV3's (Howard et al. 2019). A block is one row of the Galaxy Note 10 tables (kind
`mbconv`), which hold the space at width 1.2.

`from_config` builds the published networks; counted here: 50 ms at 220 pixels 9,057,064 parameters and 554,390,264
multiply-accumulates, 22 ms at 224 pixels 5,863,056 and 237,063,424, 8 ms at 160 pixels 3,761,168 and 75,802,880.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lut.errors import InputError
from lut.spec import attributes

from ..mixed import Block, MixedOp
from .common import Size, he_init

STAGES = ((24, 2, "relu", False), (40, 2, "relu", True), (80, 2, "hswish", False), (112, 1, "hswish", True),
          (160, 2, "hswish", True))  # fmt: skip
"""Output channels at width 1, stride of the first block, activation, squeeze-and-excite."""
STEM, EXPAND, FEATURES = 16, 960, 1280
KERNELS, EXPANSIONS = (3, 5, 7), (6, 4, 3)
DEPTH = 4
SKIPPABLE = 2
"""Blocks at the end of a stage that may be skipped."""
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish}


def divisible(channels: float, by: int = 8) -> int:
    """A multiple of `by`, at least 90 % of `channels`, as MobileNets round."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def conv(c_in: int, c_out: int, kernel: int, stride: int, act: str | None, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([ACTIVATIONS[act]()] if act else []))


class SqueezeExcite(nn.Module):
    """x sigma(W2 relu(W1 mean(x))), sigma the hard sigmoid (Hu et al. 2018); a quarter of the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = divisible(channels / 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.relu = nn.Conv2d(channels, inner, 1), nn.ReLU()
        self.expand, self.gate = nn.Conv2d(inner, channels, 1), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class MBConvSE(nn.Module):
    """(N, c_in, H, W) -> (N, c_out, H / stride, W / stride), `mid` channels inside."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, mid: int, act: str, se: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.mid, self.act, self.se = kernel, stride, mid, act, se
        self.add = stride == 1 and c_in == c_out
        self.expand = conv(c_in, mid, 1, 1, act) if mid != c_in else nn.Identity()
        self.depthwise = conv(mid, mid, kernel, stride, act, groups=mid)
        self.excite = SqueezeExcite(mid) if se else nn.Identity()
        self.project = conv(mid, c_out, 1, 1, None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.add else y

    def table_block(self) -> Block | None:
        """How a latency table names this block."""
        attrs = attributes(act=self.act, mid=self.mid, residual=int(self.add), se=int(self.se))
        return Block("mbconv", self.kernel, self.stride, attrs)


class OfaMobileNetV3(nn.Module):
    """x: (N, in_channels, height, width) -> scores (N, num_classes)."""

    def __init__(self, blocks: Sequence[nn.Module], stem: int, channels: int, expand: int, features: int,
                 num_classes: int, in_channels: int) -> None:  # fmt: skip
        super().__init__()
        self.stem = conv(in_channels, stem, 3, 2, "hswish")
        self.blocks = nn.Sequential(*blocks)
        self.expand = conv(channels, expand, 1, 1, "hswish")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Sequential(nn.Conv2d(expand, features, 1, bias=False), nn.Hardswish())
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(features, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.mix(self.pool(self.expand(self.blocks(self.stem(x)))))))


def ofa_mobilenet_v3(
    num_classes: int = 1000, in_channels: int = 3, image_size: Size = 224, width: float = 1.2
) -> OfaMobileNetV3:
    """The space; as a plain module every block has kernel 3 and expansion 6."""
    stem = divisible(STEM * width)
    blocks: list[nn.Module] = [MBConvSE(stem, stem, 3, 1, stem, "relu", False)]
    channels = stem
    for base, first, act, se in STAGES:
        out = divisible(base * width)
        for position in range(DEPTH):
            stride = 1 if position else first
            candidates: list[nn.Module] = [
                MBConvSE(channels, out, kernel, stride, divisible(channels * ratio), act, se)
                for kernel in KERNELS
                for ratio in EXPANSIONS
            ]
            blocks.append(MixedOp(*candidates, *([nn.Identity()] if position >= DEPTH - SKIPPABLE else [])))
            channels = out
    expand, features = divisible(EXPAND * width), divisible(FEATURES * width)
    return OfaMobileNetV3(blocks, stem, channels, expand, features, num_classes, in_channels)


def from_config(config: Mapping[str, Any], in_channels: int = 3) -> OfaMobileNetV3:
    """A published `net.config`. Raises InputError for a part that is missing or of another kind."""
    try:
        stem = config["first_conv"]["out_channels"]
        blocks: list[nn.Module] = []
        channels = stem
        for body in config["blocks"]:
            part = body["mobile_inverted_conv"]
            act = {"h_swish": "hswish"}.get(part["act_func"], part["act_func"])
            mid = part["mid_channels"] or round(part["in_channels"] * part["expand_ratio"])
            blocks.append(MBConvSE(part["in_channels"], part["out_channels"], part["kernel_size"], part["stride"], mid,
                                   act, part["use_se"]))  # fmt: skip
            channels = part["out_channels"]
        expand, features = (config[name]["out_channels"] for name in ("final_expand_layer", "feature_mix_layer"))
        return OfaMobileNetV3(
            blocks, stem, channels, expand, features, config["classifier"]["out_features"], in_channels
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"net.config: {type(error).__name__}: {error}; expected a MobileNetV3 of Once-for-All"
        ) from None
