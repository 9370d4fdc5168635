"""The walk over a traced graph: every node becomes a primitive, a view of one, a constant, or an error.

A view is an operator's output with its axes in some order (`views.py`): permutes, reshapes and squeezes make no
operator.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn

from lut.errors import InputError

from . import views
from .calls import FAMILIES, reshape, softmax
from .containers import Opened, opened
from .frames import ONLY_ZEROS, padded
from .frozen import train_as
from .functional import FUNCTIONAL, plain
from .mixed import Block, MixedOp, block_of
from .norms import channel_norm, layer_norm_of
from .outputs import Form, form_of
from .primitives import RawOp, Shape, Traced, needed, refusal, user_line
from .register import checked, handler_of, is_exact
from .splice import Trace, candidates, spliced
from .tracer import joined
from .views import View
from .vocabulary import Call, of_call, of_module

Roots = tuple[Tensor, ...]
BATCH = 2
"""Images that shapes are found with: not one, or a squeeze would drop the batch."""


class Collector:
    """State of the walk. ops: primitives by name, in order; views: what the tensor of every fx node is; pieces: of the
    node of a split the whole, and (first channel, channels) of every part; zeros: nodes of zeros in a tensor's size;
    uses: how often a name was asked for; exact: whether all handlers used say that theirs compute the same."""

    def __init__(self, graph: fx.GraphModule, root: nn.Module, trace: Trace, dtype: torch.dtype):
        self.graph, self.root, self.trace = graph, root, trace
        self.ops: dict[str, RawOp] = {}
        self.views: dict[str, View] = {}
        self.pieces: dict[str, tuple[View, list[tuple[int, int]]]] = {}
        self.zeros: set[str] = set()
        self.uses: Counter[str] = Counter()
        self.names = _names(graph.graph, root)
        self.paths = {path for path, _ in root.named_modules()}
        self.dtype = dtype
        self.exact = True

    def run(self) -> Traced:
        for node in self.graph.graph.nodes:
            if node.op == "output":
                return self._outputs(node)
            if "value" not in node.meta:
                self._visit(node)
        raise AssertionError("no output")

    # What calls are given

    def view(self, node: Any, expanded: bool = False) -> View:
        found = self.views.get(node.name)
        if found is None:
            raise refusal(node, "it makes several tensors, or none of the image, where one is read; take one of them")
        if found.expanded and not expanded:
            raise refusal(node, "an expanded tensor may only be multiplied; use the smaller one")
        return found

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value.name in self.views

    def shape(self, view: View) -> Shape:
        return self.ops[view.op].shape

    def size(self, view: View) -> views.Sizes:
        return views.sizes(self.shape(view), BATCH, view.groups)

    def call(self, node: fx.Node) -> Call:
        """Arguments with values for what is constant."""
        args = fx.node.map_arg(node.args, lambda n: n.meta.get("value", n))
        kwargs = fx.node.map_arg(node.kwargs, lambda n: n.meta.get("value", n))
        first = next((n for n in node.all_input_nodes if n.name in self.views), None)
        out = tuple(shape[1:]) if isinstance(shape := node.meta.get("shape"), torch.Size) else ()
        source = self.shape(self.views[first.name]) if first is not None else (0, 0, 0)
        return Call(node, args, kwargs, source, (*out, 1, 1, 1)[:3])  # type: ignore[arg-type]

    # What calls make

    def emit(self, node: fx.Node, op: str, inputs: list[View], shape: Shape, axes: str = "nchw",
             module: nn.Module | None = None, name: str = "", roots: Roots = (), **attrs: Any) -> View:  # fmt: skip
        name = name or self.names[node]
        sources = [view.op for view in inputs]
        block, line = _block(node, self.root), user_line(node)
        self.ops[name] = RawOp(name, op, sources, shape, module, attrs, block=block, line=line, roots=roots)
        self.views[node.name] = View(name, axes, inputs[0].groups if "g" in axes else 1)
        return self.views[node.name]

    def alias(self, node: fx.Node, view: View) -> None:
        self.views[node.name] = view

    def use(self, name: str) -> str:
        """A module's path at its first use, `<path>.use2` at its second."""
        self.uses[name] += 1
        found = name if self.uses[name] == 1 else f"{name}.use{self.uses[name]}"
        while found != name and (found in self.ops or found in self.paths):
            found += "_"
        return found

    # The walk

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.emit(node, "input", [], tuple(node.meta["shape"][1:]))
            return
        if node.target is joined:
            return
        known = self.views.keys() | self.pieces.keys() | self.zeros
        sources = [n for n in node.all_input_nodes if n.name in known]
        if not sources:
            raise refusal(node, "an operator without a tensor input is not deployable")
        call = self.call(node)
        if node.op == "call_module":
            self._module(call, self.view(sources[0]))
        elif (handler := handler_of(node.target)) is not None:
            self.exact &= is_exact(node.target)
            answer = checked(handler(*call.args[1:], **call.kwargs), f"'{node.name}'")
            self._registered(call, self.view(sources[0]), answer, self.names[node])
        elif (family := (FAMILIES | FUNCTIONAL).get(node.target)) is not None:
            family(self, call)
        else:
            self._single(call, self.view(sources[0]), *of_call(call))

    def _module(self, call: Call, source: View) -> None:
        node = call.node
        module = self.graph.get_submodule(str(node.target))
        if isinstance(module, MixedOp):
            if (name := self.use(str(node.target))) != node.target:
                raise refusal(node, "a choice of operators is used twice; give each use its own", module)
            self.image(call, source)
            self._join(candidates(name, module, source.op, self._zeros(source), self._traced))
            self.views[node.name] = View(name)
        elif (handler := handler_of(module)) is not None:
            name = self.use(str(node.target)) if any(True for _ in module.parameters()) else self.names[node]
            self.exact &= is_exact(module)
            answer = checked(handler(module), f"{type(module).__name__} '{node.target}'")
            self._registered(call, source, answer, name)
        elif isinstance(module, (nn.Flatten, nn.Unflatten)):
            reshape(self, call)
        elif isinstance(module, (nn.Softmax, nn.Softmax2d)):
            softmax(self, call, getattr(module, "dim", -3), module)
        elif isinstance(module, nn.ConstantPad2d):
            if module.value != 0:
                raise call.refuse(ONLY_ZEROS, module)
            padded(self, call, source, list(module.padding))
        elif isinstance(module, nn.Linear):
            self.linear(call, source, plain(module), self.use(str(node.target)), _tensors(module))
        elif (norm := layer_norm_of(module) or channel_norm(module)) is not None:
            last = source.axes[-1] if layer_norm_of(module) is not None else source.axes[1:2]
            if last != "c" or norm.normalized_shape != (call.shape[0],):
                raise call.refuse("a layer norm must be over the channels; permute them to the end", module)
            name = self.use(str(node.target))
            self.emit(node, "layer_norm", [source], call.shape, source.axes, norm, name, _tensors(module))
        else:
            op, attrs = of_module(call, module)
            weighted = op in ("conv", "bn")
            layer = plain(module) if isinstance(module, nn.Conv2d) else module
            if weighted:
                roots = _tensors(module)
                self._single(call, source, op, attrs, layer, self.use(str(node.target)), roots)
            else:
                self._single(call, source, op, attrs)

    def linear(self, call: Call, source: View, module: nn.Linear, name: str, roots: Roots) -> None:
        """On vectors, or on every pixel of an image whose channels are last: a 1x1 convolution."""
        shape = self.shape(source)
        if source.axes in ("nc", "nf"):
            self.emit(call.node, "linear", [source], (module.out_features, 1, 1), "nc", module, name, roots)
            return
        if source.axes[-1] != "c":
            raise call.refuse("a linear layer reads vectors, or images with their channels last; flatten first")
        conv = nn.Conv2d(module.in_features, module.out_features, 1, bias=module.bias is not None)
        conv.weight = nn.Parameter(module.weight.detach()[:, :, None, None].clone())
        if module.bias is not None:
            conv.bias = nn.Parameter(module.bias.detach().clone())
        train_as(conv, module)
        out = (module.out_features, *shape[1:])
        self.emit(call.node, "conv", [source], out, source.axes, conv, name, roots, pad=(0, 0, 0, 0))

    def _single(self, call: Call, source: View, op: str, attrs: dict[str, Any], module: nn.Module | None = None,
                name: str = "", roots: Roots = ()) -> None:  # fmt: skip
        """An operator on one tensor."""
        if op == "":
            self.alias(call.node, source)
        elif op in ("act", "unary"):
            self.emit(call.node, op, [source], call.shape, source.axes, **attrs)
        elif op == "bn" and source.axes == "nc":
            self.emit(call.node, op, [source], call.shape, "nc", module, name, roots)
        else:
            self.image(call, source)
            if op == "avg_pool" and any(frame := attrs["pad"]):
                top, left, bottom, right = frame
                c, h, w = call.shape
                made = self.emit(call.node, "pad", [source], (c, h + top + bottom, w + left + right),
                                 name=f"{self.names[call.node]}.pad", pad=frame)  # fmt: skip
                source, attrs = made, attrs | {"pad": (0, 0, 0, 0)}
            self.emit(call.node, op, [source], call.out, "nchw", module, name, roots, **attrs)

    def image(self, call: Call, source: View) -> None:
        if source.axes != "nchw":
            raise call.refuse(f"it reads a tensor with the axes {source.axes}; expected images (n, c, h, w)")

    def _registered(self, call: Call, source: View, answer: Any, name: str) -> None:
        self.image(call, source)
        if isinstance(answer, nn.Module):
            made, end = spliced(name, answer, source.op, self._zeros(source), self._traced)
            self._join(made)
            self.views[call.node.name] = View(end)
            return
        op, attrs = answer
        if op == "split":
            self.emit(call.node, op, [source], (attrs["channels"], *call.shape[1:]), start=attrs["start"])
            return
        extra = {"avg_pool": {"pad": (0, 0, 0, 0), "dilation": (1, 1)}, "max_pool": {"dilation": (1, 1)}}
        self._single(call, source, "" if op == "identity" else op, extra.get(op, {}) | attrs)

    def _traced(self, module: nn.Module, example: Tensor) -> Traced:
        traced = self.trace(module, example)
        self.exact &= traced.exact
        return traced

    def _zeros(self, source: View) -> Tensor:
        return torch.zeros(1, *self.shape(source), dtype=self.dtype)

    def _join(self, made: list[RawOp]) -> None:
        self.ops.update((raw.name, raw) for raw in made)

    # The end

    def _outputs(self, node: fx.Node) -> Traced:
        tree, views = form_of(node.args[0], self._returned, self._contents)
        names = tuple(dict.fromkeys(view.op for view in views))
        form = Form(tree, tuple((names.index(view.op), view.axes) for view in views))
        return Traced(needed(list(self.ops.values()), names), names, form, self.exact)

    def _contents(self, value: Any) -> Opened | None:
        if isinstance(value, fx.Node) and value.target is joined:
            position, *items = value.args
            kind, keys = self.graph.meta["containers"][position]
            return Opened(kind, keys, items)
        return opened(value)

    def _returned(self, value: Any, path: str) -> View:
        """The view that a leaf of the result is."""
        where = f" as {path!r}" if path else ""
        if not isinstance(value, fx.Node):
            raise InputError(f"the model returns {value!r}{where}; only tensors can be deployed")
        if value.name in self.pieces:
            raise refusal(value, "the parts are returned as a whole; return them one by one")
        if value.name not in self.views:
            raise refusal(value, "it is returned and does not depend on the image; keep it out of the model")
        view = self.view(value)
        if self.ops[view.op].op == "input":
            raise InputError(f"the model returns its input{where}")
        if "g" in view.axes:
            raise refusal(value, "it is returned with its channels in groups; return channels")
        return view


def _tensors(module: nn.Module) -> Roots:
    return (*module.parameters(), *module.buffers())


def _names(graph: fx.Graph, root: nn.Module) -> dict[fx.Node, str]:
    """A name for the primitive of every node, none of them the path of a module with weights: that is its own name."""
    taken = {path for path, module in root.named_modules() if any(True for _ in module.parameters())}
    taken |= {path for path, module in root.named_modules() if isinstance(module, (nn.LayerNorm, MixedOp))}
    every = {node.name for node in graph.nodes}
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        name = node.name
        while name in taken or (name != node.name and name in every):
            name += "_"
        names[node] = name
        taken.add(name)
    return names


def _block(node: fx.Node, root: nn.Module) -> Block | None:
    """The outermost module around an operator that describes itself as a block; another one at each call of it."""
    for key, (path, _) in node.meta.get("nn_module_stack", {}).items():
        again = key.partition("@")[2]  # torch.fx counts calls from 0
        name = f"{path}.use{int(again) + 1}" if again else path
        if path and (found := block_of(root.get_submodule(path), name)) is not None:
            return found
    return None
