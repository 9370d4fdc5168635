"""Slices, frames and zero channels: what changes which rows, columns and channels a tensor has, not their values.

Rows and columns from a first one on, x[:, :, a::s, b::s], are a depthwise convolution whose kernel has a single 1, at
(a, b): a window of the image, which no operator that moves codes cuts out. A frame of zeros is a pad, a negative one a
slice. Zero channels that are joined to others by a concat are a resample of their neighbour. Every s-th channel is part
of a channel shuffle, which puts them beside each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from .views import View
from .vocabulary import Call

if TYPE_CHECKING:
    from .collect import Collector

ONLY_ZEROS = "only padding with zeros is deployable"
WRONG = "only channels, rows and columns can be sliced or indexed, x[:, a:b:s, c:d:s, i]"


def sliced(walk: Collector, call: Call, view: View, cut: dict[str, slice], dropped: str = "") -> None:
    """The channels, rows and columns of `view` that `cut` says by the letters of its axes; without the axes `dropped`,
    of which one element is left."""
    channels, rows, cols = (range(size)[cut.get(letter, slice(None))] for letter, size in zip("chw", walk.shape(view)))
    if not set(cut) <= {"c", "h", "w"}:
        raise call.refuse(WRONG)
    if 0 in (len(channels), len(rows), len(cols)):
        raise call.refuse("an empty slice is not deployable")
    name = walk.names[call.node]
    whole, height, width = walk.shape(view)
    spatial = len(rows) < height or len(cols) < width
    start = channels.start
    if channels.step > 1 and len(channels) > 1:
        if whole % channels.step:
            raise call.refuse(f"a step of {channels.step} does not divide {whole} channels; that is not deployable")
        groups = whole // channels.step
        view = walk.emit(call.node, "shuffle", [view], walk.shape(view), view.axes, name=f"{name}.order", groups=groups)
        start = start % channels.step * groups + start // channels.step
    if len(channels) < whole:
        part = f"{name}.channels" if spatial else name
        view = walk.emit(call.node, "split", [view], (len(channels), height, width), view.axes, name=part, start=start)
    if spatial:
        view = _window(walk, call, view, rows, cols, name)
    walk.alias(call.node, replace(view, axes="".join(letter for letter in view.axes if letter not in dropped)))


def _window(walk: Collector, call: Call, view: View, rows: range, cols: range, name: str) -> View:
    channels, height, width = walk.shape(view)
    shape, stride = (channels, len(rows), len(cols)), (rows.step, cols.step)
    sizes = [_kernel(size, part) for size, part in ((height, rows), (width, cols))]
    if sizes == [1, 1]:
        return walk.emit(call.node, "stride", [view], shape, view.axes, name=name, stride=stride)
    conv = nn.Conv2d(channels, channels, (sizes[0], sizes[1]), stride, groups=channels, bias=False, dtype=walk.dtype)
    with torch.no_grad():
        conv.weight.zero_()[:, 0, rows.start, cols.start] = 1
    conv.weight.requires_grad = False
    return walk.emit(call.node, "conv", [view], shape, view.axes, conv, name, pad=(0, 0, 0, 0), single=True)


def _kernel(size: int, part: range) -> int:
    """The smallest kernel whose positions, at the stride part.step, are as many as `part` has."""
    return max(part.start + 1, size - len(part) * part.step + 1)


def padded(walk: Collector, call: Call, view: View, pad: list[int]) -> None:
    """pad: before and after each axis, the last axis first, as F.pad takes them; zeros, or slices where below 0."""
    sides = {letter: (pad[2 * i], pad[2 * i + 1]) for i, letter in enumerate(view.axes[::-1][: len(pad) // 2])}
    if any(any(both) for letter, both in sides.items() if letter not in "chw"):
        raise call.refuse("only channels, rows and columns can be padded")
    before, after, top, bottom, left, right = (max(n, 0) for letter in "chw" for n in sides.get(letter, (0, 0)))
    cut = {letter: slice(max(-a, 0), min(b, 0) or None) for letter, (a, b) in sides.items() if min(a, b) < 0}
    name = walk.names[call.node]
    frame = (top, left, bottom, right)
    if before or after:
        view = zero_channels(walk, call, view, before, after, f"{name}.zeros" if cut or any(frame) else name)
    if any(frame):
        channels, height, width = walk.shape(view)
        shape = (channels, height + top + bottom, width + left + right)
        view = walk.emit(call.node, "pad", [view], shape, view.axes, name=f"{name}.pad" if cut else name, pad=frame)
    sliced(walk, call, view, cut)


def zero_channels(walk: Collector, call: Call, view: View, before: int, after: int, name: str) -> View:
    channels, height, width = walk.shape(view)
    return walk.emit(call.node, "channel_pad", [view], (channels + before + after, height, width), view.axes, name=name,
                     before=before, after=after)  # fmt: skip


def are_zeros(walk: Collector, value: Any) -> bool:
    """Whether it is a tensor of zeros, in the images' number: zeros_like, new_zeros, x * 0, or a constant."""
    if isinstance(value, Tensor):
        return not value.any()
    if not isinstance(value, fx.Node) or value.name in walk.zeros:
        return isinstance(value, fx.Node)
    made = walk.ops[walk.views[value.name].op] if value.name in walk.views else None
    return made is not None and made.op == "affine" and not made.attrs["scale"].any()


def with_zeros(walk: Collector, call: Call, given: list[Any], dim: int) -> list[View]:
    """The tensors that are joined along the axis `dim` of channels; zeros among them become channels of those that they
    stand beside."""
    parts: list[tuple[Any, int, int]] = []
    waiting = 0
    for value in given:
        if are_zeros(walk, value):
            channels = value.shape[dim] if isinstance(value, Tensor) else value.meta["shape"][dim]
            if parts:
                parts[-1] = (*parts[-1][:2], parts[-1][2] + channels)
            else:
                waiting += channels
        else:
            parts.append((value, waiting, 0))
            waiting = 0
    if not parts:
        raise call.refuse("nothing but zeros is joined")
    found = []
    for i, (value, before, after) in enumerate(parts):
        view = walk.view(value)
        if view.axes[dim] == "c" and before + after:
            name = walk.names[call.node]
            view = zero_channels(walk, call, view, before, after, name if len(parts) == 1 else f"{name}.zeros{i}")
        found.append(view)
    return found
