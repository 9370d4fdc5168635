"""One process at a time where two would spoil each other's files. The lock is the system's (flock): it goes with the
process, however that ends."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def alone(path: str | Path, waiting: str = "") -> Iterator[None]:
    """Within, no other process is, and no other thread of this one, for the same path: that of a folder, or of a file,
    which is made where there is none.

    Where another one is: says `waiting` on standard error, and waits; raises InputError when that is ''.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                raise InputError(f"{path}: another process works there; wait for it, or end it") from None
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
