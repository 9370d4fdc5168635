"""Programs of one operator, and how far their export is from the reference."""

from dataclasses import replace

import numpy as np
import torch

from deploy.integer import CLAMPED
from deploy.integer import KINDS as REFERENCE
from deploy.lower import fixed_point
from deploy.onnx_check import session
from deploy.onnx_export import OUTPUT, to_onnx
from deploy.program import Op, Program, Tensor
from lut.spec import OpSpec


def lone(spec, zeros, out_zero, low=None, high=None, seed=0, second=None):
    """A program of one operator with random constants; its inputs `a` and `b`. second: spatial size of `b`."""
    rng = np.random.default_rng(seed)
    scales = [0.02, 0.0531]
    tensors = {}
    for name, bits, zero, scale in zip("ab", spec.in_bits, zeros, scales):
        size = (1, 1) if spec.kind == "linear" else (spec.height, spec.width)
        if name == "b":
            size = second or (size if spec.kind != "conv2d_add" else spec.out_size())
        channels = spec.c_out if name == "b" else spec.c_in
        tensors[name] = Tensor(name, *size, channels, bits, zero, scale)
    levels = 2 ** min(spec.out_bits, 8)
    low, high = low if low is not None else 0, high if high is not None else levels - 1
    out = Tensor("y", *spec.out_size(), spec.c_out, spec.out_bits, out_zero, 0.06)
    op = Op("y", spec, tuple(tensors), "y", low=low, high=high)
    if spec.kind in ("conv2d", "conv2d_add", "linear"):
        top = 2 ** (spec.w_bits - 1) - 1
        shape = (spec.c_out, spec.c_in // spec.groups, *spec.kernel)
        weights = rng.integers(-top, top + 1, shape).astype(np.int8)
        spread = 2 ** spec.in_bits[0] / 4 * max(top / 2, 0.7) * np.prod(shape[1:]) ** 0.5
        real = rng.choice([-1, 1], spec.c_out) * rng.uniform(0.5, 1, spec.c_out) * levels / 5 / spread
        real[-1] = 0
        if spec.out_bits == 16:
            low, high, real = -32767, 32767, real * 20
        mult, shift = fixed_point(real, 1 / 64)
        bias = rng.uniform(-1, 1, spec.c_out) * spread * 2**shift
        correction = (weights.reshape(spec.c_out, -1).sum(1).astype(int) * zeros[0]) << shift
        op = replace(op, weights=weights, mult=mult, shift=shift, bias=(bias - correction).astype(np.int32))
        op = replace(op, low=low, high=high)
    elif spec.kind in ("add", "mul", "avg_pool"):
        factor = {"add": 1.0, "mul": scales[1], "avg_pool": 1 / np.prod(spec.kernel)}[spec.kind]
        out = replace(out, scale=0.1 if spec.kind == "add" else 0.03 if spec.kind == "avg_pool" else 0.15)
        mult, shift = fixed_point(np.array([factor * scales[0] / out.scale]))
        op = replace(op, mult=mult, shift=shift)
    elif spec.kind in ("max_pool", "resample"):
        out = replace(out, zero=zeros[0], scale=scales[0])
    if spec.kind in ("add", "conv2d_add"):
        mult, shift = fixed_point(np.array([scales[1] / out.scale]))
        op = replace(op, res_mult=int(mult[0]), res_shift=shift)
    if spec.kind == "unary":
        op = replace(op, table=rng.integers(0, levels, 2 ** spec.in_bits[0]).astype(np.uint8))
    if spec.kind == "resample":
        op = replace(op, gather=np.array([-1, 2, 0, -1, 1, 1], np.int32))
    return Program((op,), tensors | {"y": out}, "a", ("y",), "lone")


def steps(program, seed=1):
    """(difference in codes, the reference's codes) on random input codes."""
    rng = np.random.default_rng(seed)
    (op,) = program.ops
    given = {
        name: rng.integers(0, 2**t.bits, (6, t.height, t.width, t.channels)).astype(np.uint8)
        for name, t in ((name, program.tensors[name]) for name in op.inputs)
    }
    values = [torch.from_numpy(given[name].astype(np.int64)).permute(0, 3, 1, 2) for name in op.inputs]
    reference = REFERENCE[op.spec.kind](op, program, *values).permute(0, 2, 3, 1).numpy()
    if op.spec.kind in CLAMPED:
        reference = reference.clip(op.low, op.high)
    got = session(to_onnx(program)).run([OUTPUT], given)[0]
    if program.tensors["y"].bits == 16:
        got = np.rint(got / program.tensors["y"].scale)
    return np.abs(got.reshape(reference.shape).astype(int) - reference), reference


def spec(kind, c_in=8, c_out=12, size=9, k=3, bits=(8, 8, 8), inputs=1, **more):
    weight, act, out = bits
    given = {"kernel": (k, k), "w_bits": weight, "in_bits": (act,) * inputs, "out_bits": out} | more
    return OpSpec(kind, 1, c_in, c_out, size, size, **given)
