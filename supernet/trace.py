"""A user's model as a flat list of primitive operators with shapes, by torch.fx.

Only what a deployed network can hold survives; dropout, stochastic depth and identities vanish, because the model is
traced as it is at inference. Anything else is an error that names the module, the line and the way out, never a silent
zero cost.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lut.errors import InputError

from .collect import BATCH, Collector
from .mixed import MixedOp
from .norms import channel_norm
from .primitives import RawOp
from .register import functions, handler_of


class _Proxy(fx.Proxy):
    def __len__(self) -> int:  # fx raises RuntimeError, which list() lets through where it would go on without a length
        raise TypeError("the length of a tensor or of several is not known while a model is traced")


class _Tracer(fx.Tracer):
    """Leaves: torch's modules, and those that are known as a whole."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(autowrap_functions=functions())
        self.record_stack_traces = True
        self.known = {m for m in model.modules() if isinstance(m, MixedOp) or handler_of(m) or channel_norm(m)}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.known or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The parts of `x.chunk(n)`, whose number is known here."""
        count = obj.node.args[1] if len(obj.node.args) > 1 else obj.node.kwargs.get("chunks")
        if obj.node.target not in (torch.chunk, "chunk") or not isinstance(count, int):
            return super().iter(obj)
        return iter([obj[i] for i in range(count)])  # type: ignore[index]


class _Propagate(ShapeProp):
    """Shapes, and in meta['value'] what does not depend on the image: sizes, parameters and what is made of them."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        fixed = all("value" in source.meta for source in n.all_input_nodes)
        if not _holds_tensor(result) or (fixed and n.op not in ("placeholder", "call_module")):
            n.meta["value"] = result
        return result


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(map(_holds_tensor, value)))


@contextlib.contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module's own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def trace(model: nn.Module, example: Tensor) -> list[RawOp]:
    """Primitive operators of `model` in execution order; `example` is one batch (n, C, H, W) of float input.

    The last element is the output's producer. Raises InputError for control flow that depends on data, for a shape
    that does not fit, and for an operator that can't be deployed.
    """
    if example.dim() != 4:
        raise InputError(f"example input: shape {tuple(example.shape)}; expected (batch, channels, height, width)")
    with _inference(model):
        graph_module = _graph(model)
        try:
            with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # ShapeProp prints what it raises
                _Propagate(graph_module).propagate(example[:1].repeat(BATCH, 1, 1, 1))
        except RuntimeError as error:
            raise InputError(
                f"{type(model).__name__}: an input of shape {tuple(example.shape)} does not fit: {_reason(error)}"
            ) from error
        return Collector(graph_module, model, trace).run()


def _graph(model: nn.Module) -> fx.GraphModule:
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in others if p.default is not inspect.Parameter.empty}
    try:
        return fx.GraphModule(model, _Tracer(model).trace(model, defaults))
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename.split("/")]
        where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
        raise InputError(
            f"{where}{type(model).__name__}: control flow that depends on the data ({error}); "
            "decide it outside forward, by a constructor argument, or register the module around it "
            "(supernet.register_op)"
        ) from error


def _reason(error: RuntimeError) -> str:
    """The message of what failed inside ShapeProp, without its traces."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0]
