"""The arithmetic of a convolution or linear layer as plain loops, which MetaSchedule then cuts, moves and vectorises.

    for y, x, o:  acc = bias (float32) or 0
                  for ky, kx, c:  acc += padded[y s + ky d, x s + kx d, c] weights[o, ky, kx, c]
    for y, x, o:  out = the epilogue of acc (lut/kernels/requantize.py)

It reads the same packed weights and run-time values as the template and computes the same bits: integer sums do not
depend on their order, and float32 sums keep the template's (bias first, then ky, kx, c), because the search never
splits the reduction (`metaschedule.py`). `untunable` says for which operators there is no such form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lut.spec import OpSpec

from .depthwise import in_pairs
from .depthwise_dot import dotted
from .intrinsics import dot
from .isa import LANES
from .pack import layout
from .requantize import FLOAT_PARAMS, PARAMS
from .signature import in_dtype, out_dtype
from .tile import Layout

PAD, SUM, OUT = "pad", "sum", "finish"
"""The blocks of loops, by which traces name them."""


def untunable(spec: OpSpec, isa: str, threads: int = 1) -> str | None:
    """None, or why MetaSchedule has nothing to search in the kernel of the row `spec`."""
    if layout(spec) == "none":
        return f"{spec.kind}: only convolutions and linear layers are tuned"
    if threads > 1:
        return f"{threads} threads: tuned kernels have one"
    if spec.is_float:
        return None
    if spec.w_bits != 8:
        return f"{spec.w_bits}-bit weights: unpacking them is written by hand"
    if layout(spec) == "depthwise":
        special = in_pairs(spec, isa) or dotted(spec, isa)
    else:
        special = dot(isa, spec.w_bits, spec.in_bits[0]).reduce > 1
    return f"{isa}: its dot product is an instruction that MetaSchedule would not use" if special else None


Index = Callable[[Any, Any, Any, Any], list[Any]]


def _weights(spec: OpSpec, isa: str) -> tuple[list[int], str, Index]:
    """(shape, dtype) of the packed weights, and where that of output o, tap (ky, kx) and input c of its group is."""
    from tvm import tirx

    div, mod, kw = tirx.floordiv, tirx.floormod, spec.kernel[1]
    how = dot(isa, spec.w_bits, spec.in_bits[0])
    if layout(spec) == "depthwise":
        shape = [-(-spec.c_out // LANES), spec.kernel[0] * kw, LANES]
        return shape, how.weight_dtype, lambda o, ky, kx, c: [div(o, LANES), ky * kw + kx, mod(o, LANES)]
    form, channels = Layout.of(spec, how), spec.c_in // spec.groups

    def index(o: Any, ky: Any, kx: Any, c: Any) -> list[Any]:
        block, lane = _place(spec, o)
        tap, element = (ky, kx * channels + c) if form.merged else (ky * kw + kx, c)
        return [block, tap, element, lane]

    return [form.groups * form.blocks, form.taps, form.vectors, LANES], how.weight_dtype, index


def _place(spec: OpSpec, channel: Any) -> tuple[Any, Any]:
    """(block, lane) of an output channel among those of packed weights and constants."""
    from tvm import tirx

    if spec.groups == 1 or layout(spec) == "depthwise":
        return tirx.floordiv(channel, LANES), tirx.floormod(channel, LANES)
    outputs = spec.c_out // spec.groups
    group, inside = tirx.floordiv(channel, outputs), tirx.floormod(channel, outputs)
    return group * -(-outputs // LANES) + tirx.floordiv(inside, LANES), tirx.floormod(inside, LANES)


def plain(spec: OpSpec, isa: str) -> tuple[Any, tuple[str, ...]]:
    """(TVM's function, the names of its buffers in `signature.NAMES`). spec: a row key that is tunable."""
    from tvm import tirx
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as build

    number = "float32" if spec.is_float else "int32"
    rows, cols = spec.out_size()
    top, left, bottom, right = spec.pad
    (height, width), per_group = (spec.height, spec.width), spec.c_in // spec.groups
    shape, weight_dtype, index = _weights(spec, isa)
    lanes = [shape[0], LANES]
    buffers: dict[str, Any] = {}
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_name("main")

        def argument(name: str, size: list[int], dtype: str) -> Any:
            buffers[name] = build.arg(name, build.Buffer(size, dtype))
            return buffers[name]

        source = argument("in", [height, width, spec.c_in], in_dtype(spec))
        out = argument("out", [rows, cols, spec.c_out], out_dtype(spec))
        weights = argument("weights", shape, weight_dtype)
        bias = argument("bias", lanes, number)
        names = FLOAT_PARAMS if spec.is_float else PARAMS
        values = argument("params", [len(names)], number)
        params = {name: values[position] for position, name in enumerate(names)}
        mult = None if spec.is_float else argument("mult", lanes, "int32")
        residual = argument("in2", [rows, cols, spec.c_out], in_dtype(spec)) if spec.kind == "conv2d_add" else None
        padded = source
        if any(spec.pad):
            tall, wide = top + height + bottom, left + width + right
            padded = build.sblock_alloc_buffer([tall, wide, spec.c_in], in_dtype(spec))
            zero = tirx.const(0.0, "float32") if spec.is_float else params["z_in"].astype("uint8")
            with build.grid(tall, wide, spec.c_in) as loops, build.sblock(PAD):
                y, x, c = (build.axis.spatial(n, i) for n, i in zip((tall, wide, spec.c_in), loops))
                inside = tirx.all(y >= top, y < top + height, x >= left, x < left + width)
                value = build.if_then_else(inside, source[y - top, x - left, c], zero)
                build.buffer_store(padded, value, [y, x, c])
        acc = build.sblock_alloc_buffer([rows, cols, spec.c_out], number)
        spatial, reduced = (rows, cols, spec.c_out), (*spec.kernel, per_group)
        with build.grid(*spatial, *reduced) as loops, build.sblock(SUM):
            y, x, o = (build.axis.spatial(n, i) for n, i in zip(spatial, loops))
            ky, kx, c = (build.axis.reduce(n, i) for n, i in zip(reduced, loops[3:]))
            with build.init():
                start = bias[_place(spec, o)] if spec.is_float else tirx.const(0, "int32")
                build.buffer_store(acc, start, [y, x, o])
            first = 0 if spec.groups == 1 else tirx.floordiv(o, spec.c_out // spec.groups) * per_group
            line, column = (
                at * stride + k * step for at, k, stride, step in zip((y, x), (ky, kx), spec.stride, spec.dilation)
            )
            product = padded[line, column, first + c].astype(number) * weights[index(o, ky, kx, c)].astype(number)
            build.buffer_store(acc, acc[y, x, o] + product, [y, x, o])
        with build.grid(*spatial) as loops, build.sblock(OUT):
            y, x, o = (build.axis.spatial(n, i) for n, i in zip(spatial, loops))
            second = None if residual is None else residual[y, x, o]
            build.reads(acc[y, x, o], *([] if second is None else [second]))  # the constants are no one's output
            build.writes(out[y, x, o])
            constants = (bias[_place(spec, o)], None if mult is None else mult[_place(spec, o)])
            value = _finished(spec, acc[y, x, o], *constants, second, params)
            build.buffer_store(out, value.astype(out_dtype(spec)), [y, x, o])
    return builder.get(), tuple(buffers)


def _finished(spec: OpSpec, total: Any, bias: Any, mult: Any, second: Any, params: dict[str, Any]) -> Any:
    """The epilogue of one sum."""
    from tvm import tirx

    if spec.is_float:
        value = total if second is None else total + second
    else:
        word, half = tirx.const(32, "int64"), tirx.const(1 << 31, "int64")
        high = ((total << params["shift"]) + bias).astype("int64") * mult.astype("int64")
        if second is not None:
            centred = (second.astype("int32") - params["z_res"]) << params["res_shift"]
            high = high + centred.astype("int64") * params["res_mult"].astype("int64")
        value = ((high + (params["z_out"].astype("int64") << word) + half) >> word).astype("int32")
    return tirx.max(tirx.min(value, params["high"]), params["low"])
