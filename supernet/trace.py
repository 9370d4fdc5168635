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
from .primitives import Traced
from .tracer import Tracer


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


def trace(model: nn.Module, example: Tensor) -> Traced:
    """Primitive operators of `model` in execution order; `example` is one batch (n, C, H, W) of float input.

    Raises InputError for control flow that depends on data, for a shape
    that does not fit, and for an operator that can't be deployed.
    """
    if example.dim() != 4:
        raise InputError(f"example input: shape {tuple(example.shape)}; expected (batch, channels, height, width)")
    batch = example[:1].repeat(BATCH, 1, 1, 1)
    with _inference(model), torch.no_grad():
        try:
            graph_module = _graph(model, batch)
            with contextlib.redirect_stderr(io.StringIO()):  # ShapeProp prints what it raises
                _Propagate(graph_module).propagate(batch)
        except RuntimeError as error:
            raise InputError(
                f"{type(model).__name__}: an input of shape {tuple(example.shape)} does not fit: {_reason(error)}"
            ) from error
        return Collector(graph_module, model, trace, example.dtype).run()


def _graph(model: nn.Module, batch: Tensor) -> fx.GraphModule:
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in others if p.default is not inspect.Parameter.empty}
    try:
        return fx.GraphModule(model, Tracer(model, batch).trace(model, defaults))
    except (fx.proxy.TraceError, TypeError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename.split("/")]
        where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
        raise InputError(
            f"{where}{type(model).__name__}: forward can't be traced ({error}); decide control flow that depends on "
            "the data outside of it, by a constructor argument, or register the module (supernet.register_op)"
        ) from error


def _reason(error: RuntimeError) -> str:
    """The message of what failed inside ShapeProp, without its traces."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0]
