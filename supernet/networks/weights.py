"""Published checkpoints of the reference networks, converted from npz archives of plain arrays.

ResNet-8: MLPerf Tiny's Keras model (Apache-2.0), 87.21 % top-1 on CIFAR-10's test images, input 0..255 as it is.
ResNet-20, 32, 44, 56: github.com/akamaster/pytorch_resnet_cifar10 (BSD-2), 91.73, 92.63, 93.11, 93.39 %, input / 255
normalised with ImageNet's constants. Keras stores convolution kernels as (height, width, in, out) and linear weights
as (in, out); torch as (out, in, height, width) and (out, in).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lut.errors import InputError

from .resnet8 import resnet8
from .resnet_cifar import resnet20, resnet32, resnet44, resnet56

ENVIRONMENT = "LUTIER_DATA"
"""Environment variable that names the data folder."""


@dataclass(frozen=True)
class Normalisation:
    """What a network expects of its input: x = (byte - mean) / std, per channel, in units of bytes 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


BYTES = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IMAGENET = Normalisation((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))

_KERAS_LAYERS = {
    "conv1": "conv2d",
    "bn1": "batch_normalization",
    "block1.conv1": "conv2d_1",
    "block1.bn1": "batch_normalization_1",
    "block1.conv2": "conv2d_2",
    "block1.bn2": "batch_normalization_2",
    "block2.conv1": "conv2d_3",
    "block2.bn1": "batch_normalization_3",
    "block2.conv2": "conv2d_4",
    "block2.bn2": "batch_normalization_4",
    "block2.shortcut": "conv2d_5",
    "block3.conv1": "conv2d_6",
    "block3.bn1": "batch_normalization_5",
    "block3.conv2": "conv2d_7",
    "block3.bn2": "batch_normalization_6",
    "block3.shortcut": "conv2d_8",
    "fc": "dense",
}
_KERAS_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_KERAS_AFFINE = {"weight": "kernel", "bias": "bias"}


def _keras_key(key: str) -> str:
    """Name of the array that holds a parameter of `ResNet8`."""
    layer, field = key.rsplit(".", 1)
    source = _KERAS_LAYERS[layer]
    fields = _KERAS_NORM if source.startswith("batch") else _KERAS_AFFINE
    return f"{source}/{fields[field]}:0"


def _from_keras(array: np.ndarray) -> np.ndarray:
    """A kernel (h, w, in, out) or (in, out), or a vector, in torch's order of axes."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _to_keras(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[2], shape[3], shape[1], shape[0]) if len(shape) == 4 else shape[::-1]


@dataclass(frozen=True)
class Checkpoint:
    """build: the network; path: relative to the folder of weights; keras: arrays named and laid out as Keras does."""

    build: Callable[[], nn.Module]
    path: str
    normalisation: Normalisation
    keras: bool = False


CHECKPOINTS: dict[str, Checkpoint] = {
    "resnet8": Checkpoint(resnet8, "mlperf_tiny/resnet8_keras_float.npz", BYTES, keras=True),
    "resnet20": Checkpoint(resnet20, "akamaster_cifar10/resnet20-12fca82f.npz", IMAGENET),
    "resnet32": Checkpoint(resnet32, "akamaster_cifar10/resnet32-d509ac18.npz", IMAGENET),
    "resnet44": Checkpoint(resnet44, "akamaster_cifar10/resnet44-014dd654.npz", IMAGENET),
    "resnet56": Checkpoint(resnet56, "akamaster_cifar10/resnet56-4bfd9763.npz", IMAGENET),
}


def data_folders(root: str | Path | None = None) -> list[Path]:
    """Folders to look for data in: `root` (--data-root), then LUTIER_DATA. Raises InputError if one does not exist."""
    folders = []
    for source, value in (("--data-root", root), (ENVIRONMENT, os.environ.get(ENVIRONMENT))):
        if value:
            folder = Path(value).expanduser()
            if not folder.is_dir():
                raise InputError(f"{source}: {folder}: no such folder")
            folders.append(folder)
    return folders


def find_weights(name: str, root: str | Path | None = None) -> Path:
    """The checkpoint's file, in `weights/` inside or beside a data folder. Raises InputError when it is nowhere."""
    if name not in CHECKPOINTS:
        raise InputError(f"model: no checkpoint for {name!r}; there are: {', '.join(CHECKPOINTS)}")
    path = CHECKPOINTS[name].path
    places = [w for f in data_folders(root) for w in (f / "weights", f.resolve().parent / "weights")]
    for weights in places:
        if (weights / path).is_file():
            return weights / path
    where = f"not in {' or '.join(map(str, places))}" if places else f"pass --data-root or set {ENVIRONMENT}"
    keys = ", ".join(_sources(CHECKPOINTS[name], CHECKPOINTS[name].build().state_dict()))
    raise InputError(f"{path}: not found: {where}; it is an npz archive with the arrays {keys}")


def _sources(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> dict[str, str]:
    """state_dict name by array name; counters of batches are in no archive."""
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    return {_keras_key(key) if checkpoint.keras else key: key for key in keys}


def pretrained(name: str, root: str | Path | None = None) -> tuple[nn.Module, Normalisation]:
    """A published CIFAR-10 network in eval mode, and the normalisation of its input.

    `root`: the data folder (--data-root); LUTIER_DATA is the next place. Raises InputError as find_weights and
    read_arrays do.
    """
    path = find_weights(name, root)
    checkpoint = CHECKPOINTS[name]
    model = checkpoint.build()
    state = model.state_dict()
    sources = _sources(checkpoint, state)
    shapes = {source: tuple(state[key].shape) for source, key in sources.items()}
    if checkpoint.keras:
        shapes = {source: _to_keras(shape) for source, shape in shapes.items()}
    for source, array in read_arrays(path, shapes).items():
        array = _from_keras(array) if checkpoint.keras else array
        state[sources[source]] = torch.from_numpy(np.ascontiguousarray(array))
    model.load_state_dict(state)
    return model.eval(), checkpoint.normalisation


def read_arrays(path: str | Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays of an npz archive, float32, with exactly the expected names and shapes; never unpickles.

    Raises InputError when the file is missing, corrupt, or holds other arrays.
    """
    arrays = {}
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in expected if key not in archive.files]
            if missing:
                more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                raise InputError(f"{path}: no array {', '.join(missing[:3])}{more}; expected {', '.join(expected)}")
            for key, shape in expected.items():
                arrays[key] = archive[key].astype(np.float32)
                if arrays[key].shape != shape:
                    raise InputError(f"{path}: {key}: shape {arrays[key].shape}, expected {shape}")
                if not np.isfinite(arrays[key]).all():
                    raise InputError(f"{path}: {key}: values that are not finite")
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an npz archive with {', '.join(expected)}") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        names = ", ".join(expected)
        raise InputError(f"{path}: not a readable npz archive ({error}); expected the arrays {names}") from None
    return arrays
