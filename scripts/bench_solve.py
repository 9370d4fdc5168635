"""Time of `solve` on ResNet-20's full space: 8 widths, 3 weight and 3 activation bit-widths, latency, weights and RAM.

    python -m scripts.bench_solve [--n 5] [--seed 0]

Costs are a staircase in channels, as padding to the vector width makes it; logits are random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cost_models.base import CostModel
from cost_models.counts import COUNTS
from cost_models.memory import PeakRam
from lut.spec import OpSpec
from search.budget import Budget
from search.solve import reachable, solve
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchOp, SearchTensor, Values

WIDTHS = tuple(i / 8 for i in range(1, 9))
BITS = (2, 4, 8)


class Staircase(CostModel):
    """Latency in us of a kernel with 16 channels a vector, output bits free of charge."""

    name, unit = "latency", "us"
    ignores = frozenset({"out_bits"})

    def __call__(self, op: OpSpec) -> float:
        rows, cols = op.out_size()
        lanes = -(-op.c_out // 16) * 16
        taps = -(-op.c_in // 4) * 4 * op.kernel[0] * op.kernel[1]
        return rows * cols * lanes * (taps * (0.9 + 0.03 * (8 - op.w_bits) + 0.02 * (8 - op.in_bits[0])) * 6e-6 + 2e-4)


@dataclass
class Builder:
    """Collects choices, operators and tensors of a residual network."""

    choices: list[Choice] = field(default_factory=list)
    ops: list[SearchOp] = field(default_factory=list)
    tensors: dict[str, SearchTensor] = field(default_factory=dict)

    def choice(self, name: str, kind: str, options: tuple[int, ...]) -> Choice:
        self.choices.append(Choice(name, kind, options, len(self.choices)))
        return self.choices[-1]

    def width(self, name: str, channels: int) -> Choice:
        return self.choice(name, "width", tuple(round(channels * share) for share in WIDTHS))

    def tensor(self, name: str, width: Choice, size: int, options: tuple[int, ...] = BITS) -> str:
        bits = self.choice(f"{name}.act_bits", "act_bits", options)

        def make(values: Values) -> tuple[int, int, int, int]:
            return values[width.name], size, size, values[bits.name]

        self.tensors[name] = SearchTensor(name, (width, bits), make)
        return name

    def conv(
        self, name: str, source: str, target: str, size: int, kernel: int, stride: int, residual: str = ""
    ) -> None:
        """A conv (with a residual: conv2d_add) from tensor to tensor on an input of size x size."""
        bits = self.choice(f"{name}.weight_bits", "weight_bits", BITS)
        inputs = (source, residual) if residual else (source,)
        (c_in, a_in), (c_out, a_out) = self.tensors[source].choices, self.tensors[target].choices
        roles: dict[Choice, set[str]] = {}
        filled = {"c_in": c_in, "c_out": c_out, "w_bits": bits, "in_bits": a_in, "out_bits": a_out}
        for role, choice in filled.items():
            roles.setdefault(choice, set()).add(role)
        pad = (kernel // 2,) * 4

        def make(v: Mapping[str, int]) -> OpSpec:
            in_bits = tuple(v[self.tensors[t].choices[1].name] for t in inputs)
            return OpSpec(
                "conv2d_add" if residual else "conv2d",
                1,
                v[c_in.name],
                v[c_out.name],
                size,
                size,
                (kernel, kernel),
                (stride, stride),
                (1, 1),
                pad,
                1,
                v[bits.name],
                in_bits,
                v[a_out.name],
            )

        if residual:
            roles.setdefault(self.tensors[residual].choices[1], set()).add("in_bits")
        fields = tuple(frozenset(f) for f in roles.values())
        self.ops.append(SearchOp(name, tuple(roles), fields, make, inputs, target, 1 if residual else None))


def resnet20() -> tuple[tuple[Choice, ...], Schedule]:
    """ResNet-20 for 32x32 with fused residual adds; shortcuts that change shape are 1x1 convs."""
    net = Builder()
    image = net.tensor("image", net.choice("image.width", "width", (3,)), 32, (8,))
    trunk = net.width("stage0.width", 16)
    last = net.tensor("stem", trunk, 32)
    net.conv("stem", image, last, 32, 3, 1)
    for stage, (channels, size) in enumerate(((16, 32), (32, 16), (64, 8))):
        trunk = trunk if stage == 0 else net.width(f"stage{stage}.width", channels)
        for block in range(3):
            name = f"stage{stage}.{block}"
            stride = 2 if stage and block == 0 else 1
            inner = net.tensor(f"{name}.a", net.width(f"{name}.width", channels), size)
            net.conv(f"{name}.conv1", last, inner, size * stride, 3, stride)
            residual = last
            if stride == 2:
                residual = net.tensor(f"{name}.short", trunk, size)
                net.conv(f"{name}.shortcut", last, residual, size * 2, 1, 2)
            out = net.tensor(f"{name}.b", trunk, size)
            net.conv(f"{name}.conv2", inner, out, size, 3, 1, residual)
            last = out
    scores = net.tensor("scores", net.choice("classes", "width", (10,)), 1, (8,))
    net.conv("head", last, scores, 1, 1, 1)
    return tuple(net.choices), Schedule(tuple(net.ops), net.tensors, image, (scores,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    choices, schedule = resnet20()
    generator = np.random.default_rng(args.seed)
    logits = 0.5 * generator.normal(size=(len(choices), 8))
    scores = np.stack([row - np.logaddexp.reduce(row[: len(c.options)]) for row, c in zip(logits, choices)])
    costs: dict[str, CostModel | PeakRam] = {
        "latency": Staircase(),
        "weights": COUNTS["weights"],
        "ram": PeakRam(schedule, "packed"),
    }
    start = time.perf_counter()
    ends = reachable(choices, schedule, costs)
    print(f"reachable {ends} in {time.perf_counter() - start:.2f} s", flush=True)
    for shares in ((0.5, 1, 1), (0.3, 1, 1), (0.15, 1, 1), (0.3, 0.2, 1), (0.3, 0.2, 0.4), (0.15, 0.1, 0.25)):
        budgets = [
            Budget(metric, low + share * (high - low), costs[metric].unit)
            for (metric, (low, high)), share in zip(ends.items(), shares)
            if share < 1
        ]
        times = []
        for n in (1, args.n):
            start = time.perf_counter()
            found = solve(choices, schedule, scores, costs, budgets, n)
            times.append(time.perf_counter() - start)
        total = sum(scores[c.index, c.position(found[0].choices[c.name])] for c in choices)
        print(f"{shares}: n=1 {times[0]:.2f} s, n={len(found)} {times[1]:.2f} s, best score {total:.3f}", flush=True)


if __name__ == "__main__":
    main()
