"""Calls that read several tensors, constants, or a tensor's axes: sums and products, joins and parts, means, views."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import views
from .frames import ONLY_ZEROS, WRONG, padded, sliced, with_zeros
from .functional import is_frozen, roots
from .norms import layer_norm
from .views import View
from .vocabulary import Call, window

if TYPE_CHECKING:
    from .collect import Collector


def _constant(walk: Collector, call: Call, view: View, value: Any) -> Tensor:
    """A number, or a tensor with one value per channel, as (C,)."""
    channels = walk.shape(view)[0]
    if isinstance(value, (int, float)):
        return torch.full((channels,), float(value), dtype=walk.dtype)
    if not isinstance(value, Tensor):
        raise call.refuse(f"arithmetic with {type(value).__name__} is not deployable")
    axes = view.axes.replace("c", "c" if view.axes != "nf" else "f")
    shape = (1,) * (len(axes) - value.dim()) + tuple(value.shape)
    wide = [letter for letter, size in zip(axes, shape) if size > 1]
    if len(shape) > len(axes) or wide not in ([], ["c"]):
        raise call.refuse(f"a constant of shape {tuple(value.shape)} is not deployable; expected a number, or one "
                          "value per channel")  # fmt: skip
    return value.detach().reshape(-1).to(walk.dtype).expand(channels).clone()


def _arithmetic(op: str) -> Callable[[Collector, Call], None]:
    """a op b: of two tensors a node, with a constant one weight and one bias per channel."""

    def family(walk: Collector, call: Call) -> None:
        first, second = call.args[0], call.argument(1, "other")
        if call.kwargs.get("alpha", 1) != 1:
            raise call.refuse("a sum with alpha is not deployable; multiply first")
        if walk.is_tensor(first) and walk.is_tensor(second):
            return _two(walk, call, op, walk.view(first, op == "mul"), walk.view(second, op == "mul"))
        view = walk.view(first if walk.is_tensor(first) else second)
        value = _constant(walk, call, view, second if walk.is_tensor(first) else first)
        one, none = torch.ones_like(value), torch.zeros_like(value)
        if op == "div" and not walk.is_tensor(first):
            raise call.refuse("a constant divided by a tensor is not deployable; use an activation with a table")
        scale, shift = {
            "add": (one, value),
            "sub": (one, -value) if walk.is_tensor(first) else (-one, value),
            "mul": (value, none),
            "div": (1 / value, none),
        }[op]
        frozen = any(map(is_frozen, call.node.all_input_nodes))
        walk.emit(call.node, "affine", [view], walk.shape(view), view.axes, scale=scale, shift=shift, frozen=frozen)

    return family


def _two(walk: Collector, call: Call, op: str, first: View, second: View) -> None:
    if op not in ("add", "mul"):
        word = {"sub": "difference", "div": "quotient"}[op]
        raise call.refuse(f"the {word} of two tensors is not deployable; only sums and products are")
    if "g" in first.axes + second.axes and first.groups != second.groups:
        raise call.refuse(f"tensors with their channels in {first.groups} and {second.groups} groups do not meet")
    if first.axes != second.axes:
        raise call.refuse(f"tensors with the axes {first.axes} and {second.axes} do not meet; permute one of them")
    if first.op == second.op and op == "add":
        twice = torch.full((walk.shape(first)[0],), 2.0, dtype=walk.dtype)
        walk.emit(call.node, "affine", [first], walk.shape(first), first.axes, scale=twice, shift=0 * twice)
        return
    shapes = walk.shape(first), walk.shape(second)
    walk.emit(call.node, op, [first, second], max(shapes, key=lambda s: s[1] * s[2]), first.axes)


def _negative(walk: Collector, call: Call) -> None:
    view = walk.view(call.args[0])
    ones = torch.ones(walk.shape(view)[0], dtype=walk.dtype)
    walk.emit(call.node, "affine", [view], walk.shape(view), view.axes, scale=-ones, shift=0 * ones)


def _concat(walk: Collector, call: Call) -> None:
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0))
    tensors = _several(walk, call, call.args[0], dim)
    axes = tensors[0].axes
    if any(view.axes != axes for view in tensors) or axes[dim] != "c":
        raise call.refuse(f"only a concat of channels is deployable, not of axis {dim}")
    if len(tensors) == 1:
        return walk.alias(call.node, tensors[0])
    _, height, width = walk.shape(tensors[0])
    walk.emit(call.node, "concat", tensors, (sum(walk.shape(v)[0] for v in tensors), height, width), axes)


def _several(walk: Collector, call: Call, given: Any, dim: int) -> list[View]:
    """The tensors of a tuple or list, or of what chunk and split return."""
    if isinstance(given, fx.Node) and given.name in walk.pieces:
        view, parts = walk.pieces[given.name]
        return [_part(walk, call, view, *part, f"{walk.names[call.node]}.{i}") for i, part in enumerate(parts)]
    if not isinstance(given, (tuple, list)) or any(isinstance(item, Tensor) and item.any() for item in given):
        raise call.refuse("constants can't be joined with what is computed; only tensors of the image are deployable")
    return with_zeros(walk, call, list(given), dim)


def _zeros(walk: Collector, call: Call) -> None:
    """As many zeros as a tensor has values, or as are asked for."""
    walk.zeros.add(call.node.name)


def _padded(walk: Collector, call: Call) -> None:
    if call.argument(2, "mode", "constant") != "constant" or call.argument(3, "value", 0) not in (0, None):
        raise call.refuse(ONLY_ZEROS)
    padded(walk, call, walk.view(call.args[0]), [int(p) for p in call.argument(1, "pad")])


def _pieces(walk: Collector, call: Call) -> None:
    """chunk, split: the parts are made where they are taken."""
    view = walk.view(call.args[0])
    dim = int(call.argument(2, "dim", 0))
    if view.axes[dim] != "c":
        raise call.refuse(f"only channels can be split, not axis {dim}")
    sizes = [shape[dim] for shape in call.node.meta["shape"]]
    walk.pieces[call.node.name] = view, [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def _part(walk: Collector, call: Call, view: View, start: int, channels: int, name: str = "") -> View:
    if channels == walk.shape(view)[0]:
        walk.alias(call.node, view)
        return view
    shape = (channels, *walk.shape(view)[1:])
    return walk.emit(call.node, "split", [view], shape, view.axes, name=name, start=start)


def _narrow(walk: Collector, call: Call) -> None:
    view, dim, start = walk.view(call.args[0]), call.argument(1, "dim"), int(call.argument(2, "start"))
    letter = view.axes[dim]
    start %= walk.size(view)[letter]
    sliced(walk, call, view, {letter: slice(start, start + int(call.argument(3, "length")))})


def _getitem(walk: Collector, call: Call) -> None:
    source, index = call.args
    if source.name in walk.pieces:
        view, parts = walk.pieces[source.name]
        if isinstance(index, slice):
            walk.pieces[call.node.name] = view, parts[index]
        else:
            _part(walk, call, view, *parts[index])
        return
    if source.name in walk.zeros:
        walk.zeros.add(call.node.name)
        return
    view = walk.view(source)
    index = index if isinstance(index, tuple) else (index,)
    if None in index:
        return reshape(walk, call)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (len(view.axes) - len(index) + 1), *index[at + 1 :])
    if not all(isinstance(part, (slice, int)) for part in index):
        raise call.refuse(WRONG)
    size = walk.size(view)
    dropped = "".join(letter for letter, part in zip(view.axes, index) if isinstance(part, int))
    slices = {letter: _one(part) if isinstance(part, int) else part for letter, part in zip(view.axes, index)}
    cut = {letter: part for letter, part in slices.items() if part.indices(size[letter]) != (0, size[letter], 1)}
    sliced(walk, call, view, cut, dropped)


def _one(position: int) -> slice:
    """The slice with the element at `position` alone, which may be counted from the end."""
    return slice(position, position + 1 or None)


def _select(walk: Collector, call: Call) -> None:
    view = walk.view(call.args[0])
    letter = view.axes[call.argument(1, "dim")]
    sliced(walk, call, view, {letter: _one(int(call.argument(2, "index")))}, letter)


def _reduce(op: str) -> Callable[[Collector, Call], None]:
    def family(walk: Collector, call: Call) -> None:
        view, dims = walk.view(call.args[0]), call.argument(1, "dim", call.kwargs.get("axis"))
        dims = [dims] if isinstance(dims, int) else dims
        letters = {view.axes[d] for d in dims} if dims is not None else set("n")
        size = walk.size(view)
        if not {letter for letter in letters if size[letter] > 1 or letter == "n"} <= set("hws"):
            raise call.refuse("only the mean or maximum over rows and columns, such as mean((2, 3)), is deployable")
        kept = view.axes if call.argument(2, "keepdim", False) else "".join(a for a in view.axes if a not in letters)
        channels, height, width = walk.shape(view)
        area = tuple(size[a] if letters & {a, "s"} else 1 for a in "hw")
        kind, attrs = window(op, area)  # type: ignore[arg-type]
        if not kind:
            return walk.alias(call.node, View(view.op, kept, view.groups))
        walk.emit(call.node, kind, [view], (channels, height // area[0], width // area[1]), kept, **attrs)

    return family


def reshape(walk: Collector, call: Call) -> None:
    view = walk.view(call.args[0])
    shape = tuple(call.node.meta["shape"])
    found = views.reshaped(view.axes, walk.size(view), shape)
    if found is None:
        raise call.refuse(f"a tensor {view.axes} in the shape {shape} is not deployable; flatten all but the batch, or "
                          "shuffle channels")  # fmt: skip
    axes, groups = found
    if axes == "shuffle":
        walk.emit(call.node, "shuffle", [view], walk.shape(view), groups=groups)
    else:
        walk.alias(call.node, View(view.op, axes, groups))


def _permute(walk: Collector, call: Call) -> None:
    view, given = walk.view(call.args[0]), call.args[1:] or (call.kwargs["dims"],)
    order = given[0] if isinstance(given[0], (tuple, list)) else given
    walk.alias(call.node, View(view.op, views.permuted(view.axes, list(order)), view.groups))


def _transpose(walk: Collector, call: Call) -> None:
    view = walk.view(call.args[0])
    first, second = call.argument(1, "dim0"), call.argument(2, "dim1")
    walk.alias(call.node, View(view.op, views.swapped(view.axes, first, second), view.groups))


def _expand(walk: Collector, call: Call) -> None:
    """One value per channel over the image."""
    view = walk.view(call.args[0])
    shape = tuple(call.node.meta["shape"])
    if view.axes != "nchw" or shape[1] != walk.shape(view)[0]:
        raise call.refuse("only one value per channel can be expanded over an image")
    walk.alias(call.node, View(view.op, view.axes, expanded=True))


def _layer_norm(walk: Collector, call: Call) -> None:
    view = walk.view(call.args[0])
    size, weight, bias = call.argument(1, "normalized_shape"), call.argument(2, "weight"), call.argument(3, "bias")
    if view.axes[-1] != "c" or tuple(size) != (walk.shape(view)[0],):
        raise call.refuse("a layer norm must be over the channels; permute them to the end")
    norm = layer_norm(size[0], call.argument(4, "eps", 1e-5), weight, bias)
    walk.emit(call.node, "layer_norm", [view], walk.shape(view), view.axes, norm, roots=roots(call.node))


def softmax(walk: Collector, call: Call, dim: int | None, module: nn.Module | None = None) -> None:
    """Over all channels of every pixel."""
    view = walk.view(call.args[0])
    if dim is None:
        raise call.refuse("a softmax without an axis; give it dim=1", module)
    channels, height, width = walk.shape(view)
    if view.axes[dim] != "c" and (view.axes[dim] != "f" or height * width > 1):
        why = f"a softmax over axis {dim} of a tensor {view.axes} is not deployable, only one over all channels (c)"
        raise call.refuse(f"{why}; gate with a sigmoid, or keep it out of the model given to from_model", module)
    walk.emit(call.node, "softmax", [view], (channels, height, width), view.axes)


def _softmax(walk: Collector, call: Call) -> None:
    softmax(walk, call, call.argument(1, "dim"))


Family = Callable[["Collector", Call], None]
_ADD, _SUB, _MUL, _DIV = map(_arithmetic, ("add", "sub", "mul", "div"))
_MEAN, _MAX = map(_reduce, ("avg_pool", "max_pool"))
FAMILIES: dict[Any, Family] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _ADD),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _SUB),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _MUL),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _DIV),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _concat),
    **dict.fromkeys((torch.chunk, torch.split, torch.tensor_split, "chunk", "split", "tensor_split"), _pieces),
    **dict.fromkeys((torch.narrow, "narrow"), _narrow),
    **dict.fromkeys((torch.select, "select"), _select),
    operator.getitem: _getitem,
    **dict.fromkeys((torch.zeros_like, "new_zeros"), _zeros),
    F.pad: _padded,
    **dict.fromkeys((torch.mean, "mean"), _MEAN),
    **dict.fromkeys((torch.amax, "amax"), _MAX),
    **dict.fromkeys(
        (torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten, "flatten", "view", "reshape",
         "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as"),
        reshape,
    ),
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.transpose, torch.swapaxes, "transpose", "swapaxes"), _transpose),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    F.layer_norm: _layer_norm,
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), _softmax),
}  # fmt: skip
"""What people call in forward -> how it is read."""
