"""The inverted residual block of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as search spaces use it.

Expand by a 1x1 convolution (absent when the expansion is 1), filter depthwise, project without an activation, add the
input where the shapes agree. Latency tables price such a block as one row.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..mixed import Block, attributes


def conv_bn_act(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6; the image keeps its size but for the stride."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU6(),
    )


class MBConv(nn.Module):
    """(N, c_in, H, W) -> (N, c_out, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.hidden = c_in * expansion
        self.kernel, self.stride = kernel, stride
        self.add = stride == 1 and c_in == c_out
        self.expand = conv_bn_act(c_in, self.hidden, 1) if expansion != 1 else nn.Identity()
        self.depthwise = conv_bn_act(self.hidden, self.hidden, kernel, stride, groups=self.hidden)
        self.project = nn.Sequential(nn.Conv2d(self.hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.add else y

    def table_block(self) -> Block | None:
        """How a latency table names this block."""
        attrs = attributes(act="relu6", mid=self.hidden, residual=int(self.add), se=0)
        return Block("mbconv", self.kernel, self.stride, attrs)
