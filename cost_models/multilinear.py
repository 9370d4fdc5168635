"""Values and gradients of many multilinear forms at once, few operators each: every form is

    f(w_1, w_2, ...) = sum over cells of G[i, j, ...] w_1[i] w_2[j] ...

Its gradient for w_k is the contraction of G with all the others, so the value is the gradient times w_k, for any k.
With the axes in two halves, u and v their outer products, and G as a matrix M, the gradients of the first half are
those of the form M v, of the second those of u M.

Forms of like shapes are computed together: axes are sorted by size, and a smaller grid is padded with zeros to the
shape of a larger one, where an axis that it has not reads the constant (1, 0, ..).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FEW_CELLS, MORE_CELLS = 1024, 4
"""A grid is padded to few cells, where calls cost more than arithmetic, or to so many times its own."""
Shape = tuple[int, ...]


def _outer(vectors: Sequence[Tensor]) -> Tensor:
    """(forms, n_1), (forms, n_2), ... -> (forms, n_1 n_2 ...), the last fastest."""
    product = vectors[0]
    for vector in vectors[1:]:
        product = (product.unsqueeze(2) * vector.unsqueeze(1)).flatten(1)
    return product


def gradients(grids: Tensor, vectors: Sequence[Tensor]) -> list[Tensor]:
    """Of every form for each of its vectors. grids: (forms, n_1 n_2 ...); vectors: (forms, n_i)."""
    if len(vectors) == 1:
        return [grids]
    half = len(vectors) // 2
    left, right = vectors[:half], vectors[half:]
    u, v = _outer(left), _outer(right)
    matrices = grids.view(len(grids), u.shape[1], v.shape[1])
    first = torch.bmm(matrices, v.unsqueeze(2)).squeeze(2)
    second = torch.bmm(u.unsqueeze(1), matrices).squeeze(1)
    return gradients(first, left) + gradients(second, right)


@dataclass(frozen=True)
class Layout:
    """shapes: one per stack of forms; forms: how many in each; sizes: of the vectors' cells, by stack and axis."""

    shapes: tuple[Shape, ...]
    forms: tuple[int, ...]
    sizes: tuple[int, ...]


class _Multilinear(torch.autograd.Function):
    """(weights, keep, ...) -> (forms,) with gradients for the weights alone.

    keep: the constant row behind the weights. cells: which of the flat weights the vectors hold, by stack, axis, form
    and option; owners: the form of each; order: of the forms among those of all stacks; grids: one per stack.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, keep: Tensor, layout: Layout, cells: Tensor, owners: Tensor, order: Tensor,
                *grids: Tensor) -> Tensor:  # fmt: skip
        read = iter(torch.cat([weights, keep]).take(cells).split(layout.sizes))
        values, found = [weights.new_zeros(0)], [weights.new_zeros(0)]
        for shape, forms, grid in zip(layout.shapes, layout.forms, grids):
            vectors = [next(read).view(forms, options) for options in shape]
            if not vectors:
                values.append(grid.flatten())
                continue
            each = gradients(grid, vectors)
            values.append((each[0] * vectors[0]).sum(1))
            found += [gradient.reshape(-1) for gradient in each]
        ctx.rows, ctx.columns = weights.shape
        ctx.save_for_backward(torch.cat(found), cells, owners)
        return torch.cat(values)[order]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:  # type: ignore[override]
        found, cells, owners = ctx.saved_tensors
        flat = found.new_zeros((ctx.rows + 1) * ctx.columns).index_add_(0, cells, found * upstream[owners])
        return flat.view(-1, ctx.columns)[:-1], *[None] * (len(ctx.needs_input_grad) - 1)


class Forms(nn.Module):
    """forward(weights (rows, columns)) -> (forms,), in the weights' dtype; first derivatives alone.

    grids: one per form, any rank; axes: per form, the row of the weights that each axis of its grid is contracted with.
    An axis may be shorter than a row, whose other cells do not count.
    """

    cells: Tensor
    owners: Tensor
    order: Tensor

    def __init__(self, grids: Sequence[np.ndarray], axes: Sequence[Sequence[int]], rows: int, columns: int):
        super().__init__()
        self.rows, self.columns = rows, columns
        orders = [np.argsort([-size for size in grid.shape], kind="stable") for grid in grids]
        stacks: dict[Shape, list[int]] = {}
        shapes = [tuple(grid.shape[i] for i in order) for grid, order in zip(grids, orders)]
        stack_of = shared_shapes(shapes)
        for form, shape in enumerate(shapes):
            stacks.setdefault(stack_of[shape], []).append(form)
        none = np.zeros(0, np.int64)
        cells, owners = [none], [none]
        for i, (shape, members) in enumerate(stacks.items()):
            padded = [_padded(grids[m].transpose(orders[m]), shape).ravel() for m in members]
            self.register_buffer(f"grids{i}", torch.from_numpy(np.stack(padded)), persistent=False)
            for axis, options in enumerate(shape):
                read = [axes[m][orders[m][axis]] if axis < len(orders[m]) else rows for m in members]
                cells.append((np.array(read)[:, None] * columns + np.arange(options)).ravel())
                owners.append(np.repeat(members, options))
        self.layout = Layout(tuple(stacks), tuple(map(len, stacks.values())), tuple(map(len, cells[1:])))
        order = np.array([m for members in stacks.values() for m in members], np.int64).argsort()
        for name, values in (("cells", np.concatenate(cells)), ("owners", np.concatenate(owners)), ("order", order)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.register_buffer("keep", torch.eye(1, columns, dtype=torch.float64), persistent=False)
        self._cast: tuple[Tensor, ...] = ()

    def forward(self, weights: Tensor) -> Tensor:
        if weights.shape != (self.rows, self.columns):
            raise ValueError(f"weights {tuple(weights.shape)}; the forms read {(self.rows, self.columns)}")
        keep, *grids = self._constants(weights)
        found: Tensor = _Multilinear.apply(weights, keep, self.layout, self.cells, self.owners, self.order, *grids)
        return found

    def _constants(self, like: Tensor) -> tuple[Tensor, ...]:
        """`keep` and the grids in the dtype and on the device of a tensor."""
        if not self._cast or self._cast[0].dtype != like.dtype or self._cast[0].device != like.device:
            names = ("keep", *(f"grids{i}" for i in range(len(self.layout.shapes))))
            self._cast = tuple(self.get_buffer(name).to(like) for name in names)
        return self._cast


def shared_shapes(shapes: Iterable[Shape]) -> dict[Shape, Shape]:
    """By shape, sizes falling, the one that its grids are padded to: the largest that covers it and has few cells, or
    not many more than itself."""
    kept: list[Shape] = []
    found = {}
    for shape in sorted(set(shapes), key=lambda shape: (-prod(shape), shape)):
        most = max(FEW_CELLS, MORE_CELLS * prod(shape))
        covering = (k for k in kept if shape and prod(k) <= most and _covers(k, shape))
        found[shape] = next(covering, shape)
        if found[shape] == shape:
            kept.append(shape)
    return found


def _covers(large: Shape, small: Shape) -> bool:
    return len(large) >= len(small) and all(a >= b for a, b in zip(large, small))


def _padded(grid: np.ndarray, shape: Shape) -> np.ndarray:
    """With zeros behind every axis, and more axes behind."""
    padded = np.zeros(shape)
    own = grid.shape + (1,) * (len(shape) - grid.ndim)
    padded[tuple(map(slice, own))] = grid.reshape(own)
    return padded
