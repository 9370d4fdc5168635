"""A user's model as a flat list of primitive operators with shapes, by torch.fx.

Only what a deployed network can hold survives: convolutions, batch norms, activations, linear layers, adds, products,
pools, spatial and channel zero pads, strided slices, flattens. Dropout and identities vanish. The candidates of a
MixedOp are traced one after the other and joined by a `mix`. Anything else is an error that names the module and the
way out, never a silent zero cost.
"""

from __future__ import annotations

import contextlib
import io
import operator
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lut.errors import InputError

from .mixed import Block, MixedOp, block_of


@dataclass
class RawOp:
    """One primitive. op: conv bn act unary linear add mul avg_pool max_pool pad channel_pad stride flatten mix input.

    attrs: act {'high': float}; unary {'fn': name}; pools {'kernel','stride','pad'}; pad {'pad': (t,l,b,r)}; channel_pad
    {'before','after'}; stride {'stride': (rows, cols)}. shape: of the output without the batch, (C, H, W) or (F,).
    when: the (mix, candidate) pairs under which it exists, outermost first. block: the block that it is a layer of.
    """

    name: str
    op: str
    inputs: list[str]
    shape: tuple[int, ...]
    module: nn.Module | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    when: tuple[tuple[str, int], ...] = ()
    block: Block | None = None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, MixedOp) or super().is_leaf_module(m, module_qualified_name)


FUNCTIONS = {
    F.hardswish: "hardswish", F.hardsigmoid: "hardsigmoid", F.silu: "silu", F.sigmoid: "sigmoid", F.tanh: "tanh",
    torch.sigmoid: "sigmoid", torch.tanh: "tanh", "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip
"""What people call in forward -> a name of unary.UNARY."""


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _skip(node: fx.Node, why: str, module: nn.Module | None = None) -> InputError:
    what = f"{type(module).__name__} '{node.target}'" if module is not None else f"'{node.name}' ({node.target})"
    where = f" at {line}" if (line := _user_line(node.stack_trace)) else ""
    return InputError(f"{what}{where}: {why}")


def _user_line(stack: str | None) -> str:
    lines = [line.strip() for line in (stack or "").splitlines() if line.strip().startswith("File ")]
    return lines[-1].removeprefix("File ").split(", in ")[0] if lines else ""


def _pool(node: fx.Node, kernel: Any, stride: Any, pad: Any, ceil: bool, dilation: Any = 1) -> dict[str, Any]:
    if ceil or _pair(dilation) != (1, 1):
        raise _skip(node, "pools with ceil_mode or dilation are not deployable; use a plain pool")
    rows, cols = _pair(pad)
    return {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "pad": (rows, cols, rows, cols)}


def _global(node: fx.Node, size: Any, source: tuple[int, ...]) -> dict[str, Any]:
    target = _pair(size) if size is not None else (1, 1)
    if target[0] == 0 or source[1] % target[0] or source[2] % target[1]:
        raise _skip(node, f"adaptive pooling of {source[1:]} to {target} is not an even window; use AvgPool2d")
    window = (source[1] // target[0], source[2] // target[1])
    return {"kernel": window, "stride": window, "pad": (0, 0, 0, 0)}


def _module(node: fx.Node, module: nn.Module, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """(op, attrs) of a call_module node; '' for one that does nothing at inference."""
    match module:
        case nn.Conv2d():
            if module.padding_mode != "zeros" or isinstance(module.padding, str):
                raise _skip(node, "only zero padding given in numbers is deployable", module)
            return "conv", {}
        case nn.Linear():
            return "linear", {}
        case nn.BatchNorm2d():
            if not module.affine or not module.track_running_stats:
                raise _skip(node, "a batch norm needs affine=True and track_running_stats=True", module)
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
                raise _skip(node, "average pools with padding are not deployable", module)
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
    raise _skip(node, "no deployable operator; replace it, or keep it out of the model given to from_model", module)


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _pad_call(node: fx.Node) -> tuple[str, dict[str, Any]]:
    pad = [int(p) for p in _argument(node, 1, "pad")]
    if _argument(node, 2, "mode", "constant") != "constant" or _argument(node, 3, "value", 0) not in (0, None):
        raise _skip(node, "only padding with zeros is deployable")
    pad += [0] * (6 - len(pad))
    left, right, top, bottom, before, after = pad[:6]
    if len(pad) > 6 or ((before or after) and any(pad[:4])):
        raise _skip(node, "pad either the image or the channels, in two calls")
    if before or after:
        return "channel_pad", {"before": before, "after": after}
    return "pad", {"pad": (top, left, bottom, right)}


def _slice_call(node: fx.Node) -> tuple[str, dict[str, Any]]:
    index: Any = node.args[1]
    full = slice(None, None, None)
    if not isinstance(index, tuple) or len(index) != 4 or index[0] != full or index[1] != full:
        raise _skip(node, "only strided slices of rows and columns x[:, :, ::s, ::s] are deployable")
    if any(not isinstance(i, slice) or i.start or i.stop for i in index[2:]):
        raise _skip(node, "only strided slices of rows and columns x[:, :, ::s, ::s] are deployable")
    return "stride", {"stride": (index[2].step or 1, index[3].step or 1)}


def _mean_call(node: fx.Node, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    dims = _argument(node, 1, "dim")
    if not isinstance(dims, (tuple, list)) or sorted(d % 4 for d in dims) != [2, 3]:
        raise _skip(node, "only the mean over rows and columns, mean((2, 3)), is deployable")
    return "avg_pool", {"kernel": source[1:], "stride": source[1:], "pad": (0, 0, 0, 0)}


def _call(node: fx.Node, source: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
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
            raise _skip(node, "average pools with padding are not deployable")
        return "avg_pool", _pool(node, _argument(node, 1, "kernel_size"), _argument(node, 2, "stride"), 0, False)
    if target in (F.max_pool2d, torch.max_pool2d):
        arguments = [_argument(node, i, n) for i, n in enumerate(("kernel_size", "stride", "padding", "dilation"), 1)]
        return "max_pool", _pool(
            node, arguments[0], arguments[1], arguments[2] or 0, bool(node.kwargs.get("ceil_mode")), arguments[3] or 1
        )
    raise _skip(node, "no deployable operator; replace it, or keep it out of the model given to from_model")


def trace(model: nn.Module, example: Tensor) -> list[RawOp]:
    """Primitive operators of `model` in execution order; `example` is one batch (n, C, H, W) of float input.

    The last element is the output's producer. Raises InputError for control flow that depends on data, for a shape
    that does not fit, and for an operator that can't be deployed.
    """
    if example.dim() != 4:
        raise InputError(f"example input: shape {tuple(example.shape)}; expected (batch, channels, height, width)")
    try:
        graph_module = fx.GraphModule(model, _Tracer().trace(model))
    except fx.proxy.TraceError as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename.split("/")]
        where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
        raise InputError(
            f"{where}{type(model).__name__}: control flow that depends on the data ({error}); "
            "decide it outside forward, by a constructor argument"
        ) from error
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # ShapeProp prints what it raises
            ShapeProp(graph_module).propagate(example[:1].contiguous())
    except RuntimeError as error:
        raise InputError(
            f"{type(model).__name__}: an input of shape {tuple(example.shape)} does not fit: {_reason(error)}"
        ) from error
    finally:
        model.train(was_training)
    return _collect(graph_module, model, example)


def _reason(error: RuntimeError) -> str:
    """The message of what failed inside ShapeProp, without its traces."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0]


def _collect(graph_module: fx.GraphModule, model: nn.Module, example: Tensor) -> list[RawOp]:
    ops: dict[str, RawOp] = {}
    alias: dict[str, str] = {}  # nodes that vanish -> the one they pass on
    seen: dict[str, str] = {}
    result = ""
    make: Callable[[fx.Node], tuple[int, ...]] = lambda n: tuple(n.meta["tensor_meta"].shape[1:])  # noqa: E731
    for node in graph_module.graph.nodes:
        if node.op == "output":
            output = node.args[0]
            if not isinstance(output, fx.Node):
                raise InputError("the model returns several outputs; from_model takes networks with one")
            result = alias.get(output.name, output.name)
            continue
        if "tensor_meta" not in node.meta:  # sizes, for views
            continue
        if not isinstance(getattr(node.meta["tensor_meta"], "shape", None), torch.Size):
            raise _skip(node, "several tensors at once are not deployable")
        tensors = [a for a in node.args if isinstance(a, fx.Node) and "tensor_meta" in a.meta]
        inputs = [alias.get(a.name, a.name) for a in tensors]
        module, name = None, node.name
        op, attrs = "", dict[str, Any]()
        if node.op == "placeholder":
            if ops:
                raise InputError(f"the model takes several inputs ({node.name}); from_model takes networks with one")
            op = "input"
        elif node.op == "call_module":
            module = graph_module.get_submodule(str(node.target))
            if isinstance(module, MixedOp):
                name = str(node.target)
                if name in seen:
                    raise _skip(node, "the module is used twice; give each use its own weights", module)
                seen[name] = alias[node.name] = name
                made = _candidates(name, module, inputs[0], example.new_zeros(1, *make(tensors[0])))
                ops.update((raw.name, raw) for raw in made)
                continue
            op, attrs = _module(node, module, make(tensors[0]))
            if op in ("conv", "linear", "bn"):
                name = str(node.target)
                if name in seen:
                    raise _skip(node, "the module is used twice; give each use its own weights", module)
                seen[name] = node.name
        elif node.op in ("call_function", "call_method"):
            if not tensors:
                raise _skip(node, "an operator without a tensor input is not deployable")
            op, attrs = _call(node, make(tensors[0]))
            if op in ("add", "mul") and len(inputs) != 2:
                word = "sum" if op == "add" else "product"
                raise _skip(node, f"only the {word} of two tensors is deployable; fold a constant into the weights")
        else:
            raise _skip(node, "a free parameter or buffer in forward is not deployable; use a layer")
        if op in ("", "flatten") and (op == "" or len(make(tensors[0])) == 1):
            alias[node.name] = inputs[0]
            continue
        if op == "flatten" and len(make(node)) != 1:
            raise _skip(node, "only a flatten of all but the batch is deployable")
        ops[name] = RawOp(name, op, inputs, make(node), module, attrs, block=_block(node, model))
        if name != node.name:
            alias[node.name] = name
    if result not in ops:
        raise InputError("the model returns its input")
    return _needed(ops, result)


def _block(node: fx.Node, root: nn.Module) -> Block | None:
    """The outermost module around an operator that describes itself as a block."""
    for path, _ in node.meta.get("nn_module_stack", {}).values():
        if path and (found := block_of(root.get_submodule(path), path)) is not None:
            return found
    return None


def _candidates(name: str, mixed: MixedOp, source: str, example: Tensor) -> list[RawOp]:
    """The primitives of every candidate, reading `source`, and the `mix` that joins them."""
    ops: list[RawOp] = []
    ends: list[str] = []
    for i, candidate in enumerate(mixed.candidates):
        path = f"{name}.candidates.{i}"
        if isinstance(candidate, nn.Identity):
            ends.append(source)
            continue
        try:
            first, *inner = trace(nn.Sequential(candidate).train(candidate.training), example)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        renamed = {raw.name: _inside(path, raw.name) for raw in inner} | {first.name: source}
        for raw in inner:
            raw.name, raw.inputs = renamed[raw.name], [renamed[i] for i in raw.inputs]
            raw.when = ((name, i), *((_inside(path, mix), at) for mix, at in raw.when))
            raw.block = raw.block and replace(raw.block, name=_inside(path, raw.block.name))
        ops += inner
        ends.append(inner[-1].name)
    shapes = {raw.name: raw.shape for raw in ops} | {source: tuple(example.shape[1:])}
    if len({shapes[end] for end in ends}) > 1:
        each = ", ".join("x".join(map(str, shapes[end])) for end in ends)
        raise InputError(f"MixedOp '{name}': candidates of one edge must agree in their output's shape: {each}")
    return [*ops, RawOp(name, "mix", ends, shapes[ends[0]])]


def _inside(path: str, name: str) -> str:
    """A name in nn.Sequential(candidate) as one below the candidate's path."""
    return path + name[1:] if name == "0" or name.startswith("0.") else f"{path}.{name}"


def _needed(ops: dict[str, RawOp], result: str) -> list[RawOp]:
    """What the result depends on, in order, the result last."""
    needed = {result}
    for raw in reversed(list(ops.values())):
        if raw.name in needed:
            needed.update(raw.inputs)
    kept = [raw for raw in ops.values() if raw.name in needed]
    return sorted(kept, key=lambda raw: raw.name == result)
