import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from supernet import quantizers
from supernet.quantizers import (
    ActQuantizer,
    act_range,
    kept_as_input,
    mix_quantize,
    mse_step,
    weight_range,
    zero_point,
)


def reference(x, p, steps, mask, ranges, count):
    """The formula of the module, left to autograd: straight-through rounding, LSQ's gradient scale on the step."""
    y = 0
    for i, (low, high) in enumerate(ranges):
        scale = 1 / (count * max(high, 1)) ** 0.5
        step = steps[i] * scale + (steps[i] * (1 - scale)).detach()
        v = (x / step).clamp(low, high)
        y = y + p[i] * ((v.round() - v).detach() + v) * step
    return y * mask


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_gradients_equal_autograd_of_the_formula(signed, images, monkeypatch):
    """images: that are quantized at a time."""
    monkeypatch.setattr(quantizers, "PIECE_BYTES", images * 4 * 5 * 5 * 8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=generator)
    ranges = tuple(act_range(b, signed) for b in (1, 2, 4, 8))
    leaves = [
        x,
        torch.tensor([0.1, 0.1, 0.5, 0.3], dtype=torch.float64),
        torch.tensor([1.3, 0.7, 0.2, 0.01], dtype=torch.float64),
        torch.rand(1, 4, 1, 1, dtype=torch.float64, generator=generator),
    ]
    upstream = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    results = []
    for function in (mix_quantize, reference):
        inputs = [leaf.clone().requires_grad_() for leaf in leaves]
        y = function(*inputs, ranges, x[0].numel())
        results.append((y, torch.autograd.grad((y * upstream).sum(), inputs)))
    (y, got), (expected, wanted) = results
    torch.testing.assert_close(y, expected)
    for a, b in zip(got, wanted):
        torch.testing.assert_close(a, b)


def test_an_image_at_a_time_keeps_layout_and_type(monkeypatch):
    x = torch.randn(5, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    p, steps = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.1])
    results = []
    for size in (1, 2**30):
        monkeypatch.setattr(quantizers, "PIECE_BYTES", size)
        given = x.clone().requires_grad_()
        y = mix_quantize(given, p, steps, torch.rand(1, 8, 1, 1).round(), ((0, 3), (0, 15)), 288)
        y.sum().backward()
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert given.grad.is_contiguous(memory_format=torch.channels_last)
        results.append(quantizers._pieces(x, steps))
    assert results == [[slice(i, i + 1) for i in range(5)], [slice(0, 2**30 // (288 * 4))]]
    assert quantizers._pieces(x[:0], steps) == [slice(None)]
    assert mix_quantize(x[:0], p, steps, None, ((0, 3), (0, 15)), 288).shape == (0, 8, 6, 6)


def test_per_channel_steps_reduce_to_their_shape():
    w = torch.randn(6, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    steps = torch.full((2, 6, 1, 1, 1), 0.1, dtype=torch.float64)
    ranges = (weight_range(2), weight_range(8))
    p = torch.tensor([0.4, 0.6], dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (w, p, steps)]
    got = torch.autograd.grad(mix_quantize(*inputs, None, ranges, 27).sum(), inputs)
    again = [t.clone().requires_grad_() for t in (w, p, steps)]
    wanted = torch.autograd.grad(reference(*again, 1.0, ranges, 27).sum(), again)
    for a, b in zip(got, wanted):
        torch.testing.assert_close(a, b)


def test_codes_and_zero_points():
    assert weight_range(2) == (-1, 1)
    assert weight_range(8) == (-127, 127)
    assert act_range(4, signed=False) == (0, 15)
    assert act_range(4, signed=True) == (-8, 7)
    assert (zero_point(8, True), zero_point(8, False)) == (128, 0)


def test_values_lie_on_the_grid_and_masked_channels_are_exact_zeros():
    quantizer = ActQuantizer((4,), signed=True)
    with torch.no_grad():
        quantizer.step.fill_(0.25)
    x = torch.linspace(-5, 5, 32).view(1, 2, 4, 4)
    y = quantizer(x, None, [0], torch.tensor([1.0, 0.0]))
    codes = y[:, 0] / 0.25
    assert torch.equal(codes, codes.round())
    assert codes.min() == -8
    assert not y[:, 1].any()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(3, 4000), (5, 60), (2, 40000)])
def test_mse_step_is_the_best_of_its_grid_and_beats_its_neighbours(bits, shape):
    """Whether a block of candidates is two of them, all or one."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    low, high = weight_range(bits)

    def error(step):
        return ((x / step[:, None]).round().clamp(low, high) * step[:, None] - x).square().sum(1)

    best = mse_step(x, low, high)
    bound = torch.maximum(x.amax(1) / high, x.amin(1) / low)
    grid = [bound * (1 - k / (48 * (1.05 if high > 1 else 1.02))) for k in range(48)]
    errors = torch.stack([error(step) for step in grid])
    torch.testing.assert_close(error(best), errors.amin(0), rtol=1e-5, atol=0)
    for factor in (0.8, 1.25):
        assert (error(best) <= error(best * factor)).all()
    assert (error(best) <= error(x.abs().amax(1) / high)).all()


def convolved(kept):
    """(y, of a quantized x; gradients of a convolution of it) with what keeps y, or how to make it."""
    torch.manual_seed(0)
    quantizer = ActQuantizer((4, 8), signed=True)
    x, weight = torch.randn(2, 6, 9, 9, requires_grad=True), torch.randn(5, 6, 3, 3, requires_grad=True)
    p, mask = torch.tensor([0.3, 0.7], requires_grad=True), torch.rand(6, requires_grad=True)
    quantizer.calibrate(x.detach())
    y = quantizer(x, p, [0, 1], mask)
    with kept(y):
        out = F.conv2d(y, weight, padding=1)
    y = weakref.ref(y)
    return y, out, lambda: torch.autograd.grad(out.square().sum(), [x, weight, p, mask, quantizer.step])


def test_a_convolution_keeps_how_to_make_its_input_and_not_the_input():
    """The same gradients, to the bit, and the quantized tensor is gone before the backward."""
    (plain, _, wanted), (gone, _, got) = convolved(nullcontext), convolved(kept_as_input)
    gc.collect()
    assert plain() is not None and gone() is None
    for a, b in zip(got(), wanted()):
        assert torch.equal(a, b)


def test_what_no_quantizer_made_is_kept():
    y = torch.randn(2, 3, requires_grad=True)
    assert isinstance(kept_as_input(y), nullcontext)
    with torch.no_grad():
        assert isinstance(kept_as_input(ActQuantizer((8,), signed=True)(y, None, [0], None)), nullcontext)
