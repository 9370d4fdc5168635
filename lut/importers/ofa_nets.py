"""Published Once-for-All networks (`net.config`, JSON) as operators, and what they cost by the tables.

A network is its stem, its blocks, then a 1x1 convolution, the pool, a 1x1 convolution on the pooled image and the
classifier. The keys follow Once-for-All's own LatencyTable (ofa/nas/efficiency_predictor): an image of n pixels leaves
a stride s with (n - 1) // s + 1; middle channels are `mid_channels`, else round(in_channels * expand_ratio); a block
without a convolution costs nothing; idskip says whether there is a shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..columns import describe
from ..errors import LutError
from ..spec import OpSpec
from ..table import LatencyTable
from .blocks import float_op, mbconv
from .common import number, section, show, whole

_ACTS = {"relu": "relu", "relu6": "relu6", "h_swish": "hswish"}


def net_specs(config: Mapping[str, Any], image_size: int) -> list[OpSpec]:
    """The operators of a network at image_size x image_size pixels. Raises LutError `config: part: ...`."""
    size = whole(image_size, "image_size", 4096)
    stem, final, mix, classifier = (
        section(_get(config, name, "config"), f"config: {name}")
        for name in ("first_conv", "final_expand_layer", "feature_mix_layer", "classifier")
    )
    specs = [_conv(stem, size, 3, 2, "config: first_conv")]
    size = (size + 1) // 2
    blocks = _get(config, "blocks", "config")
    if not isinstance(blocks, list):
        raise LutError(f"config: blocks: {show(blocks)} is not a list of blocks")
    for index, block in enumerate(blocks):
        where = f"config: blocks: {index}"
        spec = _block(section(block, where), size, where)
        if spec is not None:
            specs.append(spec)
            size = (size - 1) // spec.stride[0] + 1
    specs.append(_conv(final, size, 1, 1, "config: final_expand_layer"))
    pooled = specs[-1].c_out
    specs.append(float_op("avg_pool", pooled, pooled, size, size, (size, size), (size, size)))
    specs.append(_conv(mix, 1, 1, 1, "config: feature_mix_layer"))
    where = "config: classifier"
    c_in, c_out = (whole(_get(classifier, n, where), f"{where}: {n}") for n in ("in_features", "out_features"))
    return [*specs, float_op("linear", c_in, c_out, 1, 1)]


def net_cost(tables: LatencyTable | Sequence[LatencyTable], config: Mapping[str, Any], image_size: int) -> float:
    """Microseconds of a network: the sum of its rows, each from the first table that holds it.

    An operator whose image size was not measured lies between its counterparts in the next smaller and the next larger
    network that were, linearly in the image's area; operators that both sizes share (a 220 pixel image reaches 28, 14
    and 7 pixels as one of 224 does) keep their own rows. Raises LutError for a network that the tables do not hold.
    """
    tables = [tables] if isinstance(tables, LatencyTable) else list(tables)
    specs = net_specs(config, image_size)
    sizes = sorted({s.height for table in tables for s in table if s.kind == "conv2d" and s.stride == (2, 2)})
    if image_size in sizes:
        return sum(_us(tables, spec) for spec in specs)
    low = max((s for s in sizes if s < image_size), default=None)
    high = min((s for s in sizes if s > image_size), default=None)
    if low is None or high is None:
        known = ", ".join(map(str, sizes)) or "none"
        raise LutError(f"image_size: {image_size} is not between sizes that were measured: {known}")
    share = (image_size**2 - low**2) / (high**2 - low**2)
    total = 0.0
    for spec, smaller, larger in zip(specs, net_specs(config, low), net_specs(config, high)):
        if any(spec in table for table in tables):
            total += _us(tables, spec)
        else:
            total += (1 - share) * _us(tables, smaller) + share * _us(tables, larger)
    return total


def _us(tables: Sequence[LatencyTable], spec: OpSpec) -> float:
    for table in tables:
        if spec in table:
            return table[spec].us
    stems = sorted({s.c_out for table in tables for s in table if s.kind == "conv2d" and s.stride == (2, 2)})
    raise LutError(
        f"no row for {describe(spec)} {spec.attrs}; the tables hold networks whose stem has"
        f" {' or '.join(map(str, stems)) or 'no'} channels"
    )


def _get(part: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in part:
        raise LutError(f"{where}: {name}: missing")
    return part[name]


def _conv(part: Mapping[str, Any], size: int, kernel: int, stride: int, where: str) -> OpSpec:
    for name, expected in (("kernel_size", kernel), ("stride", stride)):
        if part.get(name, expected) != expected:
            raise LutError(f"{where}: {name}: {show(part[name])}; the tables have {expected} here")
    c_in, c_out = (whole(_get(part, n, where), f"{where}: {n}") for n in ("in_channels", "out_channels"))
    return float_op("conv2d", c_in, c_out, size, size, (kernel,) * 2, (stride,) * 2, kernel // 2)


def _block(block: Mapping[str, Any], size: int, where: str) -> OpSpec | None:
    conv = block["conv"] if "conv" in block else _get(block, "mobile_inverted_conv", where)
    if conv is None:
        return None
    conv = section(conv, where)
    c_in, c_out, kernel, stride = (
        whole(_get(conv, n, where), f"{where}: {n}") for n in ("in_channels", "out_channels", "kernel_size", "stride")
    )
    mid = conv.get("mid_channels")
    if mid is None:
        mid = round(c_in * number(_get(conv, "expand_ratio", where), f"{where}: expand_ratio"))
    act, se = _get(conv, "act_func", where), _get(conv, "use_se", where)
    if not isinstance(act, str) or act not in _ACTS or not isinstance(se, bool):
        right = f"{', '.join(_ACTS)}; true or false"
        raise LutError(f"{where}: act_func: {show(act)}, use_se: {show(se)}; expected {right}")
    residual = _get(block, "shortcut", where) is not None
    mid = whole(mid, f"{where}: mid_channels")
    return mbconv(c_in, c_out, size, size, kernel, stride, mid, act=_ACTS[act], residual=residual, se=se)
