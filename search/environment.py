"""Where and how a result came about: command, seed, commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from lut.machine import cpu_model

PACKAGES = ("torch", "numpy", "scipy", "apache-tvm", "apache-tvm-ffi")


def commit() -> str | None:
    """The repository's commit, with a mark when files differ from it; None outside of one."""
    try:
        here = os.path.dirname(os.path.abspath(__file__))
        run = lambda *words: subprocess.run(  # noqa: E731
            ["git", "-C", here, *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return run("rev-parse", "--short", "HEAD") + (" (changed)" if run("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment(command: list[str], seed: int, accelerator: str | None = None) -> dict[str, Any]:
    """The content of env.json. accelerator: what trained, where that was not the CPU."""
    machine = {"cpu": cpu_model(), "cores": str(os.cpu_count()), "system": platform.system()}
    return {
        "command": " ".join(command),
        "seed": seed,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "versions": versions(),
        "machine": machine if accelerator is None else {**machine, "accelerator": accelerator},
    }
