"""The operators that kernels exist for: per kind who emits it, how many inputs it has, and what it may be asked.

`supported` says why an operator is none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lut.spec import FLOAT_BITS, OpSpec

from . import copies, elementwise, islands, lookup
from .conv import conv
from .depthwise import depthwise
from .depthwise_dot import depthwise_dot, dotted
from .emit import Nest
from .functions import FUNCTIONS, function_of
from .isa import Isa
from .pack import layout
from .schedule import Schedule
from .signature import by_channel

Emit = Callable[..., int]
SCORE_BITS = 16


@dataclass(frozen=True)
class Kind:
    """emit(nest, spec, isa) -> workspace bytes; with weights a schedule may follow. inputs: how many tensors it reads.

    weighted: has weights with bits. reads, writes: `codes` (1 to 8 bits), `scores` (those or int16) or `float`; where
    both are codes or scores, all float32 is an operator too. same_channels, same_size: output and input agree.
    """

    emit: Emit
    inputs: int = 1
    weighted: bool = False
    reads: str = "codes"
    writes: str = "codes"
    same_channels: bool = True
    same_size: bool = True

    @property
    def has_float(self) -> bool:
        """Whether it exists in float32 throughout."""
        return "float" not in (self.reads, self.writes) or self.reads == self.writes


def _convolve(nest: Nest, spec: OpSpec, isa: Isa, schedule: Schedule | None = None) -> int:
    if layout(spec) == "conv":
        return conv(nest, spec, isa, schedule)
    return depthwise_dot(nest, spec, isa) if dotted(spec, isa.name) else depthwise(nest, spec, isa)


KINDS = {
    "input": Kind(lookup.image),
    "conv2d": Kind(_convolve, weighted=True, writes="scores", same_channels=False, same_size=False),
    "conv2d_add": Kind(_convolve, 2, weighted=True, writes="scores", same_channels=False, same_size=False),
    "linear": Kind(_convolve, weighted=True, writes="scores", same_channels=False),
    "add": Kind(elementwise.add, 2, writes="scores"),
    "mul": Kind(elementwise.mul, 2),
    "unary": Kind(lookup.unary),
    "avg_pool": Kind(elementwise.avg_pool, writes="scores", same_size=False),
    "max_pool": Kind(elementwise.max_pool, same_size=False),
    "resample": Kind(copies.resample, same_channels=False, same_size=False),
    "concat": Kind(copies.concat, same_channels=False),
    "split": Kind(copies.split, same_channels=False),
    "shuffle": Kind(copies.shuffle),
    "pad": Kind(copies.pad, same_size=False),
    "quantize": Kind(islands.quantize, reads="float"),
    "dequantize": Kind(lookup.dequantize, writes="float"),
    "softmax": Kind(islands.softmax, reads="float", writes="float"),
    "layer_norm": Kind(islands.layer_norm, reads="float", writes="float"),
}
WITH_WEIGHTS = frozenset(name for name, kind in KINDS.items() if kind.weighted)


def supported(spec: OpSpec) -> str | None:
    """None, or the reason why these kernels do not compute `spec`."""
    if spec.kind not in KINDS:
        return f"kind {spec.kind!r}; kernels exist for {', '.join(sorted(KINDS))}"
    sizes = (spec.c_in, spec.c_out, spec.height, spec.width, spec.groups, *spec.kernel, *spec.stride, *spec.dilation)
    if min(sizes) < 1 or min(spec.pad) < 0:
        return "a size below 1 or a negative padding"
    if min(spec.out_size()) < 1:
        return f"the kernel {spec.kernel} is larger than the padded input"
    if spec.batch != 1:
        return f"batch {spec.batch}; kernels run one image"
    return _bits_problem(spec, KINDS[spec.kind]) or _shape_problem(spec, KINDS[spec.kind]) or _attrs_problem(spec)


def _bits_problem(spec: OpSpec, kind: Kind) -> str | None:
    if len(spec.in_bits) != kind.inputs:
        return f"{len(spec.in_bits)} in_bits for the {kind.inputs} inputs of {spec.kind}"
    read = [] if spec.kind == "input" else [*spec.in_bits]
    if kind.has_float:
        everything = [*read, spec.out_bits, *([spec.w_bits] if kind.weighted else [])]
        if set(everything) == {FLOAT_BITS}:
            return None
        if FLOAT_BITS in everything and "float" not in (kind.reads, kind.writes):
            return f"bits {everything}: float32 does not mix with integers"
    if kind.weighted and spec.w_bits not in (2, 4, 8):
        return f"{spec.w_bits}-bit weights; kernels have 2, 4 and 8"
    for name, found, role in (("in_bits", read, kind.reads), ("out_bits", [spec.out_bits], kind.writes)):
        for bits in found:
            if role == "float" and bits != FLOAT_BITS:
                return f"{name} {bits}; {spec.kind} has float32 there, 32 bits"
            if role != "float" and not 1 <= bits <= 8 and not (role == "scores" and bits == SCORE_BITS):
                return f"{name} {bits}; kernels have codes of 1 to 8 bits{', or 16-bit scores' * (role == 'scores')}"
    return None


def _shape_problem(spec: OpSpec, kind: Kind) -> str | None:
    if spec.c_in % spec.groups or spec.c_out % spec.groups:
        return f"{spec.c_in} and {spec.c_out} channels do not divide into {spec.groups} groups"
    if spec.kind == "linear" and (spec.height, spec.width) != (1, 1):
        return "linear reads a flat input: height, width and kernel are 1"
    if kind.same_channels and spec.c_in != spec.c_out:
        return f"{spec.kind} keeps its channels, not {spec.c_in} to {spec.c_out}"
    if kind.same_size and (*spec.kernel, *spec.stride, *spec.pad) != (1, 1, 1, 1, 0, 0, 0, 0):
        return f"{spec.kind} has no kernel, stride or padding"
    if spec.kind == "pad" and (*spec.kernel, *spec.stride) != (1, 1, 1, 1):
        return "pad has no kernel and no stride"
    if spec.kind == "avg_pool" and (any(spec.pad) or spec.dilation != (1, 1)):
        return "avg_pool with padding or dilation"
    if spec.kind in ("concat", "split") and (spec.c_in > spec.c_out) == (spec.kind == "concat"):
        return f"{spec.kind}: a part of {min(spec.c_in, spec.c_out)} channels; c_in {spec.c_in}, c_out {spec.c_out}"
    if spec.kind == "shuffle" and spec.groups == 1:
        return "a shuffle of one group moves nothing"
    return None


def _attrs_problem(spec: OpSpec) -> str | None:
    if spec.kind == "mul" and spec.attrs and not by_channel(spec):
        return f"attrs {spec.attrs!r}; a mul has none, or by=channel"
    if spec.kind == "unary" and spec.is_float and function_of(spec) not in FUNCTIONS:
        return f"attrs {spec.attrs!r}; a float32 unary is fn= one of {', '.join(FUNCTIONS)}"
    return None
