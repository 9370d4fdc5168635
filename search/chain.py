"""The whole chain for one device: from data and a model by table, search, subnet and deployment to predicted beside
measured."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from deploy.lower import lower
from lut.lock import alone

from .config import RunConfig
from .costs import resolve
from .deployment import deployment
from .run import Run, say


def run_chain(config: RunConfig, folder: Path, command: list[str], force: bool = False) -> dict[str, Any]:
    """The chain from data to report; returns validation.json's content. Raises BudgetError (exit 3) and InputError, the
    latter also where another process is at work in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return _chain(Run(config, folder), command, force)


def _chain(run: Run, command: list[str], force: bool) -> dict[str, Any]:
    from .validation import write_validation

    run.start(command)
    table = run.refuse_early(force)
    model = run.float_model()
    net = run.supernet(copy.deepcopy(model), run.space())
    float_subnet = run.float_subnet(model)
    costs = run.costs(net)
    limits = resolve(net, costs, run.budgets())
    say("budgets: " + ", ".join(b.describe() for b in limits))
    scores = run.search(net, costs, limits)
    networks = {"float": float_subnet}
    if not run.space().is_float:
        networks["uniform8"] = run.finetuned(*run.uniform8(model), "uniform8", model)
    target = deployment(run.device, table, run.folder, run.sources, run.config.deploy)
    names = {"float": "float32"}
    programs = {name: lower(network, names.get(name, name)) for name, network in networks.items()}
    subnet, validation = run.deployed(net, scores, costs, limits, model, target, programs)
    return write_validation(run, net, validation, {**networks, "found": subnet}, limits)
