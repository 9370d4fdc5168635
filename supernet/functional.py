"""Layers called as functions, with parameters of the user's modules or what is made of them, as modules.

Weights that forward computes from parameters (weight standardisation) are computed once: they are searched as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .vocabulary import Call, conv_pad, pair

if TYPE_CHECKING:
    from .collect import Collector


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def plain(layer: Layer) -> Layer:
    """A layer whose weights are parameters of its own: those of one with weight norm are taken as they are now."""
    if isinstance(layer._parameters.get("weight"), nn.Parameter):
        return layer
    new: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    else:
        size: Any = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        new = nn.Conv2d(layer.in_channels, layer.out_channels, size[0], size[1], size[2], size[3], layer.groups,
                        layer.bias is not None)  # fmt: skip
    trained = any(parameter.requires_grad for name, parameter in layer.named_parameters() if name != "bias")
    new.weight = nn.Parameter(layer.weight.detach().clone(), trained)
    if layer.bias is not None:
        new.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    return new


def _named(walk: Collector, call: Call, position: int, word: str) -> str:
    """By the module that a parameter belongs to, else by the node."""
    given = call.node.args[position] if len(call.node.args) > position else call.node.kwargs.get(word)
    owner = str(given.target).rpartition(".")[0] if isinstance(given, fx.Node) and given.op == "get_attr" else ""
    return walk.use(owner or walk.names[call.node])


def roots(node: fx.Node) -> tuple[Tensor, ...]:
    """The parameters that a call reads, also where it reads what was made of them; not single numbers, which layers
    may have in common."""
    return tuple(parameter for parameter in _parameters(node) if parameter.numel() > 1)


def _parameters(node: fx.Node) -> Iterator[nn.Parameter]:
    for source in node.all_input_nodes:
        value = source.meta.get("value")
        if isinstance(value, nn.Parameter):
            yield value
        elif value is not None:
            yield from _parameters(source)


def _weights(call: Call, *words: str) -> list[nn.Parameter | None]:
    """Copies, frozen where the user's model trains nothing of what they are made of."""
    found = [call.argument(i, word) for i, word in enumerate(words, 1)]
    if any(value is not None and not isinstance(value, Tensor) for value in found):
        raise call.refuse("its weights depend on the image; only layers with fixed weights are deployable")
    given = [call.node.args[i] if len(call.node.args) > i else call.node.kwargs.get(w) for i, w in enumerate(words, 1)]
    return [
        None if value is None else nn.Parameter(value.detach().clone(), not is_frozen(node))
        for value, node in zip(found, given)
    ]


def is_frozen(node: Any) -> bool:
    """Whether it is a parameter that the user's model does not train, or made of such alone."""
    value = node.meta.get("value") if isinstance(node, fx.Node) else None
    found = [value] if isinstance(value, nn.Parameter) else [] if value is None else [*_parameters(node)]
    return bool(found) and not any(parameter.requires_grad for parameter in found)


def _conv(walk: Collector, call: Call) -> None:
    weight, bias = _weights(call, "weight", "bias")
    assert weight is not None
    stride, padding, dilation, groups = (
        call.argument(i, word, default)
        for i, (word, default) in enumerate((("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)), 3)
    )
    view = walk.view(call.node.args[0])
    walk.image(call, view)
    out, inside, rows, cols = weight.shape
    conv = nn.Conv2d(inside * groups, out, (rows, cols), pair(stride), padding if isinstance(padding, str) else
                     pair(padding), pair(dilation), groups, bias is not None)  # fmt: skip
    conv.weight, conv.bias = weight, bias
    name = _named(walk, call, 1, "weight")
    walk.emit(call.node, "conv", [view], call.out, "nchw", conv, name, roots(call.node), pad=conv_pad(conv))


def _linear(walk: Collector, call: Call) -> None:
    weight, bias = _weights(call, "weight", "bias")
    assert weight is not None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    walk.linear(call, walk.view(call.node.args[0]), layer, _named(walk, call, 1, "weight"), roots(call.node))


def _batch_norm(walk: Collector, call: Call) -> None:
    mean, var, weight, bias = _weights(call, "running_mean", "running_var", "weight", "bias")
    view = walk.view(call.node.args[0])
    if call.argument(5, "training", False):
        raise call.refuse("a batch norm with training=True takes the statistics of each batch; pass self.training")
    if mean is None or var is None or view.axes not in ("nchw", "nc"):
        raise call.refuse("a batch norm needs running statistics, and channels first")
    norm = nn.BatchNorm2d(len(mean), call.argument(7, "eps", 1e-5), call.argument(6, "momentum", 0.1))
    norm.to(mean.device, mean.dtype)
    pairs: list[tuple[Any, Tensor | None]] = [
        (norm.running_mean, mean), (norm.running_var, var), (norm.weight, weight), (norm.bias, bias)
    ]  # fmt: skip
    with torch.no_grad():
        for own, value in pairs:
            if value is not None:
                own.copy_(value)
                if isinstance(own, nn.Parameter):
                    own.requires_grad_(value.requires_grad)
    name = _named(walk, call, 1, "running_mean")
    statistics = (call.argument(1, "running_mean"), call.argument(2, "running_var"))
    walk.emit(call.node, "bn", [view], walk.shape(view), view.axes, norm, name, (*roots(call.node), *statistics))


FUNCTIONAL = {F.conv2d: _conv, torch.conv2d: _conv, F.linear: _linear, F.batch_norm: _batch_norm}
"""What people call in forward -> how it is read."""
