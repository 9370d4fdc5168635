"""The primitive operators that a user's model is made of, and how one is refused."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from lut.errors import InputError

from .mixed import Block
from .outputs import Form

Shape = tuple[int, int, int]
USER_LINE = "user_line"
"""The key in a node's `meta` of the user's line that made it."""
_HERE = Path(__file__).parent
_TORCH = str(Path(torch.__file__).parent)
_PYTHON = sysconfig.get_path("stdlib")
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))


@dataclass
class RawOp:
    """One primitive. op: conv bn act unary linear add mul affine avg_pool max_pool pad channel_pad stride concat split
    shuffle layer_norm softmax mix input.

    attrs: conv {'pad': (t, l, b, r), 'single': whether a channel has one weight that is not 0}; act {'high': float};
    unary {'fn': name}; affine {'scale', 'shift'}: (C,) tensors, {'frozen': whether the model does not train them};
    pools {'kernel', 'stride', 'pad', 'dilation'}; pad {'pad'}; channel_pad {'before', 'after'}; stride {'stride'}: of
    rows and columns; split {'start': channel}; shuffle {'groups'}. shape: of the output without the batch, (C, H, W).
    when: the (mix, candidate) pairs under which it exists, outermost first. block: the block that it is a layer of.
    line: `file:line` in the user's source, or ''. roots: the user's parameters and buffers that the module's are, or
    are made of. shares: the name of the first primitive with the same ones, or ''.
    """

    name: str
    op: str
    inputs: list[str]
    shape: Shape
    module: nn.Module | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    when: tuple[tuple[str, int], ...] = ()
    block: Block | None = None
    line: str = ""
    roots: tuple[torch.Tensor, ...] = ()
    shares: str = ""

    def refusal(self, why: str) -> InputError:
        return InputError(f"'{self.name}' ({self.op}){at(self.line)}: {why}")


class Traced(NamedTuple):
    """A model's primitives in execution order, the input first; the names of those that make its output tensors; what
    it returns of them; whether they are meant to compute what the model does."""

    ops: list[RawOp]
    outputs: tuple[str, ...]
    form: Form
    exact: bool = True


def needed(ops: list[RawOp], outputs: tuple[str, ...]) -> list[RawOp]:
    """What the outputs depend on, in order, and the input."""
    names = {*outputs, ops[0].name}
    for raw in reversed(ops):
        if raw.name in names:
            names.update(raw.inputs)
    return [raw for raw in ops if raw.name in names]


def at(line: str) -> str:
    """Where in the user's source, in words."""
    return f" at {line}" if line else ""


@cache
def _users(file: str) -> bool:
    """Whether a frame of this file is the user's: not torch's, Python's or of the conversion itself."""
    if file.startswith((_TORCH, "<frozen ")) or Path(file).parent == _HERE:
        return False
    return file.startswith(_LIBRARIES) or not file.startswith(_PYTHON)


def innermost(frames: Iterable[tuple[str, int]]) -> str:
    """`file:line` of the innermost of the user's frames (file, line), outermost first, since tracing began; or ''."""
    found = ""
    for file, line in frames:
        if file == str(_HERE / "trace.py"):
            found = ""
        elif _users(file):
            found = f"{file}:{line}"
    return found


def user_line(node: fx.Node) -> str:
    """The innermost of the user's lines that made a node of our tracer's, or ''."""
    return str(node.meta.get(USER_LINE, ""))


def refusal(node: fx.Node, why: str, module: nn.Module | None = None) -> InputError:
    """The error that names a node, its line in the user's source, and why it can't be converted."""
    called = getattr(node.target, "__name__", node.target)
    what = f"{type(module).__name__} '{node.target}'" if module is not None else f"'{node.name}' ({called})"
    return InputError(f"{what}{at(user_line(node))}: {why}")


WAY_OUT = (
    "no deployable operator; replace it, keep it out of the model given to from_model, or say what it is with "
    "supernet.register_op"
)
HINTS = {
    "softmax": "return the scores that it reads; the loss applies it",
    "upsample": "there is no kernel that enlarges an image",
    "interpolate": "there is no kernel that enlarges an image",
    "groupnorm": "its statistics are the image's; use a batch norm",
    "group_norm": "its statistics are the image's; use a batch norm",
    "instance": "its statistics are the image's; use a batch norm",
    "transpose": "there is no kernel for transposed convolutions",
    "conv1d": "there are kernels for images alone",
    "conv3d": "there are kernels for images alone",
}
"""By a part of a module's or function's name, why it is not deployable."""


def way_out(name: object) -> str:
    hint = next((hint for part, hint in HINTS.items() if part in str(name).lower()), "")
    return f"{hint}; {WAY_OUT}" if hint else WAY_OUT
