"""What was found in a model, one line per node."""

from __future__ import annotations

from typing import Any

from .network import QuantNetwork
from .nodes import Node


def _options(options: tuple[int, ...] | None) -> str:
    return "-" if options is None else "/".join(map(str, options))


def _skips(network: QuantNetwork, node: Node) -> bool:
    """Whether one of a mix's candidates is its own input, made outside of it."""
    made = {n.name: n for n in network.nodes}
    return any((node.name, i) not in made[name].when for i, name in enumerate(node.inputs) if made[name].kind != "mix")


def summarise(network: QuantNetwork, device: Any = None) -> str:
    """Columns: node, kind, output, channels, weight bits, activation bits, width tied with, note. A mix stands behind
    the layers of its candidates.

    device: with `supports.kinds`; kinds it lacks are marked.
    """
    kinds = getattr(getattr(device, "supports", None), "kinds", None) or None  # empty: any
    rows = [("node", "kind", "output", "channels", "weight bits", "act bits", "width group", "note")]
    for node in network.nodes:
        group = network.groups[node.name]
        weight = network.weight.get(node.name)
        act = network.act.get(network.quantizer_of(node.name))
        note = []
        if group.pinned:
            note.append(f"width pinned: {group.pinned}")
        if weight is not None and weight.pinned:
            note.append("weight bits pinned")
        if node.kind == "mix":
            note.append(f"one of {len(node.inputs)} operators" + (", or none" if _skips(network, node) else ""))
        elif kinds is not None and node.kind not in kinds:
            note.append(f"{node.kind} is not supported by the device")
        rows.append(
            (
                node.name,
                node.kind + (" (depthwise)" if node.depthwise else ""),
                "x".join(map(str, node.shape)),
                _options(network.width[group.name].options),
                _options(weight.options if weight else None),
                _options(act.options if act and node is not network.nodes[-1] else None),
                group.name if len(group.members) > 1 else "-",
                "; ".join(note),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)
