"""Networks for phones and what came of them, as people write them: splits, shuffles, gates, layer norms, scales."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(c_in, c, k, stride=1, groups=1, act=nn.ReLU):
    kernel = (k, k) if isinstance(k, int) else k
    pad = tuple(side // 2 for side in kernel)
    layers = [nn.Conv2d(c_in, c, kernel, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(c)]
    return nn.Sequential(*layers, *([act()] if act else []))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.size()
    x = x.view(b, groups, c // groups, h, w)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(b, -1, h, w)


class ShuffleUnit(nn.Module):
    """Ma et al. 2018, as torchvision writes it."""

    def __init__(self, c_in: int, c: int, stride: int):
        super().__init__()
        self.stride, half = stride, c // 2
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(conv_bn(c_in, c_in, 3, 2, groups=c_in, act=None), conv_bn(c_in, half, 1))
        self.branch2 = nn.Sequential(
            conv_bn(c_in if stride > 1 else half, half, 1),
            conv_bn(half, half, 3, stride, groups=half, act=None),
            conv_bn(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = conv_bn(3, 8, 3)
        self.stage = nn.Sequential(ShuffleUnit(8, 16, 2), ShuffleUnit(16, 16, 1), ShuffleUnit(16, 16, 1))
        self.conv5, self.fc = conv_bn(16, 24, 1), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv5(self.stage(self.conv1(x))).mean([2, 3]))


class ShuffleNetV1(nn.Module):
    """Zhang et al. 2018: grouped pointwise convolutions with a shuffle between them."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 24, 3, 2)
        self.reduce, self.shuffle = conv_bn(24, 12, 1, groups=3), nn.ChannelShuffle(3)
        self.depth, self.expand = conv_bn(12, 12, 3, groups=12, act=None), conv_bn(12, 24, 1, groups=3, act=None)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.expand(self.depth(self.shuffle(self.reduce(x)))))
        return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self, c: int, reduced: int, gate: nn.Module):
        super().__init__()
        self.conv_reduce, self.conv_expand, self.gate = nn.Conv2d(c, reduced, 1), nn.Conv2d(reduced, c, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        x_se = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.conv_expand(F.relu(self.conv_reduce(x_se), inplace=True)))


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, mid: int, c: int, k: int, stride: int, act: type[nn.Module], gate: nn.Module | None):
        super().__init__()
        self.residual = stride == 1 and c_in == c
        self.block = nn.Sequential(
            conv_bn(c_in, mid, 1, act=act),
            conv_bn(mid, mid, k, stride, groups=mid, act=act),
            SqueezeExcite(mid, 8, gate) if gate else nn.Identity(),
            conv_bn(mid, c, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class HardSwish(nn.Module):
    """Written by hand, as in many repositories of 2019."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3.0) / 6.0


class MobileNetV3(nn.Module):
    """Howard et al. 2019."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 16, 3, 2, act=nn.Hardswish),
            InvertedResidual(16, 16, 16, 3, 1, nn.ReLU, nn.Hardsigmoid()),
            InvertedResidual(16, 48, 24, 5, 2, nn.Hardswish, nn.Hardsigmoid()),
            InvertedResidual(24, 48, 24, 3, 1, HardSwish, None),
        )
        self.classifier = nn.Sequential(nn.Linear(24, 32), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.squeeze(torch.squeeze(x, 3), 2))


class EfficientNet(nn.Module):
    """Tan and Le 2019: MBConv with SiLU, a gate that is a sigmoid, stochastic depth by a flag."""

    class Block(InvertedResidual):
        def forward(self, x: Tensor) -> Tensor:
            out = self.block(x)
            if self.residual:
                if self.training:
                    out = out * torch.bernoulli(torch.full((out.shape[0], 1, 1, 1), 0.8))
                out = out + x
            return out

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2, act=nn.SiLU)
        self.blocks = nn.Sequential(
            self.Block(16, 32, 16, 3, 1, nn.SiLU, nn.Sigmoid()), self.Block(16, 48, 24, 5, 2, nn.SiLU, nn.Sigmoid())
        )
        self.head, self.fc = conv_bn(24, 40, 1, act=nn.SiLU), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.fc(x.flatten(2).mean(-1))


class GhostModule(nn.Module):
    """Han et al. 2020: cheap depthwise features beside the primary ones, cut to the wanted channels."""

    def __init__(self, c_in: int, c: int, act: bool):
        super().__init__()
        self.c, half = c, -(-c // 2)
        self.primary = conv_bn(c_in, half, 1, act=nn.ReLU if act else None)
        self.cheap = conv_bn(half, half, 3, groups=half, act=nn.ReLU if act else None)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.primary(x)
        x2 = self.cheap(x1)
        return torch.cat([x1, x2], dim=1)[:, : self.c, :, :]


class GhostNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.ghost1, self.ghost2 = GhostModule(16, 32, True), GhostModule(32, 16, False)
        self.odd = GhostModule(16, 15, True)
        self.fc = nn.Linear(15, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.odd(x + self.ghost2(self.ghost1(x))).mean(dim=(2, 3)))


class LayerNorm(nn.Module):
    """ConvNeXt's for channels first."""

    def __init__(self, c: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c)), eps

    def forward(self, x: Tensor) -> Tensor:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ConvNeXt(nn.Module):
    """Liu et al. 2022: linear layers on channels last, layer norm, GELU, layer scale."""

    class Block(nn.Module):
        def __init__(self, c: int):
            super().__init__()
            self.dwconv = nn.Conv2d(c, c, 7, padding=3, groups=c)
            self.norm = nn.LayerNorm(c, eps=1e-6)
            self.pwconv1, self.act, self.pwconv2 = nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c)
            self.gamma = nn.Parameter(0.5 * torch.rand(c))

        def forward(self, x: Tensor) -> Tensor:
            shortcut = x
            x = self.dwconv(x).permute(0, 2, 3, 1)
            x = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(x))))
            return shortcut + x.permute(0, 3, 1, 2)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 2, stride=2), LayerNorm(16))
        self.stages = nn.Sequential(self.Block(16), LayerNorm(16), nn.Conv2d(16, 24, 2, stride=2), self.Block(24))
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stages(self.stem(x)).mean([-2, -1])))


class RepVgg(nn.Module):
    """Ding et al. 2021: a 3x3, a 1x1 and a batch norm alone, added; layer scale as an image-shaped parameter."""

    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, stride: int):
            super().__init__()
            self.dense, self.point = conv_bn(c_in, c, 3, stride, act=None), conv_bn(c_in, c, 1, stride, act=None)
            self.identity = nn.BatchNorm2d(c_in) if c_in == c and stride == 1 else None

        def forward(self, x: Tensor) -> Tensor:
            out = self.dense(x) + self.point(x)
            if self.identity is not None:
                out = out + self.identity(x)
            return F.relu(out)

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(self.Block(3, 16, 2), self.Block(16, 16, 1), self.Block(16, 24, 2))
        self.scale = nn.Parameter(torch.rand(24, 1, 1))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.blocks(x) * self.scale).mean(3, keepdim=True).mean(2, keepdim=True).flatten(1))


class CspNet(nn.Module):
    """Wang et al. 2020 and YOLO's C2f: a split, a chain on one part, everything joined."""

    def __init__(self):
        super().__init__()
        self.cv1 = conv_bn(3, 32, 3, 2, act=nn.SiLU)
        self.m = nn.ModuleList(conv_bn(16, 16, 3, act=nn.SiLU) for _ in range(2))
        self.cv2, self.fc = conv_bn(64, 24, 1, act=nn.SiLU), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.fc(self.cv2(torch.cat(y, 1)).mean((2, 3)))


class Res2Net(nn.Module):
    """Gao et al. 2019: channels in four parts of which each is added to the next."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv3 = conv_bn(3, 32, 3, 2), conv_bn(32, 32, 1, act=None)
        self.convs = nn.ModuleList(conv_bn(8, 8, 3) for _ in range(3))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        parts = torch.split(x, 8, 1)
        outs = [parts[0]]
        for i, conv in enumerate(self.convs):
            outs.append(conv(parts[i + 1] if i == 0 else parts[i + 1] + outs[-1]))
        return self.fc(F.relu(self.conv3(torch.cat(outs, 1)) + x).mean((2, 3)))


class PlainMultiScale(nn.Module):
    """Features of two depths beside each other, one pooled to the other's size, narrow parts, unequal ones."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.left, self.right = nn.Conv2d(16, 12, 3, padding=1), nn.Conv2d(24, 12, 1)
        self.head = nn.Conv2d(24, 10, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tanh(self.a(x))
        b = F.gelu(self.b(a))
        both = torch.cat([F.avg_pool2d(a, 2), b], 1)
        left, right = both[:, :16], both.narrow(1, 16, 24)
        x = torch.cat([self.left(left), self.right(right)], 1)
        return self.head(-x * 0.5 + 1).mean((2, 3))


MOBILE = {
    "shufflenet_v2": ShuffleNetV2, "shufflenet_v1": ShuffleNetV1, "mobilenet_v3": MobileNetV3,
    "efficientnet": EfficientNet, "ghostnet": GhostNet, "convnext": ConvNeXt, "repvgg": RepVgg, "cspnet": CspNet,
    "res2net": Res2Net, "multi_scale": PlainMultiScale,
}  # fmt: skip
