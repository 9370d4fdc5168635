"""A network's metric after a short fine-tuning: what tells finalists apart where inherited weights do not.

One round of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943): each gets a few epochs, the best one all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lut.errors import InputError
from lut.files import atomic_write
from supernet.arch import Arch
from supernet.extract import Subnet

from .evaluate import Metric, evaluate, top1

Trial = Callable[[str, Subnet], float]
"""The metric on validation of a network, and what it is called, after a short fine-tuning in place."""
RESULTS = "trials.json"
"""In a folder: {name, metric, epochs, seed, predicted: costs} by `digest`, so that an interrupted run tries nothing
twice."""


def make_trial(
    tune: Callable[..., Any],
    data: Any,
    epochs: int,
    metric: Metric = top1,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Trial | None:
    """A trial of `epochs`, None for no epochs. tune: `search.finetune` with its other arguments given.

    folder: results are kept there, those of other epochs or another seed replaced, and an interrupted trial continues.
    The trial raises what `finetune` raises, and InputError for a damaged file of results.
    """
    if not epochs:
        return None
    home = None if folder is None else Path(folder)
    own = {"epochs": epochs, "seed": seed}

    def trial(name: str, subnet: Subnet) -> float:
        key = digest(subnet.arch)
        rows = {} if home is None else read_trials(home / RESULTS)
        done = {other: row for other, row in rows.items() if own.items() <= {**own, **row}.items()}
        if key in done:
            return float(done[key]["metric"])
        checkpoint = None if home is None else home / f"trial-{key}.pt"
        torch.manual_seed(seed)
        tune(subnet, epochs=epochs, phase=f"trial {name} {key}", checkpoint=checkpoint)
        reached = evaluate(subnet, data, "validation", metric)
        if home is not None and checkpoint is not None:
            row = {"name": name, "metric": reached, **own, "predicted": dict(subnet.arch.predicted)}
            atomic_write(home / RESULTS, json.dumps({**done, key: row}, indent=1))
            checkpoint.unlink(missing_ok=True)
        return reached

    return trial


def digest(arch: Arch) -> str:
    """8 hex digits that change with any choice."""
    return hashlib.sha256(json.dumps(sorted(arch.choices.items())).encode()).hexdigest()[:8]


def read_trials(path: Path) -> dict[str, dict[str, Any]]:
    """Results of earlier trials by digest, none without the file. InputError when it is damaged."""
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text())
        return {key: {**row, "name": str(row["name"]), "metric": float(row["metric"])} for key, row in rows.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {error!r}; delete it to try the finalists anew") from None
