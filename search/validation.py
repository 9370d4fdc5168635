"""The end of a run: validation.json, from what the device said of the networks, and the report."""

from __future__ import annotations

import json
from typing import Any

from cost_models.energy import DERIVED, derived
from lut.files import atomic_write
from lut.spec import MEASURED
from supernet.extract import Subnet, unquantized
from supernet.supernet import Supernet

from .budget import Budget
from .costs import predicted
from .deployment import budget_rows
from .report import write_report
from .run import Run


def write_validation(
    run: Run, net: Supernet, validation: dict[str, Any], networks: dict[str, Subnet], limits: list[Budget]
) -> dict[str, Any]:
    """Complete what the device said with the test metric, budgets and layers; write validation.json and the report."""
    for name, network in networks.items():
        if validation["source"] not in MEASURED:  # as the search priced it, blocks and another resolution included
            for field, value in predicted(network, run.table, run.device).items():
                if field in validation["networks"][name]:
                    validation["networks"][name][field]["predicted"] = value
        scores = validation["networks"][name]["top1"]
        scores["float"] = run.test_metric(unquantized(network))
        if name != "float":
            scores["fake_quant"] = run.test_metric(network)
    validation["metric"] = run.sources.scored
    found = networks["found"]
    validation["budgets"] = budget_rows(validation, limits, found.arch)
    for row in validation["budgets"]:
        row["note"] = DERIVED if derived(row["metric"], run.device.power, run.table) else ""
    validation["layers"] = layer_rows(net, found)
    atomic_write(run.folder / "validation.json", json.dumps(validation, indent=1))
    write_report(run.folder)
    return validation


def layer_rows(net: Supernet, subnet: Subnet) -> list[dict[str, Any]]:
    """Channels and bits per weighted layer of the found network."""
    full = {node.name: node.shape[0] for node in net.nodes}
    rows = []
    for node in subnet.nodes:
        if node.name not in subnet.weight:
            continue
        rows.append(
            {
                "name": node.name,
                "kind": node.kind,
                "channels": node.shape[0],
                "max_channels": full[node.name],
                "weight_bits": subnet.weight[node.name].options[0],
                "act_bits": None if node.output else subnet.act[node.name].options[0],
            }
        )
    return rows
