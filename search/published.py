"""Numbers that papers report and that their published tables alone can check, one entry each (scripts/reproduce.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cost_models.table import TableLatency
from cost_models.table_space import edges, table_space
from lut.errors import InputError, LutError
from lut.importers.haq import layers as haq_layers
from lut.importers.haq import read_haq
from lut.importers.hawq import read_hawq, read_sensitivities
from lut.importers.ofa import read_ofa
from lut.importers.ofa_nets import net_cost
from lut.importers.proxylessnas import read_proxylessnas
from lut.table import LatencyTable

from .budget import Budget
from .solve import solve

Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Entry:
    """file: what it reads of the published tables. rows: what is compared; difference of the protocols in words."""

    name: str
    what: str
    source: str
    file: str
    protocol: str
    rows: Callable[[Path], Sequence[Row]]

    def run(self, folder: Path) -> dict[str, Any]:
        """{name, what, source, protocol, rows: [(label, paper, here, difference)]}. InputError without the file."""
        path = folder / self.file
        if not path.exists():
            raise InputError(f"{path}: no such file; {self.name} needs it ({self.source})")
        about = {key: getattr(self, key) for key in ("name", "what", "source", "protocol")}
        return {**about, "rows": [list(row) for row in self.rows(path)]}


def compared(label: str, paper: float, here: float, unit: str = "", digits: int = 2) -> Row:
    """A row of two figures in the same unit."""
    form = f",.{digits}f"
    return label, f"{paper:{form}} {unit}".strip(), f"{here:{form}} {unit}".strip(), f"{here / paper - 1:+.2%}"


def haq_sum(w_bits: int, in_bits: int, published: int) -> Callable[[Path], list[Row]]:
    def rows(path: Path) -> list[Row]:
        found = read_haq(path, device="haq-simulator")
        total = sum(r.cycles or 0 for s, r in found.items() if s.w_bits == w_bits and s.in_bits == (in_bits,))
        return [compared("cycles of 16 images", published, total, "cycles", 0)]

    return rows


HAQ_POLICY = (
    "88 77 56 46 56 57 56 74 46 46 77 56 46 73 57 47 73 57 47 77 47 47 64 67 47 74 67 57 74 67 57 74 67 67 64 57 67 64 "
    "57 67 77 47 77 77 47 77 77 47 77 77 47 77 88"
)
"""The authors' linear policy for MobileNetV2 at 60 % of 8-bit latency: bits of weights and activations per layer (their
README; the first layer's input is the image, which their list gives as -1 and the table prices at 8 bits)."""


def haq_policy(path: Path) -> list[Row]:
    found = read_haq(path, device="haq-simulator")
    by_site = {(s.site, s.w_bits, s.in_bits[0]): r.us for s, r in found.items()}
    sites = [spec.site for spec in haq_layers()]
    policy = [(int(pair[0]), int(pair[1])) for pair in HAQ_POLICY.split()]
    ours = sum(by_site[(site, *bits)] for site, bits in zip(sites, policy, strict=True))
    uniform = sum(by_site[(site, 8, 8)] for site in sites)
    return [compared("share of 8-bit cycles", 0.6, ours / uniform, digits=4)]


def proxyless_range(path: Path) -> list[Row]:
    found = read_proxylessnas(path, device="pixel-1")
    least, most = ends(found)
    return [compared("least", 29.6, least, "ms", 1), compared("most", 191.0, most, "ms", 1)]


def ends(found: LatencyTable) -> tuple[float, float]:
    """Milliseconds of the cheapest and of the dearest network of ProxylessNAS's mobile space."""
    from supernet.networks.proxylessnas import FIRST, STAGES, STEM

    rows = edges(found)

    def block(c_in: int, c_out: int, size: int, stride: int, skip: bool) -> tuple[float, float]:
        times = [found[s].us for s in rows[f"mbconv {c_in}-{c_out} {size}x{size} s{stride}x{stride}"]]
        return (0.0 if skip else min(times)), max(times)

    fixed = [spec for spec in found if spec.kind != "mbconv"]
    fixed += [s for s in rows[f"mbconv {STEM}-{FIRST} 112x112 s1x1"] if s.kernel == (3, 3)]
    low = high = sum(found[spec].us for spec in fixed)
    channels, size = FIRST, 112
    for out, repeats, first in STAGES:
        for position in range(repeats):
            least, most = block(channels, out, size, first if position == 0 else 1, position > 0)
            low, high = low + least, high + most
            if position == 0:
                channels, size = out, size // first
    return low / 1e3, high / 1e3


def hawq_totals(network: str, published: tuple[float, float]) -> Callable[[Path], list[Row]]:
    def rows(path: Path) -> list[Row]:
        found = read_hawq(path, device="tesla-t4", network=network)
        sums = {bits: sum(r.us for s, r in found.items() if s.w_bits == bits) / 1e3 for bits in (4, 8)}
        return [compared(f"INT{bits}", paper, sums[bits], "ms") for bits, paper in zip((4, 8), published)]

    return rows


def hawq_solved(path: Path, network: str, share: float) -> tuple[float, float, float]:
    """(limit us, latency us, sum of sensitivities) of the least sensitive bits between 4-bit and 8-bit latency."""
    found = read_hawq(path, device="tesla-t4", network=network)
    cost = read_sensitivities(path, network)
    choices, schedule = table_space(found)
    rows = edges(found)
    scores = np.array([[-cost[s.site][s.w_bits] for s in rows[c.name]] for c in choices])
    latency = TableLatency(found)
    low, high = (sum(pick(found[s].us for s in rows[c.name]) for c in choices) for pick in (min, max))
    limit = low + share * (high - low)
    (arch,) = solve(choices, schedule, scores, {"latency": latency}, [Budget("latency", limit, "us")], n=1)
    objective = -sum(scores[c.index, arch.choices[c.name]] for c in choices)
    return limit, arch.predicted["latency"], float(objective)


def ofa_net(name: str, published: float) -> Callable[[Path], list[Row]]:
    def rows(path: Path) -> list[Row]:
        config = json.loads((path.parent / "ofa_nets" / f"{name}.config").read_text())
        size = json.loads((path.parent / "ofa_nets" / f"{name}.run.config").read_text())["image_size"]
        try:
            us = net_cost(read_ofa(path, device="note-10"), config, size)
        except LutError:
            return [("latency", f"{published:.2f} ms", "no rows", "-")]
        return [compared("latency", published, us / 1e3, "ms")]

    return rows


_HAQ = ("HAQ, Wang 2019, arXiv:1811.08886, and its repository", "qmobilenetv2_imagenet100_batch16_latency_table.npy")
_HAWQ = ("HAWQ-V3, Yao 2021, arXiv:2011.10680, and its repository", "hawqv3_t4_int4_int8.json")
_OFA = ("Once-for-All, Cai 2020, arXiv:1908.09791, and its repository", "ofa_note10")
_NARROW = "the published tables hold the supernet of width 1.2 alone; this network is of width 1.0 and has no row there"
_ALL = [
    Entry("haq-w8a8", "MobileNetV2 at 8 bits", *_HAQ, "none: the sum of the table", haq_sum(8, 8, 39_624_933)),
    Entry("haq-w4a4", "MobileNetV2 at 4 bits", *_HAQ, "none: the sum of the table", haq_sum(4, 4, 15_716_150)),
    Entry("haq-policy", "the published mixed policy's share of 8-bit latency", *_HAQ,
          "the paper states the target of its search, 60 %; here the policy it published is priced", haq_policy),
    Entry("proxylessnas-range", "cheapest and dearest network of the mobile space on a Pixel 1",
          "ProxylessNAS, Cai 2019, arXiv:1812.00332, and its repository", "proxylessnas_pixel1_mobile_trim.yaml",
          "the first block has kernel 3, as in the authors' network; skipped blocks cost nothing", proxyless_range),
    Entry("hawq-resnet18", "ResNet-18 on a T4", *_HAWQ,
          "stem and classifier are in neither", hawq_totals("ResNet18", (3.15, 5.34))),
    Entry("hawq-resnet50", "ResNet-50 on a T4", *_HAWQ,
          "stem and classifier are in neither", hawq_totals("ResNet50", (7.66, 11.87))),
    Entry("ofa-note10-50ms", "the published 50 ms network on a Galaxy Note 10",
          *_OFA,
          "220 pixels lie between two measured sizes: rows are interpolated in the image's area",
          ofa_net("ofa_note10_lat-50ms_top1-79.7_finetune-75", 50.0)),
    Entry("ofa-note10-22ms", "the published 22 ms network on a Galaxy Note 10", *_OFA, _NARROW,
          ofa_net("ofa_note10_lat-22ms_top1-76.6_finetune-25", 22.0)),
    Entry("ofa-note10-8ms", "the published 8 ms network on a Galaxy Note 10", *_OFA, _NARROW,
          ofa_net("ofa_note10_lat-8ms_top1-71.4_finetune-25", 8.0)),
]  # fmt: skip
ENTRIES = {entry.name: entry for entry in _ALL}
