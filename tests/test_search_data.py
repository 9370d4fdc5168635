"""Data sets: splits, normalisation, augmentation, folders; each with damaged input."""

import hashlib

import numpy as np
import pytest
import torch
from archives_toys import Response, idx, noise, pack
from PIL import Image

from lut.errors import InputError
from search import data, download
from search.dataset import CROP, DataSource, augmented, from_arrays, stratified_split, to_bytes, to_float


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """No data folder, an empty cache, no network."""
    monkeypatch.delenv("LUTIER_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def offline(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", offline)


def small(channels=3, count=10):
    images = noise(count, channels, 8, 6)
    splits = {split: (images, np.arange(count) % 5) for split in data.SPLITS}
    return from_arrays("small", splits, 5, "here")


# --- a data set in memory


def test_normalisation_has_zero_mean_and_unit_variance_and_inverts_exactly():
    source: DataSource = small()
    (x, y), *rest = source.batches("train", 100)
    assert not rest
    assert (x.shape, x.dtype, y.dtype) == ((10, 3, 8, 6), torch.float32, torch.int64)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3))
    assert torch.equal(to_bytes(x, source.mean, source.std), small().train[0])
    other = small().normalised((0.0,) * 3, (1.0,) * 3)
    assert torch.equal(next(iter(other.batches("test", 100)))[0], small().test[0].float())
    with pytest.raises(InputError, match="1 means and 1 stds for 3 channels"):
        small().normalised((0.0,), (1.0,))


def test_every_byte_survives_the_way_through_floats():
    codes = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for mean, std in [(0.0, 1.0), (123.675, 58.395), (33.3, 78.6), (-255 * 40.0, 255 / 0.1)]:
        assert torch.equal(to_bytes(to_float(codes, [mean], [std]), [mean], [std]), codes)


def test_batches_cover_the_split_once_and_follow_the_generator():
    source = small()
    assert [len(y) for _, y in source.batches("train", 4)] == [4, 4, 2]

    def order(seed):
        batches = source.batches("train", 4, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return torch.cat([to_bytes(x, source.mean, source.std) for x, _ in batches])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))
    assert sorted(map(bytes, order(1).flatten(1).numpy())) == sorted(map(bytes, source.train[0].flatten(1).numpy()))
    with pytest.raises(InputError, match="'val' is not one of train, validation, test"):
        source.size("val")


def test_augmentation_is_a_shift_and_a_mirror_of_each_image():
    images = torch.from_numpy(noise(40, 2, 8, 6) | 1)  # no black but what is moved in
    padded = torch.nn.functional.pad(images, (CROP,) * 4)
    offsets = [(top, left) for top in range(2 * CROP + 1) for left in range(2 * CROP + 1)]
    for flip in (False, True):
        mirrored, shifts = 0, set()
        for image, result in zip(padded, augmented(images, flip, torch.Generator().manual_seed(3))):
            crops = {(t, left): image[:, t : t + 8, left : left + 6] for t, left in offsets}
            plain = [at for at, crop in crops.items() if torch.equal(crop, result)]
            turned = [at for at, crop in crops.items() if torch.equal(crop.flip(2), result)]
            assert plain or turned
            shifts.update(plain or turned)
            mirrored += not plain
        assert len(shifts) > 20
        assert (10 < mirrored < 30) if flip else mirrored == 0


def test_stratified_split_keeps_proportions_and_repeats():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    parts = stratified_split(labels, (0.6, 0.2, 0.2))
    assert [np.bincount(labels[p]).tolist() for p in parts] == [[30, 18, 12], [10, 6, 4], [10, 6, 4]]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(np.array_equal(a, b) for a, b in zip(parts, stratified_split(labels, (0.6, 0.2, 0.2))))
    assert not np.array_equal(parts[0], stratified_split(labels, (0.6, 0.2, 0.2), seed=1)[0])


def test_arrays_that_do_not_fit_are_refused():
    good = {split: (noise(4, 1, 8, 8), np.arange(4)) for split in data.SPLITS}
    for bad, message in [
        ((noise(3, 1, 8, 8), np.arange(4)), "4 labels for images"),
        ((noise(4, 1, 8, 7), np.arange(4)), "images uint8"),
        ((noise(4, 1, 8, 8).astype(np.float32), np.arange(4)), "images float32"),
        ((noise(4, 1, 8, 8), np.arange(1, 5)), "labels must be 0 to 3"),
        ((noise(0, 1, 8, 8), np.arange(0)), "there must be some"),
    ]:
        with pytest.raises(InputError, match=f"here: test: .*{message}"):
            from_arrays("x", {**good, "test": bad}, 4, "here")


# --- the registry


def test_digits_need_no_file_and_keep_their_split():
    digits = data.load("digits")
    assert [digits.size(split) for split in data.SPLITS] == [1078, 360, 359]
    assert (digits.channels, digits.image_size, digits.num_classes, digits.flip) == (1, (32, 32), 10, False)
    assert all(torch.bincount(digits.split(s)[1], minlength=10).min() >= 34 for s in data.SPLITS)
    assert (int(digits.train[0].min()), int(digits.train[0].max())) == (0, 255)
    digest = hashlib.sha256(digits.test[0].numpy().tobytes()).hexdigest()
    assert digest == hashlib.sha256(data.load("digits").test[0].numpy().tobytes()).hexdigest()


def test_unknown_name_offers_the_nearest():
    with pytest.raises(InputError, match=r"'cifar-10'; did you mean cifar10\?"):
        data.load("cifar-10")
    with pytest.raises(InputError, match="known: digits, mnist"):
        data.load("imagenet")


def test_missing_files_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"cifar100_20k.webp.zip: not found in .*LUTIER_DATA"):
        data.load("cifar100", tmp_path)
    with pytest.raises(InputError, match=r"no network.*cifar-10-binary.tar.gz or cifar10.webp.zip"):
        data.load("cifar10", tmp_path)
    with pytest.raises(InputError, match=r"no network.*mnist.webp.zip"):
        data.load("mnist")
    with pytest.raises(InputError, match="no such folder"):
        data.load("fsdd", tmp_path / "none")


def test_cifar10_from_sprites_through_argument_and_environment(tmp_path, monkeypatch):
    images = {"train": noise(5010, 4, 4, 3), "test": noise(11, 4, 4, 3)}
    pack(tmp_path / "cifar10.webp.zip", images, per_sprite=1000)
    cifar10 = data.load("cifar10", tmp_path)
    assert [cifar10.size(split) for split in data.SPLITS] == [10, 5000, 11]
    assert cifar10.flip
    assert np.array_equal(cifar10.validation[0].permute(0, 2, 3, 1), images["train"][10:])
    assert np.array_equal(cifar10.test[0].permute(0, 2, 3, 1), images["test"])
    monkeypatch.setenv("LUTIER_DATA", str(tmp_path))
    assert data.load("cifar10").size("train") == 10


def test_fsdd_splits_by_take(tmp_path):
    take = np.arange(150) % 50
    x = noise(150, 40, 64)
    np.savez(tmp_path / "fsdd_logmel_40x64_u8.npz", x=x, digit=np.arange(150) % 10, index=take)
    fsdd = data.load("fsdd", tmp_path)
    assert [fsdd.size(split) for split in data.SPLITS] == [120, 15, 15]
    assert (fsdd.channels, fsdd.image_size) == (1, (40, 64))
    assert np.array_equal(fsdd.test[0][:, 0], x[take < 5])
    np.savez(tmp_path / "fsdd_logmel_40x64_u8.npz", x=x)
    with pytest.raises(InputError, match="no array digit, index; it holds x"):
        data.load("fsdd", tmp_path)
    (tmp_path / "fsdd_logmel_40x64_u8.npz").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(InputError, match=r"fsdd_logmel_40x64_u8.npz: not a complete npz archive"):
        data.load("fsdd", tmp_path)


def test_mnist_from_downloaded_idx_files(tmp_path, monkeypatch):
    bodies = {
        "train-images-idx3-ubyte.gz": idx(noise(5020, 4, 4)),
        "train-labels-idx1-ubyte.gz": idx(np.arange(5020).astype(np.uint8) % 10),
        "t10k-images-idx3-ubyte.gz": idx(noise(10, 4, 4)),
        "t10k-labels-idx1-ubyte.gz": idx(np.arange(10).astype(np.uint8)),
    }
    monkeypatch.setattr(data, "MNIST_SHA256", {k: hashlib.sha256(v).hexdigest() for k, v in bodies.items()})
    monkeypatch.setattr(
        download.urllib.request, "urlopen", lambda url, timeout: Response(bodies[url.rsplit("/", 1)[1]], 0)
    )
    mnist = data.load("mnist")
    assert [mnist.size(split) for split in data.SPLITS] == [20, 5000, 10]
    assert np.array_equal(mnist.train[0][:, 0], noise(5020, 4, 4)[:20])
    assert not mnist.flip


# --- folders of images


def folder(root, classes, mode="RGB", count=10):
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new(mode, (9, 5), 40 * c + i if mode == "L" else (40 * c + i, 7, 9)).save(root / name / f"{i}.png")
    return root


def test_a_folder_per_class_is_split_and_resized(tmp_path):
    pets = data.image_folder(folder(tmp_path / "pets", ["dog", "cat"]), 16)
    assert [pets.size(split) for split in data.SPLITS] == [12, 4, 4]
    assert (pets.name, pets.channels, pets.image_size, pets.num_classes) == ("pets", 3, (16, 16), 2)
    x, y = pets.train
    assert (y == (x[:, 0, 0, 0] < 40)).all()  # cat is class 0; dogs were painted darker
    gray = data.image_folder(folder(tmp_path / "gray", ["a", "b"], mode="L"), (8, 12))
    assert (gray.channels, gray.image_size) == (1, (8, 12))


def test_a_folder_with_its_own_splits(tmp_path):
    for split, count in (("train", 10), ("test", 3)):
        folder(tmp_path / split, ["a", "b"], count=count)
    assert [data.image_folder(tmp_path, 8).size(split) for split in data.SPLITS] == [16, 4, 6]
    folder(tmp_path / "val", ["a", "b"], count=2)
    assert [data.image_folder(tmp_path, 8).size(split) for split in data.SPLITS] == [20, 4, 6]
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(InputError, match=r"test/c: no such class"):
        data.image_folder(tmp_path, 8)


def test_unusable_folders_are_explained(tmp_path):
    with pytest.raises(InputError, match="none: no such folder"):
        data.image_folder(tmp_path / "none", 8)
    with pytest.raises(InputError, match="0 subfolders; expected one folder of images per class"):
        data.image_folder(tmp_path, 8)
    folder(tmp_path / "x", ["a", "b"])
    (tmp_path / "x" / "b" / "3.png").write_bytes(b"\x89PNG junk")
    with pytest.raises(InputError, match=r"b/3.png: not a readable image"):
        data.image_folder(tmp_path / "x", 8)
    (tmp_path / "x" / "c").mkdir()
    with pytest.raises(InputError, match=r"x/c: no images"):
        data.image_folder(tmp_path / "x", 8)
    folder(tmp_path / "y" / "train", ["a", "b"])
    with pytest.raises(InputError, match="there is a folder train, but none called test"):
        data.image_folder(tmp_path / "y", 8)
