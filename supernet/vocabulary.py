"""What people write in a model, module or call, as a primitive operator: its name and attributes, or why it is none."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from lut.errors import InputError

FUNCTIONS = {
    F.hardswish: "hardswish", F.hardsigmoid: "hardsigmoid", F.silu: "silu", F.sigmoid: "sigmoid", F.tanh: "tanh",
    torch.sigmoid: "sigmoid", torch.tanh: "tanh", "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip
"""What people call in forward -> a name of unary.UNARY."""


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def refusal(node: fx.Node, why: str, module: nn.Module | None = None) -> InputError:
    what = f"{type(module).__name__} '{node.target}'" if module is not None else f"'{node.name}' ({node.target})"
    where = f" at {line}" if (line := _user_line(node.stack_trace)) else ""
    return InputError(f"{what}{where}: {why}")


def _user_line(stack: str | None) -> str:
    lines = [line.strip() for line in (stack or "").splitlines() if line.strip().startswith("File ")]
    return lines[-1].removeprefix("File ").split(", in ")[0] if lines else ""


def _pool(node: fx.Node, kernel: Any, stride: Any, pad: Any, ceil: bool, dilation: Any = 1) -> dict[str, Any]:
    if ceil or _pair(dilation) != (1, 1):
        raise refusal(node, "pools with ceil_mode or dilation are not deployable; use a plain pool")
    rows, cols = _pair(pad)
    return {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "pad": (rows, cols, rows, cols)}


def _global(node: fx.Node, size: Any, source: tuple[int, ...]) -> dict[str, Any]:
    target = _pair(size) if size is not None else (1, 1)
    if target[0] == 0 or source[1] % target[0] or source[2] % target[1]:
        raise refusal(node, f"adaptive pooling of {source[1:]} to {target} is not an even window; use AvgPool2d")
    window = (source[1] // target[0], source[2] // target[1])
    return {"kernel": window, "stride": window, "pad": (0, 0, 0, 0)}


def of_module(node: fx.Node, module: nn.Module, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """(op, attrs) of a call_module node; '' for one that does nothing at inference."""
    match module:
        case nn.Conv2d():
            if module.padding_mode != "zeros" or isinstance(module.padding, str):
                raise refusal(node, "only zero padding given in numbers is deployable", module)
            return "conv", {}
        case nn.Linear():
            return "linear", {}
        case nn.BatchNorm2d():
            if not module.affine or not module.track_running_stats:
                raise refusal(node, "a batch norm needs affine=True and track_running_stats=True", module)
            return "bn", {}
        case nn.ReLU():
            return "act", {"high": float("inf")}
        case nn.ReLU6():
            return "act", {"high": 6.0}
        case nn.GELU():
            return "unary", {"fn": "gelu" if module.approximate == "none" else "gelu_tanh"}
        case nn.Hardswish() | nn.Hardsigmoid() | nn.SiLU() | nn.Sigmoid() | nn.Tanh():
            return "unary", {"fn": type(module).__name__.lower()}
        case nn.MaxPool2d():
            return "max_pool", _pool(
                node, module.kernel_size, module.stride, module.padding, module.ceil_mode, module.dilation
            )
        case nn.AvgPool2d():
            if _pair(module.padding) != (0, 0):
                raise refusal(node, "average pools with padding are not deployable", module)
            return "avg_pool", _pool(node, module.kernel_size, module.stride, 0, module.ceil_mode)
        case nn.AdaptiveAvgPool2d():
            return "avg_pool", _global(node, module.output_size, source)
        case nn.Flatten():
            return "flatten", {}
        case nn.ZeroPad2d():
            left, right, top, bottom = module.padding
            return "pad", {"pad": (top, left, bottom, right)}
        case nn.Dropout() | nn.Dropout2d() | nn.Identity():
            return "", {}
    raise refusal(node, "no deployable operator; replace it, or keep it out of the model given to from_model", module)


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _pad_call(node: fx.Node) -> tuple[str, dict[str, Any]]:
    pad = [int(p) for p in _argument(node, 1, "pad")]
    if _argument(node, 2, "mode", "constant") != "constant" or _argument(node, 3, "value", 0) not in (0, None):
        raise refusal(node, "only padding with zeros is deployable")
    pad += [0] * (6 - len(pad))
    left, right, top, bottom, before, after = pad[:6]
    if len(pad) > 6 or ((before or after) and any(pad[:4])):
        raise refusal(node, "pad either the image or the channels, in two calls")
    if before or after:
        return "channel_pad", {"before": before, "after": after}
    return "pad", {"pad": (top, left, bottom, right)}


def _slice_call(node: fx.Node) -> tuple[str, dict[str, Any]]:
    index: Any = node.args[1]
    full = slice(None, None, None)
    if not isinstance(index, tuple) or len(index) != 4 or index[0] != full or index[1] != full:
        raise refusal(node, "only strided slices of rows and columns x[:, :, ::s, ::s] are deployable")
    if any(not isinstance(i, slice) or i.start or i.stop for i in index[2:]):
        raise refusal(node, "only strided slices of rows and columns x[:, :, ::s, ::s] are deployable")
    return "stride", {"stride": (index[2].step or 1, index[3].step or 1)}


def _mean_call(node: fx.Node, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    dims = _argument(node, 1, "dim")
    if not isinstance(dims, (tuple, list)) or sorted(d % 4 for d in dims) != [2, 3]:
        raise refusal(node, "only the mean over rows and columns, mean((2, 3)), is deployable")
    return "avg_pool", {"kernel": source[1:], "stride": source[1:], "pad": (0, 0, 0, 0)}


def of_call(node: fx.Node, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """(op, attrs) of a call_function or call_method node."""
    target = node.target
    if target in (F.relu, torch.relu, torch.relu_, "relu", "relu_"):
        return "act", {"high": float("inf")}
    if target is F.relu6:
        return "act", {"high": 6.0}
    if target in FUNCTIONS:
        return "unary", {"fn": FUNCTIONS[target]}
    if target is F.gelu:
        return "unary", {"fn": "gelu" if _argument(node, 1, "approximate", "none") == "none" else "gelu_tanh"}
    if target in (operator.add, operator.iadd, torch.add, "add", "add_"):
        return "add", {}
    if target in (operator.mul, operator.imul, torch.mul, "mul", "mul_"):
        return "mul", {}
    if target in (torch.flatten, "flatten", "view", "reshape"):
        return "flatten", {}
    if target in (F.dropout, "contiguous"):
        return "", {}
    if target is F.pad:
        return _pad_call(node)
    if target is operator.getitem:
        return _slice_call(node)
    if target in (torch.mean, "mean"):
        return _mean_call(node, source)
    if target is F.adaptive_avg_pool2d:
        return "avg_pool", _global(node, _argument(node, 1, "output_size"), source)
    if target is F.avg_pool2d:
        if _pair(_argument(node, 3, "padding", 0)) != (0, 0):
            raise refusal(node, "average pools with padding are not deployable")
        return "avg_pool", _pool(node, _argument(node, 1, "kernel_size"), _argument(node, 2, "stride"), 0, False)
    if target in (F.max_pool2d, torch.max_pool2d):
        arguments = [_argument(node, i, n) for i, n in enumerate(("kernel_size", "stride", "padding", "dilation"), 1)]
        return "max_pool", _pool(
            node, arguments[0], arguments[1], arguments[2] or 0, bool(node.kwargs.get("ceil_mode")), arguments[3] or 1
        )
    raise refusal(node, "no deployable operator; replace it, or keep it out of the model given to from_model")
