import errno
import os
from pathlib import Path

import pytest

from lut.cli import guard
from lut.errors import InputError
from lut.files import atomic_write
from search.budget import BudgetError


def raises(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.yaml:3: device: unknown"), 2, "error: a.yaml:3: device: unknown\n"),
        (BudgetError("no architecture fits", {}), 3, "error: no architecture fits\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2,
         "error: runs/x: Permission denied; resume with: again\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device; resume with: again\n"),
        (TimeoutError("solve: out of time"), 2, "error: solve: out of time; resume with: again\n"),
        (KeyboardInterrupt(), 130, "\nstopped; resume with: again\n"),
    ],
)  # fmt: skip
def test_errors_become_one_line_and_a_status(capsys, error, status, line):
    assert guard(raises(error), "again") == status
    assert capsys.readouterr() == ("", line)


def test_what_is_not_the_persons_fault_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        guard(lambda: 1 // 0)


def test_the_status_of_the_function_passes(capsys):
    assert guard(lambda: guard(lambda: 3, "inner")) == 3
    assert guard(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize("call", ["fsync", "fdopen", "replace"])
def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch, capsys, call):
    path = tmp_path / "arch.json"
    atomic_write(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_, **__: raises(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))())
        assert guard(lambda: atomic_write(path, "new")) == 2
    assert capsys.readouterr().err == f"error: {path}: No space left on device\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_permissions_stay(tmp_path):
    shared, link = tmp_path / "shared" / "table.csv", tmp_path / "table.csv"
    atomic_write(shared, "old")
    shared.chmod(0o640)
    link.symlink_to(shared)
    atomic_write(link, "new")
    assert link.is_symlink() and shared.read_text() == "new"
    assert shared.stat().st_mode & 0o777 == 0o640
    before = os.umask(0o077)
    try:
        atomic_write(tmp_path / "own.csv", "")
    finally:
        os.umask(before)
    assert (tmp_path / "own.csv").stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_written_to():
    atomic_write(os.devnull, "nothing")
    assert not Path(os.devnull).is_file()
