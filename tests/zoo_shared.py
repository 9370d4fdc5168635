"""Small networks that use layers several times, in the styles that people write them in. Images are 3x16x16."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_mobile import conv_bn


class Retina(nn.Module):
    """Lin et al. 2017: one tower of convolutions for all scales, with batch norms of each scale (as in Tan et al. 2020,
    EfficientDet), a shared last convolution, and one more that stays out of the sharing."""

    def __init__(self, anchors: int = 2, classes: int = 3):
        super().__init__()
        self.stem, self.down = conv_bn(3, 16, 3, 2), conv_bn(16, 16, 3, 2)
        self.tower = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=i == 0) for i in range(2))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2)) for _ in range(2))
        self.scores = nn.Conv2d(16, anchors * classes, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        maps.append(self.down(maps[0]))
        found = []
        for y, norms in zip(maps, self.norms):
            for conv, norm in zip(self.tower, norms):
                y = F.silu(norm(conv(y)))
            found.append(self.scores(y))
        return found


class Recurrent(nn.Module):
    """Liang and Hu 2015: a layer that reads its own output, in a residual block that is called twice with its norms."""

    class Block(nn.Module):
        def __init__(self, c: int):
            super().__init__()
            self.conv1, self.conv2 = conv_bn(c, c + 8, 3), conv_bn(c + 8, c, 3, act=None)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.conv2(self.conv1(x)))

    def __init__(self):
        super().__init__()
        self.stem, self.again, self.block = conv_bn(3, 16, 3, 2), nn.Conv2d(16, 16, 3, padding=1), self.Block(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.again(x).relu()
        x = self.again(F.max_pool2d(x, 2)).clamp(0, 6)
        return self.fc(self.block(self.block(x)).mean((2, 3)))


class Siamese(nn.Module):
    """Two halves of the image's features through the same grouped and depthwise layers, then compared."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2)
        self.grouped = nn.Conv2d(16, 24, 3, padding=1, groups=2)
        self.depthwise, self.norm = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24)
        self.embed, self.fc = nn.Linear(24, 16), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.branch(part) for part in self.stem(x).chunk(2, 1))
        return self.fc(torch.cat([first + second, first * second], 1))

    def branch(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.depthwise(F.relu(self.grouped(x)))))
        return F.relu(self.embed(x.mean((2, 3))))


class Standardised(nn.Module):
    """Qiao et al. 2019: weights are standardised in forward, of a layer that is used twice; layer norm of channels."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.weight, self.bias = nn.Parameter(torch.randn(16, 16, 3, 3)), nn.Parameter(torch.zeros(16))
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 10)

    def conv(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (12 * std), self.bias, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.conv(x if x.shape[1] == 16 else self.stem(x)).permute(0, 2, 3, 1)
            x = F.relu(self.norm(x)).permute(0, 3, 1, 2)
        return self.fc(x.mean((2, 3)))


SHARED = {"retina": Retina, "recurrent": Recurrent, "siamese": Siamese, "standardised": Standardised}
