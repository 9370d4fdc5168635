"""Small models written as people write them, for the tests of conversion, extraction and lowering."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.mixed import Block


class OptionABlock(nn.Module):
    """Residual block whose shortcut is strided and padded with zero channels."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.extra = stride, (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        out += x
        return F.relu(out)


class Mixture(nn.Module):
    """Option-A blocks, a depthwise layer with ReLU6, a signed bottleneck, max pool, a flatten of several pixels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(OptionABlock(16, 16, 1), OptionABlock(16, 32, 2))
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.BatchNorm2d(32), nn.ReLU6())
        self.bottleneck = nn.Sequential(nn.Conv2d(32, 20, 1), nn.BatchNorm2d(20))
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(20 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bottleneck(self.depthwise(self.blocks(self.stem(x))))
        x = self.dropout(F.max_pool2d(x, 2))
        return self.fc(x.view(x.size(0), -1))


class PlainAdd(nn.Module):
    """A sum that no convolution ends, an average pool, a convolution as classifier."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Conv2d(8, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(torch.add(self.a(x), self.b(x)))).flatten(1)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and batch-norm state drawn at random, some gammas negative and one zero: nothing is at its default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                count = module.num_features
                module.running_mean.copy_(torch.randn(count, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(count, generator=generator) + 0.5)
                module.weight.copy_(torch.randn(count, generator=generator) * 0.5 + 0.7)
                module.bias.copy_(torch.randn(count, generator=generator) * 0.3)
                module.weight[0] = 0.0
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
    return model.eval()


def bytes_and_input(shape: tuple[int, int, int], count: int, seed: int = 0):
    """(uint8 images NHWC as numpy, normalised float NCHW, mean, std)."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    mean, std = torch.full((channels,), 120.0), torch.full((channels,), 60.0)
    x = ((images.float() - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)).contiguous()
    return images.permute(0, 2, 3, 1).contiguous().numpy(), x, mean, std


class Whole(nn.Module):
    """Two convolutions that a table may price as one row of kind `whole`."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.b(self.a(x).relu())

    def table_block(self):
        return Block("whole", 3)
