"""Images as bytes, and the seam that the search reads data through.

A network's input on the device is a byte per pixel; the float input of training is x = (byte - mean) / std, per
channel, mean and std in units of bytes. So every x that a `DataSource` yields is exactly representable on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lut.errors import InputError

from .archives import Arrays

Batches = Iterator[tuple[Tensor, Tensor]]
SPLITS = ("train", "validation", "test")
CROP = 4
"""Pixels by which an augmented image may be shifted in each direction."""


class DataSource(Protocol):
    """Where batches come from: a `Dataset`, or a user's own function (`search.user_code.UserData`)."""

    @property
    def name(self) -> str: ...
    @property
    def num_classes(self) -> int: ...  # 0: the targets are not classes
    @property
    def channels(self) -> int: ...
    @property
    def image_size(self) -> tuple[int, int]: ...  # height, width
    @property
    def mean(self) -> tuple[float, ...]: ...  # x = (byte - mean) / std
    @property
    def std(self) -> tuple[float, ...]: ...
    def size(self, split: str) -> int: ...
    def batches(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batches: ...


def to_float(codes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(byte - mean) / std, float32, for bytes (N, C, H, W)."""
    return (codes.float() - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def to_bytes(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The nearest bytes, uint8, of inputs x (N, C, H, W): clamp(round(x std + mean), 0, 255)."""
    codes = x * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    return codes.round().clamp(0, 255).to(torch.uint8)


def augmented(images: Tensor, flip: bool, generator: torch.Generator | None = None) -> Tensor:
    """Each image of (N, C, H, W) shifted by up to CROP pixels, black moved in, and mirrored with probability 1/2."""
    count, _, height, width = images.shape
    windows = F.pad(images, (CROP,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.randint(0, 2 * CROP + 1, (2, count), generator=generator)
    shifted = windows[torch.arange(count), :, top, left]
    if flip:
        mirror = torch.rand(count, generator=generator) < 0.5
        shifted = torch.where(mirror.view(-1, 1, 1, 1), shifted.flip(3), shifted)
    return shifted


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as bytes, in memory. A split is (images uint8 (N, C, H, W), labels int64 (N,)).

    flip: whether a mirrored image keeps its meaning, so that augmentation may mirror it.
    """

    name: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    flip: bool = False

    @property
    def channels(self) -> int:
        return self.train[0].shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.train[0].shape[2:]
        return height, width

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Raises InputError when `name` is not train, validation or test."""
        if name not in SPLITS:
            raise InputError(f"split: {name!r} is not one of {', '.join(SPLITS)}")
        return getattr(self, name)

    def size(self, split: str) -> int:
        return len(self.split(split)[1])

    def batches(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batches:
        """(x, labels) over one epoch; x float32 normalised. `generator` drives order and augmentation."""
        images, labels = self.split(split)
        count = len(labels)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        for chosen in order.split(batch_size):
            codes = images[chosen]
            if augment:
                codes = augmented(codes, self.flip, generator)
            yield to_float(codes, self.mean, self.std), labels[chosen]

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> Dataset:
        """The same images with other constants, one per channel, in bytes: those of a pretrained network."""
        if len(mean) != self.channels or len(std) != self.channels:
            raise InputError(f"{self.name}: {len(mean)} means and {len(std)} stds for {self.channels} channels")
        return replace(self, mean=tuple(mean), std=tuple(std))


def from_arrays(name: str, arrays: Arrays, num_classes: int, where: object, flip: bool = False) -> Dataset:
    """A data set normalised by the mean and standard deviation of its training bytes.

    `arrays` has the three splits; `where` names the source in errors. Raises InputError when they do not fit.
    """
    shape = arrays["train"][0].shape[1:]
    for split, (images, labels) in arrays.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or len(images) != len(labels):
            raise InputError(f"{where}: {split}: {len(labels)} labels for images {images.dtype} {images.shape}")
        if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
            raise InputError(f"{where}: {split}: labels must be 0 to {num_classes - 1}, and there must be some")
    levels = np.arange(256)
    means, stds = [], []
    for channel in range(shape[0]):
        weights = np.bincount(arrays["train"][0][:, channel].ravel(), minlength=256)
        means.append(float(np.average(levels, weights=weights)))
        variance = float(np.average((levels - means[-1]) ** 2, weights=weights))
        stds.append(variance**0.5 or 1.0)
    splits = {s: (_tensor(x, np.uint8), _tensor(y, np.int64)) for s, (x, y) in arrays.items()}
    return Dataset(name, **splits, mean=tuple(means), std=tuple(stds), num_classes=num_classes, flip=flip)


def _tensor(array: np.ndarray, dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(array, dtype, ["C_CONTIGUOUS", "WRITEABLE"]))


def stratified_split(labels: np.ndarray, parts: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """Indices of consecutive parts (fractions that sum to 1), every class cut in the same proportions, seeded."""
    generator = np.random.default_rng(seed)
    chosen: list[list[np.ndarray]] = [[] for _ in parts]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(parts)[:-1] * len(members)).astype(int)
        for part, indices in zip(chosen, np.split(members, cuts)):
            part.append(indices)
    return [np.sort(np.concatenate(part)) for part in chosen]
