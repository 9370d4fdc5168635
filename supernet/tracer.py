"""torch.fx, with what a plain model needs of it beyond tracing: sizes are known.

What a forward asks of sizes (an assertion, `if x.shape[2] % 2`, `for part in x.chunk(n)`) is answered for the example
image, by running what was traced so far. What it asks of values is control flow that depends on the data, and an error.
"""

from __future__ import annotations

import operator
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from lut.errors import InputError

from .containers import Container, opened
from .mixed import MixedOp
from .norms import channel_norm
from .primitives import USER_LINE, at, innermost
from .register import functions, handler_of

READS_VALUES = frozenset({"item", "tolist", "__bool__", "is_nonzero", "equal", torch.equal, torch.allclose, "allclose"})
REGISTERED = "make layers attributes of a module, or keep them in nn.ModuleList, nn.ModuleDict or nn.Sequential"


def _in_place(function: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    """x += y and its like change x; torch.fx alone would make a new tensor of them."""
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


@contextmanager
def _zeros_of_sizes() -> Iterator[None]:
    """torch.zeros takes numbers alone; inside, it is recorded where one of them is a size that is traced."""
    zeros = torch.zeros

    def record(*args: Any, **kwargs: Any) -> Any:
        traced: list[fx.Proxy] = []
        fx.node.map_aggregate((args, kwargs), lambda a: traced.append(a) if isinstance(a, fx.Proxy) else None)
        return traced[0].tracer.create_proxy("call_function", zeros, args, kwargs) if traced else zeros(*args, **kwargs)

    torch.zeros = record
    try:
        yield
    finally:
        torch.zeros = zeros


class _Proxy(fx.Proxy):
    __iadd__, __isub__ = _in_place(operator.iadd), _in_place(operator.isub)
    __imul__, __itruediv__ = _in_place(operator.imul), _in_place(operator.itruediv)

    def __len__(self) -> int:
        return len(self.tracer.several(self))  # type: ignore[attr-defined]

    def __index__(self) -> int:
        return self.tracer.number(self).__index__()  # type: ignore[attr-defined, no-any-return]

    def __int__(self) -> int:
        return int(self.tracer.number(self))  # type: ignore[attr-defined]


class Tracer(fx.Tracer):
    """Leaves are torch's modules, subclasses that keep their forward, and what is known as a whole."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__(autowrap_functions=functions())
        self.inside = set(model.modules())
        self.own = {id(parameter) for parameter in model.parameters()}
        self.known = {m for m in self.inside if isinstance(m, MixedOp) or handler_of(m) or channel_norm(m)}
        self.example = example
        self.values: dict[fx.Node, Any] = {}
        self.running = False
        self.containers: list[tuple[str | Container, tuple[Any, ...]]] = []

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with _zeros_of_sizes():
            return super().trace(root, concrete_args)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m in self.known:
            return True
        if isinstance(m, nn.Sequential) or {"forward", "_conv_forward"} & vars(m).keys():
            return False
        steps = [getattr(type(m), name) for name in ("forward", "_conv_forward") if hasattr(type(m), name)]
        return all(str(step.__module__).startswith(("torch.nn.", "torch.ao.")) for step in steps)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.number(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(self.several(obj)))])  # type: ignore[index]

    def number(self, obj: fx.Proxy) -> Any:
        """What an expression of sizes is. Raises fx.proxy.TraceError for one of the tensor's values."""
        value = self._value(obj.node)
        if isinstance(value, Tensor):
            raise fx.proxy.TraceError("a tensor's value decides")
        return value

    def several(self, obj: fx.Proxy) -> Any:
        """Sizes, or the parts of a tensor. Raises fx.proxy.TraceError for a tensor itself."""
        value = self._value(obj.node)
        if not isinstance(value, (tuple, list)):
            raise fx.proxy.TraceError("the images of a batch, or the channels of one, are taken one by one")
        return value

    def _value(self, node: fx.Node) -> Any:
        """A node's value for the example."""
        if node in self.values:
            return self.values[node]
        if node.target in READS_VALUES:
            raise fx.proxy.TraceError("a tensor's value decides")
        args = fx.node.map_arg(node.args, self._value)
        kwargs = fx.node.map_arg(node.kwargs, self._value)
        self.running = True
        try:
            self.values[node] = self._run(node, args, kwargs)
        finally:
            self.running = False
        return self.values[node]

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        match node.op:
            case "placeholder":
                return self.example
            case "get_attr":
                return reduce(getattr, str(node.target).split("."), self.root)
            case "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A module that is none of the model's is looked into, as what has no weights can be."""
        if self.running:
            return forward(*args, **kwargs)
        if m not in self.inside:
            if any(True for _ in m.parameters(recurse=False)):
                raise _refusal(type(m).__name__, f"its weights are none of the model's; {REGISTERED}")
            return forward(*args, **kwargs)
        if self.is_leaf_module(m, ""):
            without_hooks(m, f"{type(m).__name__} '{self.path_of_module(m)}'")
        return super().call_module(m, forward, args, kwargs)

    def create_arg(self, a: Any) -> Any:
        if type(a) is nn.Parameter and id(a) not in self.own:
            raise _refusal("forward", f"it reads a parameter that is none of the model's; {REGISTERED}")
        if (found := opened(a)) is not None and found.kind not in ("tuple", "list", "dict"):  # which are kept as such
            position = len(self.containers)
            self.containers.append((found.kind, found.keys))
            items = tuple(map(self.create_arg, found.items))
            return self.create_node("call_function", joined, (position, *items), {})
        return super().create_arg(a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """With the user's line that makes it; torch's own record of it imports its compiler first, for seconds."""
        node = super().create_node(*args, **kwargs)
        node.meta[USER_LINE] = innermost(_frames())
        return node

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)


def joined(position: int, *items: Any) -> tuple[Any, ...]:
    """Stands in a graph for a structure, the one at `position` of Tracer.containers."""
    return items


def without_hooks(module: nn.Module, name: str) -> None:
    """Raises InputError for a module whose call is more than its forward; torch's own hooks compute weights."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    if any(not str(getattr(hook, "__module__", "")).startswith("torch.") for hook in hooks):
        raise _refusal(name, "it has forward hooks, which a traced call does not run; remove them, or write what they "
                       "compute into forward")  # fmt: skip


def _refusal(what: str, why: str) -> InputError:
    """The error that names the line of forward that is traced now."""
    return InputError(f"{what}{at(innermost(_frames()))}: {why}")


def _frames() -> list[tuple[str, int]]:
    """(file, line) of the calls that lead here, outermost first."""
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(sys._getframe(1))][::-1]
