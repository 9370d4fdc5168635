"""Time of `ExpectedCost` on 50 operators with an 8x8x3x3 grid each, beside one einsum per operator.

    python -m scripts.bench_expected_cost [--repeats 50]

One thread; the two forms take turns, the medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cost_models.base import CostModel
from cost_models.expected import ExpectedCost
from cost_models.terms import op_terms
from lut.spec import OpSpec
from supernet.choice import Choice, Gates
from supernet.schedule import SearchOp

OPS = 50
FIELDS = tuple(frozenset({field}) for field in ("c_in", "c_out", "w_bits", "in_bits"))


class Product(CostModel):
    """Some cost that depends on all four fields."""

    name, unit = "product", "us"

    def __call__(self, op: OpSpec) -> float:
        return 1e-3 * op.c_in * -(-op.c_out // 16) * (20 - op.w_bits) * (30 - op.in_bits[0])


def network() -> tuple[list[Choice], list[SearchOp]]:
    """A chain of convs: a width between any two, bits of its own for each."""
    choices: list[Choice] = []

    def choice(name: str, kind: str, options: tuple[int, ...]) -> Choice:
        choices.append(Choice(name, kind, options, len(choices)))
        return choices[-1]

    widths = [choice(f"width{i}", "width", tuple(range(8, 72, 8))) for i in range(OPS + 1)]
    ops = []
    for i in range(OPS):
        w_bits = choice(f"w{i}", "weight_bits", (2, 4, 8))
        in_bits = choice(f"a{i}", "act_bits", (2, 4, 8))
        axes = (widths[i], widths[i + 1], w_bits, in_bits)

        def make(values, names=tuple(c.name for c in axes)) -> OpSpec:  # type: ignore[no-untyped-def]
            c_in, c_out, w, a = (values[name] for name in names)
            return OpSpec("conv2d", 1, c_in, c_out, 16, 16, (3, 3), w_bits=w, in_bits=(a,))

        ops.append(SearchOp(f"op{i}", axes, FIELDS, make, (f"t{i}",), f"t{i + 1}"))
    return choices, ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    choices, ops = network()
    start = time.perf_counter()
    stacked = ExpectedCost(ops, Product(), choices)
    print(f"built from {sum(1 for op in ops for _ in op.grid())} cells in {time.perf_counter() - start:.2f} s")
    grids = [(torch.tensor(t.grid, dtype=torch.float32), t.choices) for t in op_terms(ops, Product())]

    def single(gates: Gates) -> Tensor:
        letters = "abcdefgh"
        parts = []
        for grid, axes in grids:
            used = letters[: len(axes)]
            parts.append(torch.einsum(f"{used},{','.join(used)}->", grid, *(gates.of(c) for c in axes)))
        return torch.stack(parts).sum()

    mask = torch.zeros(len(choices), 8)
    for c in choices:
        mask[c.index, len(c.options) :] = -torch.inf
    alpha = torch.randn(mask.shape, requires_grad=True)

    def step(cost: Callable[[Gates], Tensor]) -> tuple[float, float]:
        start = time.perf_counter()
        value = cost(Gates(torch.softmax(alpha + mask, 1)))
        value.backward()
        return 1e3 * (time.perf_counter() - start), value.item()

    pairs = [(step(stacked), step(single)) for _ in range(args.repeats)]
    assert abs(pairs[0][0][1] / pairs[0][1][1] - 1) < 1e-4, "the two forms disagree"
    for name, column in (("stacked", 0), ("one einsum per op", 1)):
        print(f"{name}: {statistics.median(pair[column][0] for pair in pairs):.2f} ms forward and backward")


if __name__ == "__main__":
    main()
