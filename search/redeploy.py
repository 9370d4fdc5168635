"""The last step of a finished run once more: its networks are built, checked and measured again."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

from deploy.lower import lower
from lut.errors import InputError
from lut.lock import alone
from supernet.extract import adopt
from supernet.saved import load_subnet

from .config import RunConfig
from .costs import resolve
from .deployment import deployment
from .run import Run
from .validation import write_validation

NEEDED = ("config.yaml", "float.safetensors", "subnet.safetensors")


def redeploy(folder: Path, force: bool = False) -> dict[str, Any]:
    """Rewrite validation.json and the report of the run in `folder`; returns the former's content.

    Raises InputError when the run is not finished, a file of it is damaged or another process works in it, LutError
    when its table is not this machine's.
    """
    require_files(folder, NEEDED)
    with alone(folder):
        return _redeploy(folder, force)


def _redeploy(folder: Path, force: bool) -> dict[str, Any]:
    config = RunConfig.read(folder / "config.yaml")
    run = Run(config, folder)
    if not run.space().is_float:
        require_files(folder, ("uniform8.safetensors",))
    found = load_subnet(folder / "subnet.safetensors")
    model = run.float_model()
    net = run.supernet(copy.deepcopy(model), run.space())
    float_subnet = run.float_subnet(model)
    table = run.measure_table(net, float_subnet, force)
    limits = resolve(net, run.costs(net), run.budgets())
    adopt(found, net)
    networks = {"float": float_subnet}
    if not run.space().is_float:
        networks["uniform8"] = run.finetuned(*run.uniform8(model), "uniform8", model)
    networks["found"] = found
    target = deployment(run.device, table, folder, run.sources, config.deploy)
    names = {"float": "float32"}
    validation = target.validate({key: lower(subnet, names.get(key, key)) for key, subnet in networks.items()})
    return write_validation(run, net, validation, networks, limits)


def require_files(folder: Path, names: tuple[str, ...]) -> None:
    """InputError when a file of a finished run is not there."""
    for name in names:
        if not (folder / name).exists():
            resume = (
                f"; finish the run with: python scripts/run_search.py --run {shlex.quote(str(folder))}"
                if folder.is_dir()
                else ""
            )
            raise InputError(f"{folder / name}: no such file{resume}")
