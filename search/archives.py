"""Readers of image archives: arrays of bytes out, InputError that names the archive when anything is off.

`.webp.zip`: lossless WebP sprites of `n_per_sprite` images in `cols` columns (`train_000.webp`, ...), `labels.npz`
(one array per split, more are ignored) and `meta.json` ({"n_per_sprite", "cols", "splits": {split: {"shape"}}}).
CIFAR-10 binary: records of one label byte and 3x32x32 image bytes. MNIST: gzipped IDX. No reader unpickles.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from lut.errors import InputError

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""Per split: images uint8 (N, C, H, W), labels int64 (N,)."""

_UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, struct.error, zlib.error),
    *(zipfile.BadZipFile, tarfile.TarError, UnidentifiedImageError),
)


@contextmanager
def _naming(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a decoder raise into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a complete {what}: {type(error).__name__}: {error}; fetch it again") from None


def read_webp_zip(path: Path, label_key: str = "{split}") -> Arrays:
    """Train and test of a `.webp.zip`. `label_key`: name of the label array of a split."""
    with _naming(path, "archive of WebP sprites"), zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("meta.json"))
        with np.load(io.BytesIO(archive.read("labels.npz")), allow_pickle=False) as labels:
            stored = {split: labels[label_key.format(split=split)].astype(np.int64) for split in meta["splits"]}
        per_sprite, columns = int(meta["n_per_sprite"]), int(meta["cols"])
        result = {}
        for split, entry in meta["splits"].items():
            shape = tuple(int(side) for side in entry["shape"])
            if len(shape) not in (3, 4) or min(*shape, per_sprite, columns) < 1 or shape[3:] not in ((), (3,)):
                raise InputError(f"{path}: meta.json: splits.{split}.shape: {list(shape)}, expected [N, H, W(, 3)]")
            if stored[split].shape != shape[:1]:
                raise InputError(f"{path}: labels.npz: {stored[split].shape} labels of {split} for {shape[0]} images")
            images = np.empty(shape if len(shape) == 4 else (*shape, 1), np.uint8)
            starts = range(0, shape[0], per_sprite)
            for start in tqdm(starts, desc=f"{path.name} {split}", unit="k", disable=None, delay=2, leave=False):
                part = images[start : start + per_sprite]
                member = f"{split}_{start // per_sprite:03d}.webp"
                part[...] = _sprite(archive.read(member), part.shape, columns, f"{path}: {member}")
            result[split] = (np.ascontiguousarray(images.transpose(0, 3, 1, 2)), stored[split])
    return result


def _sprite(data: bytes, shape: Sequence[int], columns: int, where: str) -> np.ndarray:
    """Images (n, h, w, channels) of one sprite: row by row, the last row filled up with black."""
    count, height, width, channels = shape
    rows = -(-count // columns)
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != (rows * height, columns * width):
        raise InputError(f"{where}: {pixels.shape[:2]} pixels, expected {(rows * height, columns * width)}")
    tiles = pixels.reshape(rows, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
    return tiles[:count, ..., :channels]


def read_cifar10_binary(path: Path) -> Arrays:
    """Train and test of `cifar-10-binary.tar.gz`; nothing is unpacked to disk."""
    files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    result = {}
    with _naming(path, "CIFAR-10 binary archive"), tarfile.open(path, "r:gz") as archive:
        for split, members in files.items():
            records = []
            for member in members:
                file = archive.extractfile(f"cifar-10-batches-bin/{member}")
                if file is None:
                    raise InputError(f"{path}: {member} is not a file")
                records.append(np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * 32 * 32))
            table = np.concatenate(records)
            result[split] = (table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0].astype(np.int64))
    return result


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of bytes: magic 0x0000 08 ndim, big-endian sizes, data."""
    with _naming(path, "IDX file"):
        data = gzip.decompress(path.read_bytes())
        zero, kind, ndim = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{ndim}I", data, 4)
        if (zero, kind) != (0, 8):
            raise InputError(f"{path}: not an IDX file of bytes: it starts with {data[:4].hex()}, not 000008..")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an npz archive."""
    with _naming(path, "npz archive"), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        missing = [key for key in keys if key not in archive.files]
        if missing:
            raise InputError(f"{path}: no array {', '.join(missing)}; it holds {', '.join(archive.files)}")
        return {key: archive[key] for key in keys}
