"""Forms against one einsum each, in value and gradient; which shapes share a stack."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from cost_models.multilinear import FEW_CELLS, Forms, prod, shared_shapes

ROWS, COLUMNS = 6, 5
LETTERS = "abcdef"


def random_forms(seed: int) -> tuple[list[np.ndarray], list[list[int]]]:
    """Of ranks 0 to 5, axes of 1 to COLUMNS cells, rows in any order."""
    rng = np.random.default_rng(seed)
    ranks = [0, 5, *rng.integers(0, 6, 12)]
    grids = [rng.normal(size=rng.integers(1, COLUMNS + 1, rank)) for rank in ranks]
    return grids, [list(rng.permutation(ROWS)[:rank]) for rank in ranks]


def reference(weights: Tensor, grid: np.ndarray, rows: list[int]) -> Tensor:
    if not rows:
        return torch.tensor(float(grid), dtype=weights.dtype)
    used = LETTERS[: len(rows)]
    vectors = [weights[row, :size] for row, size in zip(rows, grid.shape)]
    return torch.einsum(f"{used},{','.join(used)}->", torch.from_numpy(grid), *vectors)


@pytest.mark.parametrize("seed", range(4))
def test_forms_are_the_sums_and_gradients_of_their_cells(seed: int) -> None:
    grids, axes = random_forms(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(ROWS, COLUMNS, dtype=torch.float64, generator=generator, requires_grad=True)
    values = Forms(grids, axes, ROWS, COLUMNS)(weights)
    wanted = torch.stack([reference(weights, grid, rows) for grid, rows in zip(grids, axes)])
    torch.testing.assert_close(values, wanted, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(len(grids), dtype=torch.float64, generator=generator)
    got, expected = (torch.autograd.grad(v @ upstream, weights)[0] for v in (values, wanted))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_the_weights_decide_the_precision_and_a_copy_computes_the_same() -> None:
    grids, axes = random_forms(1)
    forms, weights = Forms(grids, axes, ROWS, COLUMNS), torch.rand(ROWS, COLUMNS, dtype=torch.float64)
    exact, single = forms(weights), forms(weights.float())
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(copy.deepcopy(forms)(weights), exact)


def test_without_forms_or_axes() -> None:
    weights = torch.rand(ROWS, COLUMNS, requires_grad=True)
    assert Forms([], [], ROWS, COLUMNS)(weights).shape == (0,)
    (value,) = Forms([np.array(2.5)], [[]], ROWS, COLUMNS)(weights)
    (gradient,) = torch.autograd.grad(value, weights)
    assert value.item() == 2.5 and not gradient.any()


def test_other_weights_are_refused() -> None:
    forms = Forms([np.ones(COLUMNS)], [[0]], ROWS, COLUMNS)
    with pytest.raises(ValueError, match=r"weights \(6, 4\); the forms read \(6, 5\)"):
        forms(torch.rand(ROWS, COLUMNS - 1))


def test_small_shapes_share_a_stack_and_large_ones_grow_fourfold_at_most() -> None:
    shapes = [(), (8,), (8, 3), (8, 8, 3), (8, 8, 3, 3), (9, 2), (64, 16, 3), (60, 15, 3), (40, 30), (4, 4, 4, 4, 4, 4)]
    found = shared_shapes(shapes)
    assert found[()] == () and found[(9, 2)] == (9, 2)  # wider than what has few cells
    assert {found[shape] for shape in ((8,), (8, 3), (8, 8, 3))} == {(8, 8, 3, 3)}
    assert found[(60, 15, 3)] == (64, 16, 3) and found[(40, 30)] == (40, 30)
    for shape, into in found.items():
        assert prod(into) <= max(FEW_CELLS, 4 * prod(shape)) or into == shape
        assert all(a <= b for a, b in zip(shape, into)) and len(shape) <= len(into)
