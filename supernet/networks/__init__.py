"""Reference networks, one file per family: plain PyTorch, traceable by torch.fx."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from lut.errors import InputError

from .apq import apq
from .autoencoder import autoencoder
from .common import Size
from .ds_cnn import ds_cnn
from .lenet5 import lenet5
from .mobilenet_v1 import mobilenet_v1
from .mobilenet_v2 import mobilenet_v2
from .ofa import ofa_mobilenet_v3
from .proxylessnas import proxylessnas_mobile, proxylessnas_space
from .resnet8 import resnet8
from .resnet_cifar import resnet20, resnet32, resnet44, resnet56
from .resnet_imagenet import resnet18, resnet50, resnet50_v1
from .weights import Normalisation, pretrained

__all__ = ["BUILDERS", "NETWORKS", "Normalisation", "build", "pretrained"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "autoencoder": autoencoder,
    "ds_cnn": ds_cnn,
    "lenet5": lenet5,
}
"""Builders by name: (num_classes, in_channels, image_size) -> a freshly initialised network."""
IMAGENET: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet50_v1": resnet50_v1,
    "apq": apq,
    "proxylessnas_mobile": proxylessnas_mobile,
    "proxylessnas_space": proxylessnas_space,
    "ofa_mobilenet_v3": ofa_mobilenet_v3,
}
"""The same for networks of ImageNet's size, which halve the image five times; some have operator choices."""
BUILDERS = NETWORKS | IMAGENET


def build(name: str, num_classes: int, in_channels: int, image_size: Size) -> nn.Module:
    """A network of the registry, freshly initialised. Raises InputError with the nearest name when it is unknown."""
    if name not in BUILDERS:
        nearest = difflib.get_close_matches(name, BUILDERS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(BUILDERS)}"
        raise InputError(f"model: no network is called {name!r}; {hint}")
    return BUILDERS[name](num_classes, in_channels, image_size)
