"""Downloads: checked, kept, and none left half."""

import hashlib

import pytest
from archives_toys import served

from lut.errors import InputError
from search import download


def test_a_download_is_checked_kept_and_not_repeated(tmp_path, monkeypatch):
    body = b"x" * 3_000_000
    calls = served(monkeypatch, body)
    sha256 = hashlib.sha256(body).hexdigest()
    path = download.fetch("https://example.org/file.bin", sha256, tmp_path)
    assert path == tmp_path / "file.bin"
    assert path.read_bytes() == body
    download.fetch("https://example.org/file.bin", sha256, tmp_path)
    assert len(calls) == 1
    path.write_bytes(b"damaged")
    download.fetch("https://example.org/file.bin", sha256, tmp_path)
    assert len(calls) == 2
    assert path.read_bytes() == body


def test_a_wrong_short_or_slow_download_leaves_nothing(tmp_path, monkeypatch):
    served(monkeypatch, b"other")
    with pytest.raises(InputError, match="SHA-256 of 5 bytes is"):
        download.fetch("https://example.org/file.bin", "0" * 64, tmp_path)
    served(monkeypatch, b"short", size=9)
    with pytest.raises(InputError, match="5 of 9 bytes arrived"):
        download.fetch("https://example.org/file.bin", "0" * 64, tmp_path)
    monkeypatch.setattr(download, "TOTAL_SECONDS", -1.0)
    with pytest.raises(InputError, match="still incomplete after"):
        download.fetch("https://example.org/file.bin", "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []
