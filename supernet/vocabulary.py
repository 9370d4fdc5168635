"""What people write in a model, module or call, as a primitive operator: its name and attributes, or why it is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .primitives import Shape, refusal, way_out

FUNCTIONS = {
    F.hardswish: "hardswish", F.hardsigmoid: "hardsigmoid", F.silu: "silu", F.sigmoid: "sigmoid", F.tanh: "tanh",
    torch.sigmoid: "sigmoid", torch.tanh: "tanh", "sigmoid": "sigmoid", "tanh": "tanh", "sigmoid_": "sigmoid",
    torch.sigmoid_: "sigmoid", torch.tanh_: "tanh", "tanh_": "tanh",
}  # fmt: skip
"""What people call in forward -> a name of unary.UNARY."""
RELU = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
CLAMP = (torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_", F.hardtanh, F.hardtanh_)
DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)
"""Calls that do nothing at inference, when they are told so."""
NOTHING = ("contiguous", "clone", "detach", torch.clone)
"""Calls that do nothing."""
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
Primitive = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """A call in forward: its arguments with numbers and constant tensors in place of their nodes; `shape` (C, H, W) and
    `out` (C', H', W') of the tensor that it reads and of the one that it makes."""

    node: fx.Node
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: Shape
    out: Shape

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def refuse(self, why: str, module: nn.Module | None = None) -> Exception:
        return refusal(self.node, why, module)


def pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


def _pool(call: Call, op: str, kernel: Any, stride: Any, pad: Any, dilation: Any = 1) -> Primitive:
    """A last window that ceil_mode adds reaches over the edge: for a maximum that is padding, for a mean it is not."""
    kernel, dilation, frame = pair(kernel), pair(dilation), pair(pad or 0)
    stride = pair(stride) if stride not in (None, [], ()) else kernel
    more = [
        max((call.out[i + 1] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - call.shape[i + 1] - 2 * frame[i], 0)
        for i in (0, 1)
    ]
    if any(more) and op == "avg_pool":
        raise call.refuse("an average pool with a window over the edge (ceil_mode) is not deployable; use ceil_mode="
                          "False")  # fmt: skip
    padding = (frame[0], frame[1], frame[0] + more[0], frame[1] + more[1])
    return op, {"kernel": kernel, "stride": stride, "pad": padding, "dilation": dilation}


def _avg_pool(call: Call, kernel: Any, stride: Any, pad: Any, count_pad: bool, divisor: Any) -> Primitive:
    if divisor is not None:
        raise call.refuse("an average pool with divisor_override is not deployable; scale the weights behind it")
    if any(pair(pad or 0)) and not count_pad:
        raise call.refuse("an average pool with count_include_pad=False is not deployable; use True")
    return _pool(call, "avg_pool", kernel, stride, pad)


def adaptive(call: Call, op: str, size: Any) -> Primitive:
    """Adaptive pooling, whose windows must be equal."""
    sizes = (size, size) if not isinstance(size, (tuple, list)) else tuple(size)
    target = tuple(call.shape[i + 1] if sizes[i] is None else int(sizes[i]) for i in (0, 1))
    if 0 in target or call.shape[1] % target[0] or call.shape[2] % target[1]:
        raise call.refuse(f"adaptive pooling of {call.shape[1:]} to {target} is not an even window; use AvgPool2d")
    return window(op, (call.shape[1] // target[0], call.shape[2] // target[1]))


def window(op: str, size: tuple[int, int]) -> Primitive:
    """A pool over windows that do not overlap; '' where they are single pixels."""
    if size == (1, 1):
        return "", {}
    return op, {"kernel": size, "stride": size, "pad": (0, 0, 0, 0), "dilation": (1, 1)}


def _act(call: Call, low: Any, high: Any) -> Primitive:
    if low != 0 or (high is not None and high <= 0):
        raise call.refuse(f"a clamp to [{low}, {high}] is not deployable; its lower bound must be 0")
    return "act", {"high": math.inf if high is None else float(high)}


def conv_pad(module: nn.Conv2d) -> tuple[int, int, int, int]:
    """(top, left, bottom, right), of 'same' and 'valid' too: what is odd of 'same' goes to the end."""
    if module.padding == "valid":
        return 0, 0, 0, 0
    if module.padding == "same":
        rows, cols = (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size))
        return rows // 2, cols // 2, rows - rows // 2, cols - cols // 2
    assert not isinstance(module.padding, str)
    rows, cols = module.padding
    return rows, cols, rows, cols


def of_module(call: Call, module: nn.Module) -> Primitive:
    """(op, attrs) of a call_module node; '' for one that does nothing at inference."""
    match module:
        case nn.Conv2d():
            if module.padding_mode != "zeros":
                raise call.refuse("only zero padding is deployable; use padding_mode='zeros'", module)
            return "conv", {"pad": conv_pad(module)}
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            if not module.affine or not module.track_running_stats:
                raise call.refuse("a batch norm needs affine=True and track_running_stats=True", module)
            return "bn", {}
        case nn.ReLU():
            return "act", {"high": math.inf}
        case nn.Hardtanh():  # ReLU6 is one
            return _act(call, module.min_val, module.max_val)
        case nn.GELU():
            return "unary", {"fn": "gelu" if module.approximate == "none" else "gelu_tanh"}
        case nn.Hardswish() | nn.Hardsigmoid() | nn.SiLU() | nn.Sigmoid() | nn.Tanh():
            return "unary", {"fn": type(module).__name__.lower()}
        case nn.MaxPool2d():
            size, step, pad = module.kernel_size, module.stride, module.padding
            return _pool(call, "max_pool", size, step, pad, module.dilation)
        case nn.AvgPool2d():
            size, step, pad = module.kernel_size, module.stride, module.padding
            return _avg_pool(call, size, step, pad, module.count_include_pad, module.divisor_override)
        case nn.AdaptiveAvgPool2d():
            return adaptive(call, "avg_pool", module.output_size)
        case nn.AdaptiveMaxPool2d():
            return adaptive(call, "max_pool", module.output_size)
        case nn.ChannelShuffle():
            return "shuffle", {"groups": module.groups}
        case _ if isinstance(module, DROPOUTS):
            return "", {}
    raise call.refuse(way_out(type(module).__name__), module)


def of_call(call: Call) -> Primitive:
    """(op, attrs) of a call_function or call_method node on one image tensor; '' for one that does nothing."""
    target, get = call.node.target, call.argument
    if target in RELU:
        return "act", {"high": math.inf}
    if target is F.relu6:
        return "act", {"high": 6.0}
    if target in CLAMP:
        tanh = target in (F.hardtanh, F.hardtanh_)
        names = ("min_val", "max_val") if tanh else ("min", "max")
        return _act(call, get(1, names[0], -1.0 if tanh else None), get(2, names[1], 1.0 if tanh else None))
    if target in (torch.clamp_min, "clamp_min", "clamp_min_"):
        return _act(call, get(1, "min"), None)
    if target in FUNCTIONS:
        return "unary", {"fn": FUNCTIONS[target]}
    if target is F.gelu:
        return "unary", {"fn": "gelu" if get(1, "approximate", "none") == "none" else "gelu_tanh"}
    if target in NOTHING:
        return "", {}
    if target in DROPOUT:
        on = call.kwargs.get("train", target not in (F.alpha_dropout, F.feature_alpha_dropout))
        if get(2, "training", on) and get(1, "p", 0.5):
            raise call.refuse("it drops at inference too; pass training=self.training")
        return "", {}
    if target is F.adaptive_avg_pool2d:
        return adaptive(call, "avg_pool", get(1, "output_size"))
    if target in (F.adaptive_max_pool2d, getattr(F, "_adaptive_max_pool2d", None)):
        return adaptive(call, "max_pool", get(1, "output_size"))
    if target in (F.avg_pool2d, torch._C._nn.avg_pool2d):
        size, step, pad = (get(i, name) for i, name in enumerate(("kernel_size", "stride", "padding"), 1))
        count, divisor = get(5, "count_include_pad"), get(6, "divisor_override")
        return _avg_pool(call, size, step, pad, count is not False, divisor)
    if target in (F.max_pool2d, getattr(F, "_max_pool2d", None), torch.max_pool2d):
        size, step, pad = (get(i, name) for i, name in enumerate(("kernel_size", "stride", "padding"), 1))
        return _pool(call, "max_pool", size, step, pad, get(4, "dilation") or 1)
    if target in (F.channel_shuffle, torch.channel_shuffle):
        return "shuffle", {"groups": int(get(1, "groups"))}
    raise call.refuse(way_out(getattr(target, "__name__", target)))
