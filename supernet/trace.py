"""A user's model as a flat list of primitive operators with shapes, by torch.fx.

Only what a deployed network can hold survives: convolutions, batch norms, activations, linear layers, adds, products,
pools, spatial and channel zero pads, strided slices, flattens. Dropout and identities vanish. The candidates of a
MixedOp are traced one after the other and joined by a `mix`. Anything else is an error that names the module and the
way out, never a silent zero cost.
"""

from __future__ import annotations

import contextlib
import io
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lut.errors import InputError

from .mixed import Block, MixedOp, block_of
from .vocabulary import of_call, of_module, refusal


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
            raise refusal(node, "several tensors at once are not deployable")
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
                    raise refusal(node, "the module is used twice; give each use its own weights", module)
                seen[name] = alias[node.name] = name
                made = _candidates(name, module, inputs[0], example.new_zeros(1, *make(tensors[0])))
                ops.update((raw.name, raw) for raw in made)
                continue
            op, attrs = of_module(node, module, make(tensors[0]))
            if op in ("conv", "linear", "bn"):
                name = str(node.target)
                if name in seen:
                    raise refusal(node, "the module is used twice; give each use its own weights", module)
                seen[name] = node.name
        elif node.op in ("call_function", "call_method"):
            if not tensors:
                raise refusal(node, "an operator without a tensor input is not deployable")
            op, attrs = of_call(node, make(tensors[0]))
            if op in ("add", "mul") and len(inputs) != 2:
                word = "sum" if op == "add" else "product"
                raise refusal(node, f"only the {word} of two tensors is deployable; fold a constant into the weights")
        else:
            raise refusal(node, "a free parameter or buffer in forward is not deployable; use a layer")
        if op in ("", "flatten") and (op == "" or len(make(tensors[0])) == 1):
            alias[node.name] = inputs[0]
            continue
        if op == "flatten" and len(make(node)) != 1:
            raise refusal(node, "only a flatten of all but the batch is deployable")
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
