"""Files: atomic writes (a reader sees the old file or the new one, never a part of either), and the folder of what is
kept for later."""

import os
import secrets
from pathlib import Path


def atomic_write(path: str | Path, data: str | bytes) -> None:
    """Write `data` to `path` through a temporary file in the same folder, flushed to disk, then renamed.

    A kill or a full disk in the middle leaves the former file as it was. A link stays one, and what it points to is
    written; permissions stay, a new file's are by the umask. What is no file, such as /dev/stdout, is written to.
    Raises OSError that names `path`.
    """
    path, raw = Path(path), data.encode() if isinstance(data, str) else data
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(raw)
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def cache_folder() -> Path:
    """Where downloads and simulators are kept: $XDG_CACHE_HOME/lutier or ~/.cache/lutier."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lutier"
