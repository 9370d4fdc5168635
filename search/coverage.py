"""What a search asks of its table and its device, and what they lack."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from lut.columns import describe
from lut.device import Device
from lut.errors import InputError, LutError
from lut.spec import FLOAT_BITS, OpSpec
from lut.table import LatencyTable
from supernet.fuse import Node
from supernet.space import SearchSpace
from supernet.supernet import Supernet


def space_specs(net: Supernet) -> list[OpSpec]:
    """Every distinct spec of a network's search space and of its reference, whatever the layer."""
    ops = [*net.ops(), *net.reference().ops]
    return list(dict.fromkeys(spec.without_site() for op in ops for spec in op.grid() if spec is not None))


def lacking(net: Supernet, device: Device) -> list[Node]:
    """Nodes whose kind the device does not have; a mix is none, it is one of its candidates."""
    kinds = device.supports.kinds
    return [node for node in net.nodes if kinds and node.kind not in (*kinds, "mix")]


def within(space: SearchSpace, device: Device) -> tuple[SearchSpace, tuple[str, ...]]:
    """The part of a space that the device supports, and what that takes away, one line each. InputError when nothing is
    left of an option, or a pin asks for what the device lacks."""
    supports, lines, kept = device.supports, [], dict[str, Any]()
    for name in ("weight_bits", "act_bits"):
        asked, able = getattr(space, name), getattr(supports, name)
        kept[name] = tuple(b for b in asked if b in able)
        if not kept[name]:
            raise InputError(f"space.{name}: {list(asked)}: {device.name} supports {list(able)} alone")
        if lost := [b for b in asked if b not in able]:
            lines.append(f"{name}: {lost} are not supported by {device.name}, which has {list(able)}")
        for layer, pins in space.pin.items():
            if name in pins and pins[name] not in able:
                raise InputError(f"space.pin.{layer}.{name}: {pins[name]}: {device.name} supports {list(able)} alone")
    ends, able = space.first_last_bits, supports.weight_bits
    if ends is not None and not space.is_float and ends not in able:
        kept["first_last_bits"] = most = max(b for b in able if b != FLOAT_BITS)
        lines.append(f"first_last_bits: {most}, not {ends}: {device.name} has weights of {list(able)} bits")
    if space.channel_multiple % supports.channel_multiple:
        kept["channel_multiple"] = math.lcm(space.channel_multiple, supports.channel_multiple)
        lines.append(f"widths: multiples of {kept['channel_multiple']}, not of {space.channel_multiple}")
    return replace(space, **kept), tuple(lines)


def too_large(net: Supernet, device: Device) -> list[Node]:
    """Convolutions whose kernel exceeds the device's largest."""
    return [node for node in net.nodes if node.name in net.weight and max(node.kernel) > device.supports.max_kernel]


def require_kinds(net: Supernet, device: Device) -> None:
    """InputError for an operator that the device does not have, or a kernel larger than it has."""
    for node in lacking(net, device):
        raise InputError(
            f"{node.name}: {device.name} has no {node.kind}; it has {', '.join(device.supports.kinds)}. "
            "Replace the operator, or search for a device whose table prices it"
        )
    for node in too_large(net, device):
        rows, cols = node.kernel
        raise InputError(
            f"{node.name}: a kernel of {rows}x{cols}; {device.name} has kernels up to {device.supports.max_kernel}. "
            "Replace it by smaller ones in a row"
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
