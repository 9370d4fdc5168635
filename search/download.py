"""Fetch a file once: checksum, time limit, atomic write, a progress bar on a terminal."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from lut.errors import InputError
from lut.files import atomic_write

STALL_SECONDS, TOTAL_SECONDS, CHUNK = 20.0, 900.0, 1 << 20


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """The file behind `url` in `folder`, downloaded unless it is there with the right SHA-256.

    Raises InputError when there is no network, on a wrong checksum, a stall of 20 s, or after 15 minutes. A partial
    download never takes the file's name.
    """
    path = folder / url.rsplit("/", 1)[-1]
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    data = _read(url, time.monotonic() + TOTAL_SECONDS)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InputError(f"{url}: SHA-256 of {len(data)} bytes is {found}, expected {sha256}; not kept")
    atomic_write(path, data)
    return path


def _read(url: str, deadline: float) -> bytes:
    data = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=STALL_SECONDS) as response:
            size = int(response.headers.get("Content-Length") or 0)
            label = url.rsplit("/", 1)[-1]
            with tqdm(desc=label, total=size or None, unit="B", unit_scale=True, disable=None, delay=2) as bar:
                while chunk := response.read(CHUNK):
                    data += chunk
                    bar.update(len(chunk))
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"still incomplete after {TOTAL_SECONDS:g} s")
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise InputError(f"{url}: download failed: {reason}") from None
    if size and len(data) != size:
        raise InputError(f"{url}: download failed: {len(data)} of {size} bytes arrived")
    return bytes(data)
