"""Small networks that return several tensors, in the styles that people write them in. Images are 3x16x16."""

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_mobile import conv_bn


class TwoHeads(nn.Module):
    """A class and a box from one trunk, as dicts of outputs are written."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(conv_bn(3, 16, 3), conv_bn(16, 24, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(24, 10)
        self.locate = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4), nn.Sigmoid())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.trunk(x)
        return {"classes": self.classify(x), "box": self.locate(x)}


class Ssd(nn.Module):
    """Liu et al. 2016: heads for scores and offsets at two scales; lists of maps, the scores with channels last."""

    def __init__(self, anchors: int = 2, classes: int = 3):
        super().__init__()
        self.stem, self.down = conv_bn(3, 16, 3, 2), conv_bn(16, 24, 3, 2)
        self.scores = nn.ModuleList(nn.Conv2d(c, anchors * classes, 3, padding=1) for c in (16, 24))
        self.offsets = nn.ModuleList(nn.Conv2d(c, anchors * 4, 3, padding=1) for c in (16, 24))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        maps = [self.stem(x)]
        maps.append(self.down(maps[0]))
        scores = [head(f).permute(0, 2, 3, 1) for head, f in zip(self.scores, maps)]
        return scores, [head(f) for head, f in zip(self.offsets, maps)]


class EarlyExit(nn.Module):
    """Teerapittayanon et al. 2016 (BranchyNet): a ResNet with a classifier behind every stage, and its features."""

    class Block(nn.Module):
        def __init__(self, c_in: int, c: int, stride: int):
            super().__init__()
            self.conv1, self.conv2 = conv_bn(c_in, c, 3, stride), conv_bn(c, c, 3, act=None)
            self.down = conv_bn(c_in, c, 1, stride, act=None) if stride > 1 or c_in != c else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv2(self.conv1(x)) + self.down(x))

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, 3)
        self.stages = nn.ModuleList([self.Block(16, 16, 1), self.Block(16, 24, 2), self.Block(24, 32, 2)])
        self.exits = nn.ModuleList(nn.Linear(c, 10) for c in (16, 24, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, found = self.stem(x), []
        for stage, leave in zip(self.stages, self.exits):
            x = stage(x)
            found.append(leave(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))
        return (*found, x)


class Boxes(NamedTuple):
    scores: Tensor
    offsets: Tensor


class Detection(OrderedDict):
    """As a ModelOutput of the transformers library: its items are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Typed(nn.Module):
    """Features, the first with channels last, a named tuple for every scale, and a dict of the model's own."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = conv_bn(3, 16, 3, 2), conv_bn(16, 24, 3, 2)
        self.scores, self.offsets = nn.Conv2d(24, 6, 1), nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Detection:
        fine = self.stem(x)
        coarse = self.down(fine)
        features = OrderedDict(fine=fine.permute(0, 2, 3, 1), coarse=coarse)
        return Detection(features=features, boxes=[Boxes(self.scores(coarse), offsets=self.offsets(coarse))])


SEVERAL = {"two_heads": TwoHeads, "ssd": Ssd, "early_exit": EarlyExit, "typed": Typed}


def leaves(output: object) -> list[Tensor]:
    """The tensors of a structure, in its order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [leaf for part in parts for leaf in leaves(part)]


def shape(output: object) -> object:
    """The structure with sizes in place of tensors."""
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        return {key: shape(part) for key, part in output.items()}
    parts = [shape(part) for part in output]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
