"""The fully connected autoencoder of MLPerf Tiny's anomaly detection (Banbury et al. 2021, arXiv:2106.07597;
github.com/mlcommons/tiny, anomaly_detection/keras_model.py; Koizumi et al. 2020, arXiv:2006.05822).

Five frames of 128 mel bands go through linear layers of 128, 128, 128, 128, 8, 128, 128, 128, 128 features, each with
batch norm (eps 1e-3) and relu, and back to 640 values. It is trained to repeat its input; the mean squared error says
how unusual a sound is. So its output is a vector, not scores of classes: a run names a loss of its own.

At 1x5x128 and 640 outputs: 267,928 trainable parameters, 264,192 multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .common import Size, pair
from .ds_cnn import EPS

WIDTHS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """x: (N, in_channels, *image_size) -> (N, outputs)."""

    def __init__(self, outputs: int, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width, eps=EPS), nn.ReLU()]
            inputs = width
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.flatten(x))


def autoencoder(
    num_classes: int = 640, in_channels: int = 1, image_size: Size = (5, 128), widths: Sequence[int] = WIDTHS
) -> Autoencoder:
    """Build the autoencoder. num_classes: the length of its output, 0 for that of its input."""
    height, width = pair(image_size)
    inputs = in_channels * height * width
    return Autoencoder(num_classes or inputs, inputs, widths)
