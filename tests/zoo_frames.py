"""Small networks that slice, shift and fill their tensors, as people write them. Images are 3x16x16."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_mobile import conv_bn


class FactorizedReduce(nn.Module):
    """Liu et al. 2019 (DARTS): half of the channels from the even pixels, half from the odd ones."""

    def __init__(self, c_in: int, c: int):
        super().__init__()
        self.conv_1, self.conv_2 = (nn.Conv2d(c_in, c // 2, 1, stride=2, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class PaddedReduce(FactorizedReduce):
    """Ying et al. 2019 (NAS-Bench): the frame is shifted by a pad and a slice."""

    def __init__(self, c_in: int, c: int):
        super().__init__(c_in, c)
        self.pad = nn.ConstantPad2d((0, 1, 0, 1), 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pad(x)[:, :, 1:, 1:]
        return self.bn(torch.cat([self.conv_1(F.avg_pool2d(x, 1)), self.conv_2(y)], dim=1))


class Reductions(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.first, self.second = FactorizedReduce(16, 24), PaddedReduce(24, 32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.second(self.first(self.stem(x)))).mean((2, 3)))


class ZeroShortcuts(nn.Module):
    """Residual blocks with shortcuts of option A (He et al. 2016), each with zeros that are made another way."""

    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, way: str):
            super().__init__()
            self.conv1, self.conv2 = conv_bn(c_in, c, 3, 2), conv_bn(c, c, 3, act=None)
            self.way = way

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))

        def shortcut(self, x: Tensor) -> Tensor:
            if self.way == "product":  # Xie et al. 2017's code
                x = F.avg_pool2d(x, 2)
                return torch.cat((x, x.mul(0)), 1)
            x = x[:, :, ::2, ::2]
            if self.way == "like":
                return torch.cat([x, torch.zeros_like(x[:, :8])], 1)
            n, c, h, w = x.shape
            return torch.cat([x.new_zeros(n, c // 4, h, w), x, x.new_zeros((n, c // 4, h, w))], dim=-3)

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 8, 3)
        self.blocks = nn.Sequential(self.Block(8, 16, "product"), self.Block(16, 24, "like"), self.Block(24, 36, "new"))
        self.fc = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


FRAMES = {"reductions": Reductions, "zero_shortcuts": ZeroShortcuts}
