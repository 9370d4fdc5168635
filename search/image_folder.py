"""Images in one folder per class, as bytes: `cat/1.jpg`, `dog/2.jpg`, or `train/cat/1.jpg`, `test/cat/2.jpg`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from lut.errors import InputError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
GRAY = frozenset({"1", "L"})


def split_folders(root: Path) -> dict[str, Path]:
    """Subfolders that are splits: none, or train and test, or all three. Raises InputError for anything between."""
    found = {split: root / n for split, names in SPLITS.items() for n in reversed(names) if (root / n).is_dir()}
    if found and not {"train", "test"} <= found.keys():
        missing = "test" if "train" in found else "train"
        raise InputError(f"{root}: there is a folder {next(iter(found.values())).name}, but none called {missing}")
    return found


def class_names(folder: Path) -> list[str]:
    """Names of the classes: the subfolders, sorted. Raises InputError when there are fewer than two."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one folder of images per class in it")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise InputError(f"{folder}: {len(names)} subfolders; expected one folder of images per class, at least two")
    return names


def read_images(folder: Path, classes: list[str], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, C, height, width), resized to `size`, and labels int64 (N,), in the order of file names.

    C is 1 when every file is grayscale, else 3. Raises InputError when a class is unknown or empty, or a file damaged.
    """
    unknown = sorted(set(class_names(folder)) - set(classes))
    if unknown:
        raise InputError(f"{folder / unknown[0]}: no such class in the training images; they have {', '.join(classes)}")
    files = []
    for label, name in enumerate(classes):
        paths = (folder / name).iterdir() if (folder / name).is_dir() else ()
        of_class = sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
        if not of_class:
            raise InputError(f"{folder / name}: no images; expected files such as .png, .jpg or .webp")
        files += [(path, label) for path in of_class]
    bar = tqdm(files, desc=folder.name, unit="image", disable=None, delay=2, leave=False)
    images, gray = zip(*(_read(path, size) for path, _ in bar))
    pixels = np.stack(images).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels[:, :1] if all(gray) else pixels), np.array([label for _, label in files])


def _read(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """RGB bytes (height, width, 3) and whether the file is grayscale."""
    try:
        with Image.open(path) as image:
            gray = image.mode in GRAY
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image: {error}") from None
    return np.asarray(upright.resize(size[::-1], Image.Resampling.BILINEAR)), gray
