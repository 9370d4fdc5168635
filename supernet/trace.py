"""A user's model as a flat list of primitive operators with shapes, by torch.fx.

Only what a deployed network can hold survives; dropout, stochastic depth and identities vanish, because the model is
traced as it is at inference. Anything else is an error that names the module, the line and the way out, never a silent
zero cost.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from lut.errors import InputError

from .collect import BATCH, Collector
from .inplace import Watch, tensors, threaded
from .primitives import Traced, innermost, user_line
from .tracer import Tracer, without_hooks

ABOUT_SHAPES = re.compile(r"shape|size|dimension|channel|must match", re.IGNORECASE)
"""Words of torch's errors about an input that does not fit."""


class _Propagate(fx.Interpreter):
    """In meta['shape'] the shapes of tensors, in the structure that they come in, and in meta['value'] what does not
    depend on the image: sizes, parameters and what is made of them."""

    def __init__(self, graph: fx.GraphModule, failed: Callable[[str, BaseException], InputError]) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.failed = failed

    def run_node(self, n: fx.Node) -> Any:
        watch = Watch({source: self.env[source] for source in n.all_input_nodes})
        try:
            result = super().run_node(n)
        except Exception as error:
            raise self.failed(user_line(n), error) from error
        if held := any(True for _ in tensors(result)):
            n.meta["shape"] = fx.node.map_aggregate(result, lambda v: v.shape if isinstance(v, Tensor) else v)
        fixed = all("value" in source.meta for source in n.all_input_nodes)
        if not held or (fixed and n.op not in ("placeholder", "call_module")):
            n.meta["value"] = result
        else:
            watch.note(n, result)
        return result


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; every module's own mode and buffers again outside."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(m, name, b, b.clone()) for m in modes for name, b in m._buffers.items() if b is not None]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, value):
                buffer.data.copy_(value)


def trace(model: nn.Module, example: Tensor) -> Traced:
    """Primitive operators of `model` in execution order; `example` is one batch (n, C, H, W) of float input.

    Raises InputError for control flow that depends on data, for a shape
    that does not fit, and for an operator that can't be deployed.
    """
    if example.dim() != 4 or 0 in example.shape:
        raise InputError(f"example input: shape {tuple(example.shape)}; expected (batch, channels, height, width)")
    batch = example[:1].repeat(BATCH, 1, 1, 1)

    def failed(line: str, error: BaseException) -> InputError:
        where, name, shape = f"{line}: " if line else "", type(model).__name__, tuple(example.shape)
        what = (str(error).strip() or "without a message").splitlines()[0]
        if isinstance(error, RuntimeError) and ABOUT_SHAPES.search(what):
            return InputError(f"{where}{name}: an input of shape {shape} does not fit: {what}")
        return InputError(f"{where}{name}: forward raised {type(error).__name__} for an input {shape}: {what}")

    with inference(model):
        graph = _graph(model, batch, failed)
        _positional(graph)
        _Propagate(graph, failed).run(batch)
        threaded(graph.graph)
        return Collector(graph, model, trace, example.dtype).run()


def _graph(model: nn.Module, batch: Tensor, failed: Callable[[str, BaseException], InputError]) -> fx.GraphModule:
    defaults = _defaults(model)
    without_hooks(model, type(model).__name__)
    try:
        tracer = Tracer(model, batch)
        graph = fx.GraphModule(model, tracer.trace(model, defaults))
        graph.meta["containers"] = tracer.containers
        return graph
    except InputError:
        raise
    except Exception as error:
        frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
        where = innermost(frames)
        if not isinstance(error, (fx.proxy.TraceError, TypeError)):
            raise failed(where, error) from error
        raise InputError(
            f"{where}{': ' if where else ''}{type(model).__name__}: forward can't be traced ({error}); decide control "
            "flow that depends on the data outside of it, by a constructor argument, or register the module "
            "(supernet.register_op)"
        ) from error


def _defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments of forward beside the image. Raises InputError where they have none."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if not parameters or parameters[0].kind in free:
        given = ", ".join(map(str, parameters))
        raise InputError(f"{type(model).__name__}: forward({given}); expected one tensor as its first argument")
    others = [p for p in parameters[1:] if p.kind not in free]
    if needed := [p.name for p in others if p.default is inspect.Parameter.empty]:
        given = ", ".join([parameters[0].name, *needed])
        raise InputError(f"the model takes several inputs ({given}); from_model takes networks with one")
    return {p.name: p.default for p in others}


def _positional(graph: fx.GraphModule) -> None:
    """What a call reads first is its first argument, also where it was given by name."""
    for node in graph.graph.nodes:
        if node.args or not node.kwargs or node.op not in ("call_function", "call_module"):
            continue
        called = graph.get_submodule(str(node.target)).forward if node.op == "call_module" else node.target
        try:
            word = next(iter(inspect.signature(called).parameters), "")
        except (TypeError, ValueError):  # of torch's own functions
            word = ""
        word = next((name for name in (word, "input", "tensors") if name in node.kwargs), "")
        if word:
            node.args = (node.kwargs[word],)
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != word}
