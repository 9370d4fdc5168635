"""Data sets by name: files from `--data-root`, then from the folder LUTIER_DATA, then the official archives.

CIFAR-10 (Krizhevsky 2009, "Learning multiple layers of features from tiny images"), MNIST (LeCun et al. 1998), the Free
Spoken Digit Dataset (Jackson et al. 2018); `digits` ships with scikit-learn and needs neither file nor network.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lut.errors import InputError
from lut.files import cache_folder
from supernet.networks.common import Size, pair
from supernet.networks.weights import ENVIRONMENT, data_folders

from .archives import Arrays, read_cifar10_binary, read_idx, read_npz, read_webp_zip
from .dataset import SPLITS, Dataset, DataSource, from_arrays, stratified_split
from .download import fetch
from .image_folder import class_names, read_images, split_folders

__all__ = ["DATASETS", "SPLITS", "DataSource", "Dataset", "image_folder", "load"]

Root = str | Path | None

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def _divided(images: np.ndarray, labels: np.ndarray) -> Arrays:
    indices = stratified_split(labels, (0.6, 0.2, 0.2))
    return {split: (images[chosen], labels[chosen]) for split, chosen in zip(SPLITS, indices)}


def _held_out(arrays: Arrays, count: int) -> Arrays:
    """The last `count` training images become the validation split."""
    images, labels = arrays["train"]
    train, validation = (images[:-count], labels[:-count]), (images[-count:], labels[-count:])
    return {"train": train, "validation": validation, "test": arrays["test"]}


def _find(root: Root, *names: str) -> Path | None:
    places = (folder / name for folder in data_folders(root) for name in names)
    return next((path for path in places if path.is_file()), None)


def _require(root: Root, name: str) -> Path:
    path = _find(root, name)
    if path is None:
        where = " and ".join(map(str, data_folders(root))) or "any folder, as none was given"
        raise InputError(
            f"{name}: not found in {where}; pass --data-root or set {ENVIRONMENT} to the folder that has it"
        )
    return path


def _official(root: Root, url: str, sha256: str, alternative: str) -> Path:
    file = url.rsplit("/", 1)[-1]
    path = _find(root, file)
    if path is not None:
        return path
    try:
        return fetch(url, sha256, cache_folder())
    except InputError as error:
        hint = f"or put {file} or {alternative} into a folder that --data-root or {ENVIRONMENT} names"
        raise InputError(f"{error}; connect to a network, {hint}") from None


def digits(root: Root = None) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8x8, values 0..16, resized to 1x32x32; split 60/20/20, seed 0."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) * (255 / 16)
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False).round().to(torch.uint8)
    return from_arrays("digits", _divided(large.numpy(), bunch.target), 10, "scikit-learn")


def mnist(root: Root = None) -> Dataset:
    """60,000 + 10,000 digits, 1x28x28; the last 5,000 training images are the validation split."""
    path = _find(root, "mnist.webp.zip")
    if path is not None:
        arrays = read_webp_zip(path)
    else:
        files = [_official(root, MNIST_URL + file, sha256, "mnist.webp.zip") for file, sha256 in MNIST_SHA256.items()]
        x, y, x_test, y_test = (read_idx(file) for file in files)
        path, arrays = files[0].parent, {"train": (x[:, None], y), "test": (x_test[:, None], y_test)}
    return from_arrays("mnist", _held_out(arrays, 5000), 10, path)


def cifar10(root: Root = None) -> Dataset:
    """50,000 + 10,000 images, 3x32x32; the last 5,000 training images are the validation split."""
    path = _find(root, "cifar10.webp.zip")
    if path is not None:
        arrays = read_webp_zip(path)
    else:
        path = _official(root, CIFAR10_URL, CIFAR10_SHA256, "cifar10.webp.zip")
        arrays = read_cifar10_binary(path)
    return from_arrays("cifar10", _held_out(arrays, 5000), 10, path, flip=True)


def cifar100(root: Root = None) -> Dataset:
    """16,000 + 4,000 images of CIFAR-100, fine labels, a split of its own; validation: the last 2,000 of train."""
    path = _require(root, "cifar100_20k.webp.zip")
    return from_arrays("cifar100", _held_out(read_webp_zip(path), 2000), 100, path, flip=True)


def fsdd(root: Root = None) -> Dataset:
    """Free Spoken Digit Dataset, 3,000 log-mel spectrograms, 1x40x64. Takes 0-4 of each speaker and digit: test;
    5-9: validation; the others: train."""
    path = _require(root, "fsdd_logmel_40x64_u8.npz")
    data = read_npz(path, ("x", "digit", "index"))
    take = data["index"]
    masks = {"train": take >= 10, "validation": (take >= 5) & (take < 10), "test": take < 5}
    return from_arrays("fsdd", {s: (data["x"][m][:, None], data["digit"][m]) for s, m in masks.items()}, 10, path)


DATASETS: dict[str, Callable[[Root], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fsdd": fsdd,
}


def load(name: str, data_root: Root = None) -> Dataset:
    """A data set of the registry. Raises InputError: unknown name, file not found, damaged archive, no network."""
    if name not in DATASETS:
        nearest = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(DATASETS)}"
        raise InputError(f"dataset: no data set is called {name!r}; {hint}")
    return DATASETS[name](data_root)


def image_folder(path: str | Path, image_size: Size) -> Dataset:
    """A folder of images per class, resized to `image_size` pixels.

    With subfolders `train`, `test` and perhaps `val`, these are the splits (without `val`, a fifth of train becomes
    it); else the images are split 60/20/20, seed 0. Raises InputError as `search.image_folder` does.
    """
    root, size = Path(path), pair(image_size)
    folders = split_folders(root)
    classes = class_names(folders.get("train", root))
    if not folders:
        arrays = _divided(*read_images(root, classes, size))
    else:
        arrays = {split: read_images(folder, classes, size) for split, folder in folders.items()}
        if "validation" not in arrays:
            images, labels = arrays["train"]
            kept, held = stratified_split(labels, (0.8, 0.2))
            arrays["train"], arrays["validation"] = (images[kept], labels[kept]), (images[held], labels[held])
    return from_arrays(root.name, arrays, len(classes), root, flip=True)
