"""What the reference networks share: image sizes and the initialisation of He et al. (2015, arXiv:1502.01852)."""

from __future__ import annotations

from torch import nn

Size = int | tuple[int, int]
"""An image's size in pixels: (height, width), or one number for a square."""


def pair(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else size


def he_init(model: nn.Module) -> None:
    """Convolution weights ~ N(0, 2 / fan_out), their biases 0; linear layers keep torch's default."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
