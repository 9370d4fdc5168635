"""Resume state: everything that the next step depends on, written atomically, so that a killed run continues to the
bit where an unbroken one would be.

torch.save of plain containers and tensors only, so that torch.load(weights_only=True) reads it: a checkpoint runs
no code of whoever wrote it.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from lut.errors import InputError
from lut.files import atomic_write

SCHEMA = 1
PARTS = {"phase": str, "settings": dict, "rng": dict, "state": dict}
"""What a checkpoint holds beside its schema."""


@dataclass(frozen=True)
class Checkpoint:
    """One file that holds the state of one phase (`train`, `search`, `finetune`) with its settings.

    added: names of settings that files of earlier versions lack; they are compared where both have them.
    """

    path: Path
    phase: str
    settings: Mapping[str, Any]
    added: tuple[str, ...] = ()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write `state` and the random generators' states; the former file stands until the new one is complete."""
        body = {"schema": SCHEMA, "phase": self.phase, "settings": dict(self.settings), "rng": rng_state()}
        buffer = io.BytesIO()
        plain = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf, dict(state))
        torch.save({**body, "state": plain}, buffer)
        atomic_write(self.path, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The saved state with the generators restored, or None when there is no file.

        Raises InputError when the file is damaged, of another phase, or of other settings.
        """
        if not self.path.exists():
            return None
        body = read(self.path)
        if body["phase"] != self.phase:
            raise InputError(f"{self.path}: phase: it holds '{body['phase']}', not '{self.phase}'; use another folder")
        for name, value in self.settings.items():
            was = body["settings"].get(name)
            if was != value and (name in body["settings"] or name not in self.added):
                raise InputError(
                    f"{self.path}: {self.phase}.{name}: it was made with {was!r}, this run has {value!r}; "
                    f"resume with {was!r}, use another folder, or delete the file"
                )
        with self.restoring():
            restore_rng(body["rng"])
        return body["state"]

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Inside, the state is put into what it belongs to: InputError where it does not fit, as another network's."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            lines = f"no {error}" if isinstance(error, KeyError) else str(error).strip()
            reason = " ".join(line.strip() for line in lines.splitlines()[:2])  # torch lists every tensor
            raise InputError(
                f"{self.path}: {self.phase}: its state does not fit this run's network: {reason}; "
                "use another folder, or delete the file"
            ) from error


def read(path: str | Path) -> dict[str, Any]:
    """The body of a checkpoint; InputError when the file is truncated, damaged or not one."""
    try:
        body = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # torch raises half a dozen types for a damaged archive
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: damaged checkpoint: {reason}; delete it to start this phase anew") from None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise InputError(f"{path}: no checkpoint of this version (schema {SCHEMA}); delete it to start this phase anew")
    for name, kind in PARTS.items():
        if not isinstance(body.get(name), kind):
            raise InputError(f"{path}: damaged checkpoint: no {name}; delete it to start this phase anew")
    return body


def rng_state() -> dict[str, Any]:
    """States of torch's, NumPy's and Python's global generators as plain values and tensors."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": (version, tuple(words), gauss),
        "numpy": (str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Undo `rng_state`."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def to_cpu(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of a state dict that later training does not change."""
    return {name: value.detach().cpu().clone() for name, value in state.items()}
