"""Fake quantization with learned step sizes (LSQ, Esser et al. 2020), mixed over bit options in one operator.

Q_s(x) = s clamp(round(x / s), low, high), and a mix over options is  m sum_i p_i Q_{s_i}(x)  with the channel mask m.
The backward is derived by hand, so that one pass over x serves all options:

  d/dx   = m g sum_i p_i [low_i < x / s_i < high_i]                 (straight-through estimator; the ends excluded)
  d/ds_i = p_i sum m g (round(v) - v inside, clamp(v) outside) / sqrt(N high_i),  v = x / s_i     (LSQ, eq. 3 and 2.2)
  d/dp_i = sum m g Q_{s_i}(x),   d/dm = sum g sum_i p_i Q_{s_i}(x)

N is the number of elements that share a step: of one image for activations, of one output channel for weights. A signed
bit, whose codes are -1 and 0, counts as high = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_STEP = 1e-12
AGAIN = "quantize_again"
"""The attribute of a quantized tensor that computes it again, for `kept_as_input`."""


def weight_range(bits: int) -> tuple[int, int]:
    """Symmetric: [-(2^(b-1) - 1), 2^(b-1) - 1]; 2 bits is ternary."""
    return -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1


def zero_point(bits: int, signed: bool) -> int:
    """Of activations stored as unsigned codes: 0 after a ReLU, else 2^(b-1)."""
    return 2 ** (bits - 1) if signed else 0


def act_range(bits: int, signed: bool) -> tuple[int, int]:
    """Codes minus zero point: [0, 2^b - 1] or [-2^(b-1), 2^(b-1) - 1]."""
    zero = zero_point(bits, signed)
    return -zero, 2**bits - 1 - zero


Ranges = tuple[tuple[int, int], ...]


PIECE_BYTES = 512 * 1024
"""Activations larger than that are quantized some images at a time, on a CPU: what is computed on the way then stays in
a core's second-level cache, where it would go to memory and back several times."""


def _pieces(x: Tensor, steps: Tensor) -> list[slice]:
    """Ranges of images to quantize at a time. Weights, which have steps of their own, and compiled code, which needs no
    tensors on the way, are taken whole."""
    whole = steps.dim() > 1 or torch.compiler.is_compiling() or not x.is_cpu
    images = len(x) if whole or not len(x) else max(PIECE_BYTES // (x[0].numel() * x.element_size()), 1)
    return [slice(first, first + images) for first in range(0, len(x), max(images, 1))] or [slice(None)]


def _mix(x: Tensor, p: Tensor | None, steps: Tensor, mask: Tensor | None, ranges: Ranges) -> Tensor:
    pieces = _pieces(x, steps)
    if len(pieces) == 1:
        return _mix_piece(x, p, steps, mask, ranges)
    mix = torch.empty_like(x)
    for piece in pieces:
        mix[piece] = _mix_piece(x[piece], p, steps, mask, ranges)
    return mix


def _mix_piece(x: Tensor, p: Tensor | None, steps: Tensor, mask: Tensor | None, ranges: Ranges) -> Tensor:
    mix: Any = None
    for i, (low, high) in enumerate(ranges):
        scale = steps[i] if p is None else p[i] * steps[i]
        term = (x / steps[i]).round_().clamp_(low, high).mul_(scale)
        mix = term if mix is None else mix.add_(term)
    return mix if mask is None else mix.mul_(mask)


class _MixQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p, steps, mask, ranges, count):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x, p, steps, mask)
        ctx.ranges, ctx.count = ranges, count
        return _mix(x, p, steps, mask, ranges)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def, override]
        x, p, steps, mask = ctx.saved_tensors
        pieces = _pieces(x, steps)
        if len(pieces) == 1:
            grad_x, sums = _descend(g, x, p, steps, mask, ctx.ranges)
        else:
            grad_x, parts = torch.empty_like(x), []
            for piece in pieces:
                grad_x[piece], part = _descend(g[piece], x[piece], p, steps, mask, ctx.ranges)
                parts.append(part)
            sums = [[torch.stack(some).sum(0) for some in zip(*each)] for each in zip(*parts)]
        return (grad_x, *_parameters(ctx, p, steps, mask, *sums), None, None)


Sums = list[list[Tensor]]


def _descend(g: Tensor, x: Tensor, p: Tensor | None, steps: Tensor, mask: Tensor | None,
             ranges: Ranges) -> tuple[Tensor, Sums]:  # fmt: skip
    """The gradient of x, and per option two sums over x that those of the parameters are made of: of m g v inside, and
    of g clamp(round(v)); apart by step, or by what the mask keeps apart."""
    per_mask = torch.Size([1] * x.dim()) if mask is None else mask.shape
    reduced = steps.shape[1:] if steps.dim() > 1 else per_mask
    gm = g if mask is None else (g * mask).to(g.dtype)
    grad: Any = None
    ramps, shares = [], []
    for i, (low, high) in enumerate(ranges):
        v = x / steps[i]
        inside = torch.ops.aten.hardtanh_backward(gm, v, low, high)  # gm where low < v < high, else 0
        ramps.append((inside * v).to(steps.dtype).sum_to_size(reduced))
        shares.append(v.round_().clamp_(low, high).mul_(g).to(steps.dtype).sum_to_size(reduced))
        if p is not None:
            inside.mul_(p[i])
        grad = inside if grad is None else grad.add_(inside)
    return grad, [ramps, shares]


def _parameters(ctx, p, steps, mask, ramps, shares):  # type: ignore[no-untyped-def]
    """Gradients of p, steps and mask, from sums over x."""
    grad_p, grad_steps, grad_mask = [], [], None
    for i, (_, high) in enumerate(ctx.ranges):
        step, share = steps[i], shares[i]
        masked = share if mask is None else share * mask
        if ctx.needs_input_grad[1]:
            grad_p.append((masked * step).sum())
        if ctx.needs_input_grad[2]:
            scale = (ctx.count * max(high, 1)) ** 0.5
            error = (masked.sum_to_size(step.shape) - ramps[i].sum_to_size(step.shape)) / scale
            grad_steps.append(error if p is None else error * p[i])
        if ctx.needs_input_grad[3]:
            term = share * step if p is None else share * (p[i] * step)
            grad_mask = term if grad_mask is None else grad_mask + term
    return torch.stack(grad_p) if grad_p else None, torch.stack(grad_steps) if grad_steps else None, grad_mask


def mix_quantize(x: Tensor, p: Tensor | None, steps: Tensor, mask: Tensor | None, ranges: Ranges, count: int) -> Tensor:
    """m sum_i p_i Q_{s_i}(x) with gradients for x, p, steps and mask (module docstring).

    x: any shape. p: (options,), or None for a single option of weight 1. steps: (options, *s) where s broadcasts to
    x. mask: broadcasts to x, or None. ranges: (low, high) per option. count: elements that share a step.
    """
    return _MixQuantize.apply(x, p, steps, mask, ranges, count)


def options(rows: Tensor, active: list[int]) -> Tensor:
    """Rows at ascending positions. Of all of them `rows` itself; never by a list of indices, which a GPU would be sent,
    and waited for, in every layer of every step."""
    return rows if len(active) == len(rows) else torch.stack([rows[i] for i in active])


def kept_as_input(y: Tensor) -> AbstractContextManager[Any]:
    """Within, what keeps y for its backward keeps how to compute it instead: quantizers keep their inputs anyway, so
    y is not worth its memory (recomputation: Chen et al. 2016, arXiv:1604.06174). y: of an ActQuantizer; of any other
    tensor, and in compiled code, which decides by itself, nothing changes."""
    again = None if torch.compiler.is_compiling() else getattr(y, AGAIN, None)
    if again is None:
        return nullcontext()
    at, shape = y.data_ptr(), y.shape

    def pack(saved: Tensor) -> Tensor | Callable[[], Tensor]:
        return again if saved.data_ptr() == at and saved.shape == shape else saved

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept if isinstance(kept, Tensor) else kept())


IN_CACHE = 2**15
"""Elements that mse_step works on at once, where one candidate has no more: fewer calls, all of them in the cache."""


def mse_step(x: Tensor, low: int, high: int, candidates: int = 48) -> Tensor:
    """Step per row of x (rows, n) that minimises the squared quantization error, by a grid over the clipping range."""
    bound = torch.maximum(x.amax(1) / max(high, 1), x.amin(1) / min(low, -1) if low < 0 else x.new_zeros(len(x)))
    bound = bound.clamp_min(1e-8)
    shares = 1 - torch.arange(candidates, dtype=torch.float64) / (candidates * (1.05 if high > 1 else 1.02))
    steps = bound * shares.to(bound)[:, None]  # (candidates, rows)
    errors, several = torch.empty_like(steps), max(1, IN_CACHE // x.numel())
    room = x.new_empty(min(several, candidates), *x.shape)
    for first in range(0, candidates, several):
        some = steps[first : first + several, :, None]
        error = torch.div(x, some, out=room[: len(some)]).round_().clamp_(low, high).mul_(some).sub_(x).square_()
        torch.sum(error, 2, out=errors[first : first + several])
    return steps.gather(0, errors.argmin(0, keepdim=True))[0]


class ActQuantizer(nn.Module):
    """Quantizer of one activation tensor: one learned step per bit option; the single option 32 is the identity."""

    def __init__(self, bits: tuple[int, ...], signed: bool):
        super().__init__()
        self.bits, self.signed = bits, signed
        self.step = nn.Parameter(torch.ones(len(bits))) if bits != (32,) else None

    def forward(self, x: Tensor, p: Tensor | None, active: list[int], mask: Tensor | None) -> Tensor:
        """x (n, C, H, W), mask (C,) or None -> quantized and masked x. `active`: positions of the options to run."""
        mask = None if mask is None else mask.view(1, -1, 1, 1)
        if self.step is None:
            return x if mask is None else x * mask
        ranges = tuple(act_range(self.bits[i], self.signed) for i in active)
        steps = options(self.step, active).abs().clamp_min(SMALLEST_STEP)
        p = None if p is None else options(p, active)
        y = mix_quantize(x, p, steps, mask, ranges, x[0].numel())
        if not torch.compiler.is_compiling() and y.requires_grad:
            setattr(y, AGAIN, partial(torch.no_grad()(_mix), x, p, steps, mask, ranges))
        return y

    @torch.no_grad()
    def calibrate(self, values: Tensor) -> None:
        """Set every step from a sample of the tensor's values, any shape."""
        if self.step is not None:
            rows = values.reshape(1, -1)
            for i, bits in enumerate(self.bits):
                self.step[i] = mse_step(rows, *act_range(bits, self.signed))[0].item()
