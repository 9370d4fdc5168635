"""Files: atomic writes (a reader sees the old file or the new one, never a part of either), and the folder of what is
kept for later."""

import os
import tempfile
from pathlib import Path


def atomic_write(path: str | Path, data: str | bytes) -> None:
    """Write `data` to `path` through a temporary file in the same folder, flushed to disk, then renamed.

    A kill or a full disk in the middle leaves the former file as it was. Raises OSError that names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def cache_folder() -> Path:
    """Where downloads and simulators are kept: $XDG_CACHE_HOME/lutier or ~/.cache/lutier."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lutier"
