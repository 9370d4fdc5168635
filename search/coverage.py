"""What a search asks of its table and its device, and what they lack."""

from __future__ import annotations

from collections import Counter

from lut.columns import describe
from lut.device import Device
from lut.errors import InputError, LutError
from lut.spec import OpSpec
from lut.table import LatencyTable
from supernet.fuse import Node
from supernet.supernet import Supernet


def space_specs(net: Supernet) -> list[OpSpec]:
    """Every distinct spec of a network's search space, whatever the layer."""
    return list(dict.fromkeys(spec.without_site() for op in net.ops() for spec in op.grid() if spec is not None))


def lacking(net: Supernet, device: Device) -> list[Node]:
    """Nodes whose kind the device does not have; a mix is none, it is one of its candidates."""
    kinds = device.supports.kinds
    return [node for node in net.nodes if kinds and node.kind not in (*kinds, "mix")]


def require_kinds(net: Supernet, device: Device) -> None:
    """InputError for an operator that the device does not have."""
    for node in lacking(net, device):
        raise InputError(
            f"{node.name}: {device.name} has no {node.kind}; it has {', '.join(device.supports.kinds)}. "
            "Replace the operator, or search for a device whose table prices it"
        )


def priced_specs(net: Supernet, table: LatencyTable) -> list[OpSpec]:
    """What a search asks a table for: every spec of every layer or block."""
    return [spec for op in net.schedule().priced(table.kinds) for spec in op.grid() if spec is not None]


def require_rows(net: Supernet, table: LatencyTable) -> None:
    """LutError when a table that nobody here can extend does not answer for the whole space."""
    asked = priced_specs(net, table)
    if missing := table.missing(asked):
        by_kind = Counter(spec.kind for spec in missing)
        counts = ", ".join(f"{count} {kind}" for kind, count in by_kind.most_common())
        raise LutError(
            f"{table.path}: lacks {len(missing)} of the {len(set(asked))} operators of the space ({counts}), "
            f"such as {describe(missing[0])}; the nearest rows: {'; '.join(map(describe, table.nearest(missing[0])))}. "
            "Cut the space to what the table has (space.*, space.pin), or let its header say what is free, equal "
            "or ignored (docs/your-device.md)"
        )
