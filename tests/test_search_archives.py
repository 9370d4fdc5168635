"""Archive readers: sprites, CIFAR-10's own archive, IDX files; each with damaged input."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
from archives_toys import idx, noise, pack

from lut.errors import InputError
from search import archives


def test_sprites_of_gray_and_colour_images_come_back(tmp_path):
    images = {"train": noise(9, 5, 7), "test": noise(3, 5, 7)}
    result = archives.read_webp_zip(pack(tmp_path / "gray.webp.zip", images))
    assert all(np.array_equal(result[split][0][:, 0], images[split]) for split in images)
    assert result["train"][1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    colour = {"train": noise(5, 3, 2, 3)}
    result = archives.read_webp_zip(pack(tmp_path / "colour.webp.zip", colour, per_sprite=5, columns=3))
    assert np.array_equal(result["train"][0].transpose(0, 2, 3, 1), colour["train"])


def test_damaged_sprite_archives_name_the_archive(tmp_path):
    images = {"train": noise(9, 5, 7)}
    path = pack(tmp_path / "x.webp.zip", images)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[60] ^= 255
    for broken in (b"", b"junk", whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"x.webp.zip: not a complete archive of WebP sprites"):
            archives.read_webp_zip(path)
    for changes, message in [
        ({"labels": {"train": np.arange(8)}}, "labels of train for 9 images"),
        ({"labels": {"other": np.arange(9)}}, "not a complete"),
        ({"splits": {"train": {"shape": [9, 5]}}}, r"shape: \[9, 5\], expected"),
        ({"splits": {"train": {"shape": [9, 5, 8]}}}, "train_000.webp: .*pixels, expected"),
        ({"splits": {"train": {"shape": [13, 5, 7]}}, "labels": {"train": np.arange(13)}}, "x.webp.zip: "),
        ({"cols": 0}, "expected"),
        ({"n_per_sprite": None}, "not a complete"),
    ]:
        pack(path, images, **changes)
        with pytest.raises(InputError, match=message):
            archives.read_webp_zip(path)


def cifar10_tar(path, records):
    with tarfile.open(path, "w:gz") as archive:
        for member, table in records.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{member}")
            info.size = table.size
            archive.addfile(info, io.BytesIO(table.tobytes()))


def test_official_cifar10_archive(tmp_path):
    members = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    records = {m: np.concatenate([np.arange(3, dtype=np.uint8)[:, None], noise(3, 3072)], 1) for m in members}
    path = tmp_path / "cifar-10-binary.tar.gz"
    cifar10_tar(path, records)
    result = archives.read_cifar10_binary(path)
    assert result["train"][1].tolist() == [0, 1, 2] * 5
    assert np.array_equal(result["test"][0], noise(3, 3072).reshape(3, 3, 32, 32))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"cifar-10-binary.tar.gz: not a complete"):
        archives.read_cifar10_binary(path)
    cifar10_tar(path, {**records, "test_batch.bin": np.zeros(3072, np.uint8)})
    with pytest.raises(InputError, match=r"cifar-10-binary.tar.gz: not a complete"):
        archives.read_cifar10_binary(path)
    cifar10_tar(path, {"data_batch_1.bin": records["data_batch_1.bin"]})
    with pytest.raises(InputError, match=r"data_batch_2.bin"):
        archives.read_cifar10_binary(path)


def test_idx_files(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(idx(noise(3, 4, 5)))
    assert np.array_equal(archives.read_idx(path), noise(3, 4, 5))
    for broken in (b"", idx(noise(3, 4, 5))[:-20], gzip.compress(b"\0\0\x08"), gzip.compress(b"\0\0\x08\1\0\0\0\5abc")):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"x.gz: not a complete IDX file"):
            archives.read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 9, 1, 0)))
    with pytest.raises(InputError, match="starts with 00000901"):
        archives.read_idx(path)
