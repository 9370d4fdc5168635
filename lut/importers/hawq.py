"""HAWQ-V3's tables of ResNet-18 and -50 on a T4 (Yao 2021, arXiv:2011.10680), measured through TVM: JSON.

Per network, lists with one entry per layer: latency_int4 and latency_int8 (ms), parameters, bops, Hutchinson_trace (the
Hessian's trace over the number of weights) and delta_weights_{b}bit_square (|W - Q_b(W)|^2). HAWQ-V3 picks bits by an
integer linear program: it minimises the sum over layers of trace * delta, subject to latency, size or operations.

The layers are a ResNet's convolutions without stem and classifier, which stay at 8 bits; a block's downsample comes
last. Names are torchvision's (layer2.0.downsample.0). That the lists do follow this order is checked by `parameters`
(weights, or millions of them) and `bops` (multiply-accumulates in fact, or millions). By `bops` the stride of a
ResNet-50's block lies in its first 1x1 convolution, as in the paper of 2015, not in the 3x3 as in torchvision.

The file states no batch, and none is invented: rows have batch 1, `ignores: out_bits batch` says that it means
nothing. `free: input add avg_pool max_pool linear`, `free_sites: conv1` and `alias: conv2d_add=conv2d`: convolutions
behind the stem alone were measured. `promote: bits`: tensor cores multiply operands of equal bits, so a layer whose
weights and inputs differ runs as the larger.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..columns import nearest
from ..errors import LutError
from ..spec import OpSpec
from ..table import LatencyTable
from .common import Rows, header, known, latency, microseconds, number, read_json, section, show
from .sniff import expect

BLOCKS = {"ResNet18": (2, 2, 2, 2), "ResNet50": (3, 4, 6, 3)}
_LATENCIES = ("latency_int4", "latency_int8")
_SENSITIVITY = ("Hutchinson_trace", "delta_weights_4bit_square", "delta_weights_8bit_square")
_COUNTS = ("parameters", "bops")


def layers(network: str, stride_first: bool = True) -> list[OpSpec]:
    """The measured convolutions in order, at 8 bits, 224 pixels; stride_first: in a bottleneck's first convolution."""
    specs: list[OpSpec] = []
    bottleneck = network == "ResNet50"
    channels, size = 64, 56
    for stage, blocks in enumerate(BLOCKS[network]):
        width = 64 * 2**stage
        c_out = 4 * width if bottleneck else width
        for block in range(blocks):
            stride, site = 2 if block == 0 and stage else 1, f"layer{stage + 1}.{block}"
            small = size // stride
            if bottleneck:
                first, second = (stride, 1) if stride_first else (1, stride)
                specs.append(_conv(f"{site}.conv1", channels, width, size, 1, first))
                specs.append(_conv(f"{site}.conv2", width, width, size // first, 3, second))
                specs.append(_conv(f"{site}.conv3", width, c_out, small, 1, 1))
            else:
                specs.append(_conv(f"{site}.conv1", channels, width, size, 3, stride))
                specs.append(_conv(f"{site}.conv2", width, width, small, 3, 1))
            if channels != c_out:
                specs.append(_conv(f"{site}.downsample.0", channels, c_out, size, 1, stride))
            channels, size = c_out, small
    return specs


def read_hawq(path: str | Path, *, device: str, network: str | None = None) -> LatencyTable:
    """Two rows per layer, at 4 and at 8 bits. `network` chooses where the file holds several. Raises LutError."""
    expect(path, "hawq")
    name, lists, specs = _network(path, network)
    rows = Rows(path)
    for key in _LATENCIES:
        bits = int(re.sub(r"\D", "", key))
        for spec, value in zip(specs, lists[key]):
            where = f"{path}: {name}: {key}: {spec.site}"
            rows.add(_at(spec, bits), latency(microseconds(value, "ms", where)), where)
    rules = {
        "free": "input add avg_pool max_pool linear", "alias": "conv2d_add=conv2d", "ignores": "out_bits batch",
        "free_sites": "conv1", "promote": "bits",
    }  # fmt: skip
    return rows.table(header(path, device, "ms", network=name, **rules))


def read_sensitivities(path: str | Path, network: str | None = None) -> dict[str, dict[int, float]]:
    """site -> bits (4 and 8) -> trace * |W - Q(W)|^2, which HAWQ-V3 minimises summed over layers. Raises LutError."""
    expect(path, "hawq")
    name, lists, specs = _network(path, network)
    known(lists, _SENSITIVITY, f"{path}: {name}", tuple(lists))
    trace, four, eight = (lists[key] for key in _SENSITIVITY)
    return {spec.site: {4: t * a, 8: t * b} for spec, t, a, b in zip(specs, trace, four, eight)}


def read_counts(path: str | Path, network: str | None = None) -> dict[str, dict[str, int]]:
    """site -> {'parameters': weights, 'bops': multiply-accumulates of one image}, whole numbers. Raises LutError.

    `bops` in the sense of the paper are these times the bits of weights and activations.
    """
    expect(path, "hawq")
    return {spec.site: dict(zip(_COUNTS, _counts(spec))) for spec in _network(path, network)[2]}


def _network(path: str | Path, network: str | None) -> tuple[str, dict[str, list[float]], list[OpSpec]]:
    tree = read_json(path)
    if network is None:
        if len(tree) != 1:
            raise LutError(f"{path}: network: the file holds several; choose one of {show(list(tree))}")
        network = next(iter(tree))
    if network not in tree or network not in BLOCKS:
        right = nearest(network, [name for name in BLOCKS if name in tree] or BLOCKS)
        raise LutError(f"{path}: network: {show(network)} is not there or of unknown layers; {right}")
    where = f"{path}: {network}"
    part = section(tree[network], where)
    known(part, (*_LATENCIES, *_COUNTS), where, _SENSITIVITY)
    count = len(layers(network))
    lists = {key: _numbers(value, count, f"{where}: {key}") for key, value in part.items()}
    return network, lists, _matched(network, lists, where)


def _numbers(value: Any, count: int, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        size = f"{len(value)} values" if isinstance(value, list) else show(value)
        raise LutError(f"{where}: {size}; expected a list of {count}, one per convolution but the stem")
    return [number(item, f"{where}: entry {index}") for index, item in enumerate(value)]


def _matched(network: str, lists: dict[str, list[float]], where: str) -> list[OpSpec]:
    """The layers with the stride where `bops` puts it. Raises LutError for an entry that no layer explains."""
    faults = []
    for stride_first in (True, False) if network == "ResNet50" else (True,):
        specs = layers(network, stride_first)
        fault = _mismatch(specs, lists)
        if fault is None:
            return specs
        faults.append(fault)
    raise LutError(f"{where}: {faults[0]}; the lists do not follow the network's layers")


def _mismatch(specs: list[OpSpec], lists: dict[str, list[float]]) -> str | None:
    for place, key in enumerate(_COUNTS):
        scale = 1.0 if lists[key][0] > 1000 else 1e-6
        for index, (spec, value) in enumerate(zip(specs, lists[key])):
            right = _counts(spec)[place] * scale
            if not math.isclose(value, right, rel_tol=1e-4):
                return f"{key}: entry {index} is {value:g}, but {spec.site} has {right:g}"
    return None


def _counts(spec: OpSpec) -> tuple[int, int]:
    weights = spec.c_in * spec.c_out * spec.kernel[0] * spec.kernel[1]
    rows, cols = spec.out_size()
    return weights, weights * rows * cols


def _conv(site: str, c_in: int, c_out: int, size: int, kernel: int, stride: int) -> OpSpec:
    pad = (kernel // 2,) * 4
    return OpSpec("conv2d", 1, c_in, c_out, size, size, (kernel,) * 2, (stride,) * 2, (1, 1), pad, site=site)


def _at(spec: OpSpec, bits: int) -> OpSpec:
    return replace(spec, w_bits=bits, in_bits=(bits,), out_bits=bits)
