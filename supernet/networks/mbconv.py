"""The inverted residual block of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as search spaces use it.

Expand by a 1x1 convolution (absent when the expansion is 1), filter depthwise, project without an activation, add the
input where the shapes agree. Latency tables price such a block as one row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lut.spec import attributes

from ..mixed import Block


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

    @torch.no_grad()
    def inherit(self, source: nn.Module) -> None:
        """Start as `source` does: its kernel in the middle of a larger one of zeros (the same function; Net2Net, Chen
        et al. 2016, arXiv:1511.05641), and of its middle channels those that the projection weighs most, in order.
        Left as it is beside a block of another kind, or one with a larger kernel or fewer channels."""
        if not isinstance(source, MBConv) or source.kernel > self.kernel or source.hidden < self.hidden:
            return
        if isinstance(source.expand, nn.Identity) != isinstance(self.expand, nn.Identity):
            return
        weight = source.project[0].weight
        kept = weight.abs().sum((0, 2, 3)).topk(self.hidden).indices.sort().values  # type: ignore[operator, union-attr]
        rim = (self.kernel - source.kernel) // 2
        for mine, theirs in zip(self._parts(), source._parts()):
            state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
            for name, tensor in state.items():
                if name == "0.weight" and theirs is source.depthwise:
                    tensor = F.pad(tensor, (rim,) * 4)
                if tensor.dim() and theirs is source.project:
                    state[name] = tensor[:, kept] if tensor.dim() == 4 else tensor
                elif tensor.dim():
                    state[name] = tensor[kept]
            mine.load_state_dict(state)

    def _parts(self) -> list[nn.Module]:
        return [part for part in (self.expand, self.depthwise, self.project) if not isinstance(part, nn.Identity)]

    def table_block(self) -> Block | None:
        """How a latency table names this block."""
        attrs = attributes(act="relu6", mid=self.hidden, residual=int(self.add), se=0)
        return Block("mbconv", self.kernel, self.stride, attrs)
