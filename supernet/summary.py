"""What was found in a model, one line per node: what is searched, costed and deployed, and why something is not."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lut.columns import describe

from .network import QuantNetwork
from .nodes import Node, last_layers
from .schedule import Schedule

if TYPE_CHECKING:
    from .extract import Subnet
    from .supernet import Supernet

MOST_NAMES = 3
"""Tied layers that are named; the others are counted."""


def summarise(network: Supernet | Subnet, device: Any = None, table: Any = None) -> str:
    """Columns: node, kind, output, width (channels of each option, a sum where several groups lie in a row), weight
    bits, activation bits, layers that the width is tied with, costed, deployable, note (why not). A mix stands behind
    the layers of its candidates. The last line: how many convolutions are searchable, and why the others are not.

    device: a lut.Device, whose `supports` says what is deployable. table: a LatencyTable; costed is a node for whose
    options it has all rows, or what they are inferred from. Without them the column is '-'.
    """
    heads = ("node", "kind", "output", "width", "weight bits", "act bits", "tied with", "costed", "deployable", "note")
    schedule = network.schedule()
    rows = [heads, *(_row(network, node, schedule, device, table) for node in network.nodes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, _share(network)])


def _share(network: QuantNetwork) -> str:
    """`searchable: 12 of 14 convolutions in bits, 11 of 14 in width`, and how many are pinned for which reason; of
    linear layers where there is no convolution. A layer counts once; copies, windows and factors are none of them."""
    layers = [n for n in network.nodes if n.name in network.weight and not n.layer_of and not n.one_weight]
    convolutions = [n for n in layers if n.kind != "linear"]
    counted, word = (convolutions, "convolutions") if convolutions else (layers, "linear layers")
    bits = Counter(_bits_reason(network, n) for n in counted if network.weight[n.name].pinned)
    fixed = [n for n in counted if all(network.width[group.name].pinned for group in network.layout[n.name])]
    width = Counter(_width_reasons(network, n)[0] for n in fixed)
    of = len(counted)
    shares = f"searchable: {of - bits.total()} of {of} {word} in bits, {of - width.total()} of {of} in width"
    pinned = {"bits pinned": bits, "width pinned": width}
    return "; ".join([shares, *(f"{what}: {_counted(reasons)}" for what, reasons in pinned.items() if reasons)])


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items())


def _row(network: QuantNetwork, node: Node, schedule: Schedule, device: Any, table: Any) -> tuple[str, ...]:
    weight = network.weight.get(node.name)
    act = network.act.get(network.quantizer_of(node.name)) if not node.output else None
    notes = [f"width pinned: {reason}" for reason in _width_reasons(network, node)]
    notes += [f"width tied: {reason}" for reason in dict.fromkeys(g.tied for g in network.layout[node.name]) if reason]
    if weight is not None and weight.pinned:
        notes.append(f"weight bits pinned: {_bits_reason(network, node)}")
    notes += [f"has the weights of {node.layer_of}"] if node.layer_of else []
    notes += [f"has the norm of {node.norm_of}"] if node.norm_of else []
    if node.output and network.form.is_softmax(position := network.outputs.index(node.name)):
        notes.insert(0, "the model returns its softmax, a device the scores")
    if node.output and not network.form.lone:
        notes.insert(0, f"output {network.form.labels[position]}")
    if node.kind == "mix":
        skips = _skips(network, node)
        operators = len(node.inputs) - skips
        notes.append("may be skipped" if operators == 1 else f"one of {operators} operators" + ", or none" * skips)
    problems = [] if device is None or node.kind == "mix" else _problems(network, node, device.supports)
    lacking = "" if table is None or node.kind == "mix" else _lacking(node, schedule, table)
    return (
        node.name,
        node.kind + (" (depthwise)" if node.depthwise else ""),
        "x".join(map(str, node.shape)),
        _width(network, node),
        _options(weight.options if weight else None),
        _options(act.options if act else None),
        _tied(network, node),
        "-" if table is None or node.kind == "mix" else "no" if lacking else "yes",
        "-" if device is None or node.kind == "mix" else "no" if problems else "yes",
        "; ".join([*problems, *([lacking] if lacking else []), *notes]),
    )


def _options(options: tuple[int, ...] | None) -> str:
    return "-" if options is None else "/".join(map(str, options))


def _width(network: QuantNetwork, node: Node) -> str:
    """Channels by option, such as 8/16 + 4 x 2/4."""
    parts = []
    for _, run in groupby(network.layout[node.name], key=lambda group: group.name):
        same = list(run)
        parts.append((f"{len(same)} x " if len(same) > 1 else "") + _options(same[0].counts))
    return " + ".join(parts)


def _tied(network: QuantNetwork, node: Node) -> str:
    """Weighted layers whose channels are the same ones, or change with them."""
    own = {network.width[group.name] for group in network.layout[node.name]}
    names = [
        other.name
        for other in network.nodes
        if other is not node
        and other.name in network.weight
        and any(network.width[group.name] in own for group in network.layout[other.name])
    ]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more or "-"


def _width_reasons(network: QuantNetwork, node: Node) -> list[str]:
    reasons = []
    for group in network.layout[node.name]:
        if group.pinned:
            reasons.append(group.pinned)
        elif network.width[group.name].pinned:
            reasons.append(f"one option in the space for {group.channels} channels")
    return list(dict.fromkeys(reasons))


def _bits_reason(network: QuantNetwork, node: Node) -> str:
    if node.one_weight:
        return "one weight per channel is exact at any"
    uses = {other.name for other in network.nodes if other.weights == node.weights}
    if uses & set(last := last_layers(network.nodes)):
        return "the last layer" if len(last) == 1 else "a last layer"
    return "the first layer" if next(iter(network.weight)) in uses else "the space has one option for it"


def _problems(network: QuantNetwork, node: Node, supports: Any) -> list[str]:
    """What of a node the device lacks."""
    found = []
    if supports.kinds and node.kind not in supports.kinds:
        found.append(f"the device has no {node.kind}")
    weight = network.weight.get(node.name)
    if weight is not None and (lost := [bits for bits in weight.options if bits not in supports.weight_bits]):
        found.append(f"the device has no {_options(tuple(lost))}-bit weights")
    if weight is not None and max(node.kernel) > supports.max_kernel:
        found.append(f"its kernel exceeds the device's {supports.max_kernel}")
    act = network.act.get(network.quantizer_of(node.name)) if not node.output else None
    if act is not None and (lost := [bits for bits in act.options if bits not in supports.act_bits]):
        found.append(f"the device has no {_options(tuple(lost))}-bit activations")
    narrowed = {(group.repeats, count) for group in network.layout[node.name]
                for count in group.counts if count != group.channels}  # fmt: skip
    if odd := sorted(count for repeats, count in narrowed if repeats * count % supports.channel_multiple):
        found.append(f"the device has channels by {supports.channel_multiple}, not {_options(tuple(odd))}")
    return found


def _lacking(node: Node, schedule: Schedule, table: Any) -> str:
    """What a table does not answer of the operators that a node, or the block that it is in, may become; or ''."""
    whole = [b.op for b in schedule.blocks if node.name in b.members and b.kind in table.kinds]
    ops = whole or [op for op in schedule.ops if op.output == node.name]
    asked = list(dict.fromkeys(spec for op in ops for spec in op.grid() if spec is not None))
    if not (missing := table.missing(asked)):
        return ""
    if len(missing) == len(asked) and node.kind not in table.kinds:
        return f"the table has no {node.kind}"
    return f"the table lacks {len(missing)} of its {len(asked)} operators, such as {describe(missing[0])}"


def _skips(network: QuantNetwork, node: Node) -> bool:
    """Whether one of a mix's candidates is its own input: no operator exists where it is chosen."""
    busy = {at for n in network.nodes for mix, at in n.when if mix == node.name}
    return len(busy) < len(node.inputs)
