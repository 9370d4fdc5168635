"""Small networks in the styles that people write CNNs in; none of them knows of Lutier. Images are 3x16x16.

Residual and plain ones here, those of mobile networks in zoo_mobile.py, those with several outputs in zoo_outputs.py,
those that use a layer several times in zoo_shared.py, those that slice and fill in zoo_frames.py; `ZOO` holds them all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_frames import FRAMES
from zoo_mobile import MOBILE, conv_bn
from zoo_outputs import SEVERAL
from zoo_shared import SHARED


class DenseLayer(nn.Module):
    """Pre-activation, bottleneck, growth; as torchvision's, without its checkpointing."""

    def __init__(self, c_in: int, growth: int, drop: float):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(c_in), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(c_in, 2 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)
        self.drop = drop

    def forward(self, features: list[Tensor]) -> Tensor:
        out = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        out = self.conv2(self.relu2(self.norm2(out)))
        return F.dropout(out, p=self.drop, training=self.training) if self.drop > 0 else out


class DenseNet(nn.Module):
    """Huang et al. 2017: two dense blocks with a transition between them."""

    def __init__(self, growth: int = 8, layers: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = nn.ModuleList(DenseLayer(16 + i * growth, growth, 0.1) for i in range(layers))
        c = 16 + layers * growth
        self.transition = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c // 2, 1), nn.AvgPool2d(2, 2))
        self.block2 = nn.ModuleList(DenseLayer(c // 2 + i * growth, growth, 0.0) for i in range(2))
        self.norm = nn.BatchNorm2d(c // 2 + 2 * growth)
        self.classifier = nn.Linear(c // 2 + 2 * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.block1:
            features.append(layer(features))
        features = [self.transition(torch.cat(features, 1))]
        for layer in self.block2:
            features.append(layer(features))
        x = F.relu(self.norm(torch.cat(features, dim=1)), inplace=True)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        return self.classifier(torch.flatten(x, 1))


class InceptionBlock(nn.Module):
    def __init__(self, c_in: int):
        super().__init__()
        self.b1 = conv_bn(c_in, 8, 1)
        self.b2 = nn.Sequential(conv_bn(c_in, 8, 1), conv_bn(8, 12, 3))
        self.b3 = nn.Sequential(conv_bn(c_in, 4, 1), conv_bn(4, 8, (1, 5)), conv_bn(8, 8, (5, 1)))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(c_in, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b1(x), self.b2(x), self.b3(x), self.pool(x)], 1)


class Inception(nn.Module):
    """Szegedy et al. 2015 and 2016: four branches, factorised kernels, a grid reduction with a pool as a branch."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.a, self.b = InceptionBlock(16), InceptionBlock(60)
        self.reduce = conv_bn(36, 24, 3, stride=2)
        self.fc = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.stem(x))
        x = torch.concat((self.reduce(x), F.max_pool2d(x, 3, 2, 1)), dim=1)
        x = self.b(x)
        return self.fc(F.dropout(x.mean([2, 3]), 0.2, self.training))


class Fire(nn.Module):
    def __init__(self, c_in: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(c_in, squeeze, 1), nn.ReLU(inplace=True)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.expand1(x)), self.act(self.expand3(x))], 1)


class SqueezeNet(nn.Module):
    """Iandola et al. 2016: Fire modules, ceil-mode pools, a convolution and a mean as the classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(16, 8, 16), Fire(32, 8, 16), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(32, 8, 24),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.5), nn.Conv2d(48, 10, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class SeResNet(nn.Module):
    """Hu et al. 2018: linear layers in the excitation, written with views; a projection shortcut."""

    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, stride: int):
            super().__init__()
            self.conv1, self.conv2 = conv_bn(c_in, c, 3, stride), conv_bn(c, c, 3, act=None)
            self.fc = nn.Sequential(nn.Linear(c, c // 2), nn.ReLU(), nn.Linear(c // 2, c), nn.Sigmoid())
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.down = conv_bn(c_in, c, 1, stride, act=None) if stride > 1 or c_in != c else None

        def forward(self, x: Tensor) -> Tensor:
            out = self.conv2(self.conv1(x))
            b, c, _, _ = out.size()
            y = self.fc(self.pool(out).view(b, c)).view(b, c, 1, 1)
            out = out * y.expand_as(out)
            out += x if self.down is None else self.down(x)
            return F.relu(out)

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.layers = nn.Sequential(self.Block(16, 16, 1), self.Block(16, 24, 2))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(x)).mean(3).mean(2))


class ResNeXt(nn.Module):
    """Xie et al. 2017: grouped 3x3 convolutions in bottlenecks."""

    class Block(nn.Module):
        def __init__(self, c_in: int, width: int, c: int, stride: int, groups: int):
            super().__init__()
            self.body = nn.Sequential(
                conv_bn(c_in, width, 1), conv_bn(width, width, 3, stride, groups=groups), conv_bn(width, c, 1, act=None)
            )
            self.shortcut = nn.Sequential()
            if stride != 1 or c_in != c:
                self.shortcut = conv_bn(c_in, c, 1, stride, act=None)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu_(self.body(x) + self.shortcut(x))

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.blocks = nn.ModuleList([self.Block(16, 16, 32, 1, 4), self.Block(32, 32, 32, 2, 8)])
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(torch.mean(x, dim=(-2, -1)))


class PreActivation(nn.Module):
    """He et al. 2016: batch norm and ReLU before the convolutions, identity shortcuts, an activation that is shared."""

    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, stride: int):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, c, 3, stride, 1, bias=False)
            self.bn2, self.conv2 = nn.BatchNorm2d(c), nn.Conv2d(c, c, 3, 1, 1, bias=False)
            if stride != 1 or c_in != c:
                self.shortcut = nn.Conv2d(c_in, c, 1, stride, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            out = F.relu(self.bn1(x))
            shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
            out = self.conv1(out)
            out = self.conv2(F.relu(self.bn2(out)))
            return out + shortcut

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.layers = nn.Sequential(self.Block(16, 16, 1), self.Block(16, 24, 2), self.Block(24, 24, 1))
        self.bn, self.fc = nn.BatchNorm2d(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.layers(self.conv(x))))
        x = F.avg_pool2d(x, x.shape[-1])
        return self.fc(x.squeeze(-1).squeeze(-1))


def drop_path(x: Tensor, p: float, training: bool) -> Tensor:
    if p == 0.0 or not training:
        return x
    keep = 1 - p
    return x.div(keep) * (keep + torch.rand(x.shape[0], 1, 1, 1)).floor_()


class DropPath(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.p, self.training)


class DropPathResNet(nn.Module):
    """Stochastic depth (Huang et al. 2016), option-A shortcuts (He et al. 2016), a scaled residual."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.a = nn.Sequential(conv_bn(16, 16, 3), conv_bn(16, 16, 3, act=None), DropPath(0.2))
        self.b = nn.Sequential(conv_bn(16, 32, 3, 2), conv_bn(32, 32, 3, act=None), DropPath(0.3))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.a(x) * 0.5)
        x = F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)) + self.b(x))
        return self.head(x)


class Vgg(nn.Module):
    """Simonyan and Zisserman 2015: biases and no batch norm, hidden linear layers; ReLU behind the pool."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 3
        for c in (16, "M", 24, 24, "M", 32):
            if c == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2), nn.ReLU(True)]
            else:
                layers.append(nn.Conv2d(c_in, c, kernel_size=3, padding="same"))
                c_in = c
        self.features = nn.Sequential(*layers, nn.ReLU(True))
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(32 * 4, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.reshape(x.shape[0], -1))


class AlexNet(nn.Module):
    """Krizhevsky et al. 2012: large kernels, a grouped convolution, overlapping pools, batch norm of vectors."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.Conv2d(16, 24, 3, padding=1, groups=2)
        self.conv3 = nn.Conv2d(24, 16, 3, padding=1)
        self.fc1, self.bn, self.fc2 = nn.Linear(16 * 3 * 3, 24), nn.BatchNorm1d(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2)
        x = F.relu(self.conv3(F.relu(self.conv2(x))))
        x = x.view(x.size(0), 16 * 3 * 3)
        x = F.dropout(F.relu(self.bn(self.fc1(x))), training=self.training)
        return self.fc2(x)


class Dilated(nn.Module):
    """Dilated, asymmetric and even kernels, 'same' padding, a padded mean, parallel rates that are added."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(3, 16, (4, 2)), nn.BatchNorm2d(16), nn.ReLU6())
        self.rates = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=r, dilation=r) for r in (1, 2, 3))
        self.rows = nn.Conv2d(16, 16, (1, 7), padding="same", dilation=(1, 2))
        self.cols = nn.Conv2d(16, 12, (5, 1), stride=(2, 1), padding=(2, 0))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.head = nn.Conv2d(12, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.clamp(self.rates[0](x) + self.rates[1](x) + self.rates[2](x), min=0)
        x = self.pool(F.hardtanh(self.cols(self.rows(x).relu()), 0.0, 6.0))
        return self.head(x).amax((2, 3))


class SoftGates(nn.Module):
    """Softmax over channels: as a gate per channel and per pixel, between layers, and at the end."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = conv_bn(3, 16, 3), conv_bn(16, 24, 3, 2)
        self.squeeze, self.pixels = nn.Conv2d(16, 16, 1), nn.Conv2d(24, 24, 1)
        self.assign, self.fc = nn.Linear(24, 12), nn.Linear(12, 10)
        self.end = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.down(16 * x * F.softmax(self.squeeze(F.adaptive_avg_pool2d(x, 1)), dim=1))
        x = x + 8 * torch.softmax(self.pixels(x).permute(0, 2, 3, 1), -1).permute(0, 3, 1, 2)
        return self.end(4 * self.fc(self.assign(x.mean((2, 3))).softmax(1)))


ZOO = {
    "densenet": DenseNet, "inception": Inception, "squeezenet": SqueezeNet, "se_resnet": SeResNet, "resnext": ResNeXt,
    "preactivation": PreActivation, "drop_path": DropPathResNet, "vgg": Vgg, "alexnet": AlexNet, "dilated": Dilated,
    "soft_gates": SoftGates, **MOBILE, **SEVERAL, **SHARED, **FRAMES,
}  # fmt: skip
