"""Archives of random images, and a network that serves given bytes."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
from PIL import Image

from search import download


def pack(path, images_of, per_sprite=4, columns=2, labels=None, **meta):
    """A .webp.zip of images {split: (N, H, W[, 3]) uint8} with labels i % 10."""
    with zipfile.ZipFile(path, "w") as archive:
        for split, images in images_of.items():
            for start in range(0, len(images), per_sprite):
                part = images[start : start + per_sprite]
                rows = -(-len(part) // columns)
                height, width = images.shape[1:3]
                sprite = np.zeros((rows * height, columns * width, 3), np.uint8)
                for i, image in enumerate(part):
                    top, left = i // columns * height, i % columns * width
                    sprite[top : top + height, left : left + width] = image.reshape(height, width, -1)
                buffer = io.BytesIO()
                Image.fromarray(sprite).save(buffer, "WEBP", lossless=True, exact=True)
                archive.writestr(f"{split}_{start // per_sprite:03d}.webp", buffer.getvalue())
        buffer = io.BytesIO()
        np.savez(buffer, **(labels or {s: np.arange(len(x), dtype=np.uint8) % 10 for s, x in images_of.items()}))
        archive.writestr("labels.npz", buffer.getvalue())
        info = {s: {"shape": list(x.shape)} for s, x in images_of.items()}
        archive.writestr("meta.json", json.dumps({"n_per_sprite": per_sprite, "cols": columns, "splits": info} | meta))
    return path


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


class Response(io.BytesIO):
    def __init__(self, body, size):
        super().__init__(body)
        self.headers = {"Content-Length": str(size)}


def served(monkeypatch, body, size=None):
    calls = []

    def urlopen(url, timeout):
        calls.append(url)
        return Response(body, len(body) if size is None else size)

    monkeypatch.setattr(download.urllib.request, "urlopen", urlopen)
    return calls
