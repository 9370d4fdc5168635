"""Kernels that only move elements: parts of a concat or split, a channel shuffle, zero padding, resampling.

A concat of n tensors is n operators, each of which writes one part into its channels of the output; a split is n that
read theirs. `in` or `out` then points at the part's first channel.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lut.spec import OpSpec

from .emit import Nest, copy, fill, in_vectors
from .isa import Isa
from .requantize import Epilogue
from .signature import in_dtype, pointers


def concat(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """concat: out[pixel, 0..c_in) of c_out channels = in[pixel]."""
    return _strided(nest, spec, spec.c_in)


def split(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """split: out[pixel] = in[pixel, 0..c_out) of c_in channels."""
    return _strided(nest, spec, spec.c_out)


def _strided(nest: Nest, spec: OpSpec, channels: int) -> int:
    bound = pointers(nest, spec, "uint8")
    with nest.share(spec.height * spec.width) as pixel:
        copy(nest, (bound["out"], pixel * spec.c_out), (bound["in"], pixel * spec.c_in), channels)
    return 0


def shuffle(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """shuffle: out[i groups + j] = in[j (c / groups) + i] (ShuffleNet, Zhang et al. 2018, arXiv:1707.01083)."""
    bound = pointers(nest, spec, "uint8")
    groups, size = spec.groups, spec.c_in // spec.groups

    def alternate(origin: Any, start: Any, lanes: int) -> None:
        """Two groups: a channel of one, a channel of the other."""
        halves = [nest.load(bound["in"], origin + start + half * size, lanes) for half in range(2)]
        mixed = nest.shuffle(halves, [i + lanes * half for i in range(lanes) for half in range(2)])
        nest.store(bound["out"], origin + 2 * start, mixed, 2 * lanes)

    with nest.share(spec.height * spec.width) as pixel:
        origin = pixel * spec.c_in
        if groups == 2:
            in_vectors(nest, size, partial(alternate, origin))
        else:
            with nest.loop(groups) as j, nest.loop(size) as i:
                nest.store(bound["out"], origin + i * groups + j, nest.load(bound["in"], origin + j * size + i))
    return 0


def pad(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """pad: the image in a frame of zero points."""
    bound = pointers(nest, spec, "uint8")
    zero, c = _zero(nest, spec, bound, isa), spec.c_in
    above, left, _, right = spec.pad
    rows, cols = spec.out_size()
    with nest.share(rows) as y:
        line, row = y * (cols * c), y - above
        inside = nest.x.all(row >= 0, row < spec.height)
        with nest.when(inside):
            fill(nest, bound["out"], line, left * c, zero)
            copy(nest, (bound["out"], line + left * c), (bound["in"], row * (spec.width * c)), spec.width * c)
            fill(nest, bound["out"], line + (left + spec.width) * c, right * c, zero)
        with nest.when(nest.x.Not(inside)):
            fill(nest, bound["out"], line, cols * c, zero)
    return 0


def resample(nest: Nest, spec: OpSpec, isa: Isa) -> int:
    """resample: y[c] = x[gather[c]] at every stride-th pixel, the zero point where gather[c] < 0.

    `weights` holds the gather, `params` the zero point.
    """
    bound = pointers(nest, spec, "int32")
    zero = _zero(nest, spec, bound, isa)
    rows, cols = spec.out_size()
    with nest.share(rows) as y, nest.loop(cols) as x, nest.loop(spec.c_out) as channel:
        source = nest.bind(nest.load(bound["weights"], channel))
        pixel = y * spec.stride[0] * spec.width + x * spec.stride[1]
        value = nest.load(bound["in"], pixel * spec.c_in + nest.x.max(source, 0))
        nest.store(bound["out"], (y * cols + x) * spec.c_out + channel, nest.x.Select(source < 0, zero, value))
    return 0


def _zero(nest: Nest, spec: OpSpec, bound: dict[str, Any], isa: Isa) -> Any:
    """The input's zero point in its own type."""
    if spec.is_float:
        return nest.bind(nest.const(0, "float32"))
    return nest.bind(
        Epilogue(nest, spec, bound["params"], bound["out"], isa.name).scalar["z_in"].astype(in_dtype(spec))
    )
