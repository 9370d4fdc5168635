"""What TVM makes of a microcontroller's convolutions, beside the kernels that are deployed.

    python scripts/bench_mcu_tvm.py [--device cortex-m4] [--json]

Three ways, all from one OpSpec, all bit-equal, counted by the device's cycle model:
  deployed      micro-kernels and loops in C (lut/mcu/kernels/)
  TVM's loops   the same micro-kernels in loops that TVM lowers to C: a PrimFunc that calls them by `call_extern`
  TVM alone     the PrimFunc of plain loops that MetaSchedule tunes on other devices (lut/kernels/plain.py), its output
                channels in registers by four, lowered to C: no micro-kernel. 8-bit weights only.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from cost_models.counts import macs
from deploy.program import Op
from lut.cli import guard
from lut.device import Device
from lut.errors import LutError
from lut.kernels import pack as pack_host
from lut.kernels.lowered import lower
from lut.kernels.plain import OUT, SUM, plain
from lut.kernels.signature import NAMES
from lut.mcu import emit, rows
from lut.mcu import pack as pack_mcu
from lut.mcu.image import board_of
from lut.spec import OpSpec
from search.outcome import table as text_table

BITS = (8, 4, 2)
LANES = 4
"""Output channels that TVM's plain loops keep in registers."""
WAYS = ("deployed", "TVM's loops", "TVM alone")


def _square(c_in: int, c_out: int, size: int, k: int) -> OpSpec:
    return OpSpec("conv2d", 1, c_in, c_out, size, size, kernel=(k, k), pad=(k // 2,) * 4)


SHAPES = {
    "3x3 16->16 32x32": _square(16, 16, 32, 3),
    "3x3 64->64 8x8": _square(64, 64, 8, 3),
    "pointwise 64->64 16x16": _square(64, 64, 16, 1),
}

MICRO = """
/* What lives from one call to the next. */
struct run {{
    struct params p;
    uint32_t *column, *end;
    uint8_t *line;
    int32_t start[2];
    struct target first, to;
    const uint32_t *w;
}};
static const struct conv SHAPE = {{{fields}}};

INLINE int32_t stage_pixel(struct run *r, const void *in, int32_t y, int32_t x, int32_t pixel) {{
    const uint32_t sum = stage(SHAPE, in, y, x, r->p.z_in, r->column + pixel, r->line);
    r->start[pixel] = OFFSET(SHAPE) ? -(int32_t)(sum << (SHAPE.bits - 1)) : 0;
    return 0;
}}
INLINE int32_t first_channel(struct run *r, const void *weights) {{
    r->to = r->first, r->w = weights;
    return 0;
}}
INLINE int32_t two_channels(struct run *r, int32_t channel) {{
    int32_t sums[4] = {{r->start[0], r->start[1], r->start[0], r->start[1]}};
    r->w = block(SHAPE.bits, SHAPE.unroll, r->w, r->column, r->end, sums);
    r->w = (const uint32_t *)store_block(SHAPE, &r->p, sums, (const int32_t *)r->w, &r->to, channel, 2);
    return 0;
}}
INLINE int32_t next_pixels(struct run *r) {{
    r->first.out += 2 * PITCH(SHAPE.c_out, SHAPE.out_bits);
    return 0;
}}
"""
BEGIN = """
KERNEL({symbol}) {{
    (void)in2, (void)bias, (void)mult;
    uint32_t *const column = workspace;
    struct run r = {{*(const struct params *)params, column, column + {words}, (uint8_t *)(column + {words}), {{0}},
                    {{0, out, PITCH(SHAPE.c_out, SHAPE.out_bits), 0, 0}}, {{0}}, weights}};
    {symbol}_loops(&r, in, weights);
}}
"""


def _codegen(parameters: list[Any], statements: Any, symbol: str) -> str:
    """C of a function that returns 0, without TVM's head."""
    import tvm
    from tvm import s_tir, tirx
    from tvm.ir import PrimType
    from tvm.tirx.build import codegen_build

    target = tvm.target.Target({"kind": "c"})
    body = statements
    for key, value in (("device_type", 1), ("device_id", 0)):  # LowerTVMBuiltin asks for them: 1 is the CPU
        body = tirx.AttrStmt(tvm.runtime.convert("default"), key, tirx.const(value, "int32"), body)
    body = tirx.SeqStmt([body, tirx.stmt.Return(tirx.const(0, "int32"))])
    function = tirx.PrimFunc(parameters, body, PrimType("int32"))
    function = function.with_attr({"global_symbol": symbol, "calling_conv": 1, "tirx.noalias": True, "target": target})
    module = tvm.IRModule({symbol: function})
    for step in (tirx.transform.StmtSimplify(), s_tir.transform.RewriteUnsafeSelect(), tirx.transform.LowerIntrin()):
        module = step(module)
    source = codegen_build(module, target).inspect_source()
    return "static " + source[source.rindex(f"int32_t {symbol}(") :]


def tvm_loops(made: emit.Kernel) -> emit.Kernel:
    """The deployed kernel's micro-kernels in TVM's loops. spec: even numbers of pixels and of channels."""
    from tvm import tirx
    from tvm.ir import PointerType, PrimType

    spec, symbol = made.spec, f"{made.symbol}_tvm"
    r, given, weights = (tirx.Var(name, PointerType(PrimType("uint8"))) for name in ("r", "in", "weights"))
    i, c = tirx.Var("i", "int32"), tirx.Var("c", "int32")
    out_rows, cols = spec.out_size()

    def call(name: str, *arguments: Any) -> Any:
        return tirx.Evaluate(tirx.call_extern("int32", name, r, *arguments))

    pixels = [2 * i, 2 * i + 1]
    stages = [call("stage_pixel", given, pixel // cols, pixel % cols, at) for at, pixel in enumerate(pixels)]
    channels = tirx.For(c, 0, spec.c_out // 2, tirx.ForKind.SERIAL, call("two_channels", 2 * c))
    body = tirx.SeqStmt([*stages, call("first_channel", weights), channels, call("next_pixels")])
    loops = tirx.For(i, 0, out_rows * cols // 2, tirx.ForKind.SERIAL, body)
    head, _, rest = made.source.partition("KERNEL(")
    fields = rest.partition("{")[2].partition("= {")[2].partition("};")[0]
    words = spec.kernel[0] * spec.kernel[1] * spec.c_in  # a column of halfwords of two pixels, in words
    code = _codegen([r, given, weights], loops, f"{symbol}_loops").replace("uint8_t* r", "struct run *r")
    source = head + MICRO.format(fields=fields) + code + BEGIN.format(symbol=symbol, words=words)
    return replace(made, symbol=symbol, source=source)


def tvm_alone(made: emit.Kernel) -> emit.Kernel:
    """Plain loops: padded once; per pixel and LANES channels the sums, then the epilogue."""
    from tvm import s_tir, tirx

    function, names = plain(made.spec, "llvm")
    schedule = s_tir.Schedule(function)
    total = schedule.get_sblock(SUM)
    y, x, o, ky, kx, c = schedule.get_loops(total)
    block, lane = schedule.split(o, [None, LANES])
    schedule.reorder(y, x, block, ky, kx, c, lane)
    schedule.unroll(lane)
    schedule.reverse_compute_at(schedule.get_sblock(OUT), block)
    schedule.decompose_reduction(total, ky)
    lowered = lower(schedule.mod, names)
    declared = [tirx.stmt.DeclBuffer(buffer, data=pointer) for pointer, buffer in lowered.arguments]
    symbol = f"{made.symbol}_alone"
    parameters = [pointer for pointer, _ in lowered.arguments]
    code = _codegen(parameters, tirx.SeqStmt([*declared, lowered.statements]), f"{symbol}_loops")
    given = ", ".join(f"(void *){name}" for name in NAMES)
    source = f'#include "kernel.h"\n\n{code}\nKERNEL({symbol}) {{ {symbol}_loops({given}); }}\n'
    arguments = pack_host.arguments(made.spec, "llvm", lowered.workspace_bytes)
    return replace(made, symbol=symbol, source=source, sizes={arg.name: arg.bytes for arg in arguments})


def constants(spec: OpSpec) -> tuple[Op, list[int], int]:
    """Random ones, whose outputs fill the range of codes; zero points of input and output."""
    rng, top = np.random.default_rng(0), (1 << (spec.w_bits - 1)) - 1
    weights = rng.integers(-top, top + 1, (spec.c_out, spec.c_in, *spec.kernel)).astype(np.int8)
    spread = 2.0**32 * 64 / (255 * top * 0.3 * weights[0].size ** 0.5)
    mult = (rng.uniform(0.3, 1, spec.c_out) * spread / 2).astype(np.int32) * 2
    bias = rng.integers(-1000, 1000, spec.c_out).astype(np.int32)
    return Op("conv", spec, ("a",), "b", weights=weights, bias=bias, mult=mult), [128], 100


def bench(device: Device) -> list[dict[str, Any]]:
    """One record per shape and weight bits. LutError when outputs differ."""
    records = []
    for name, shape in SHAPES.items():
        for bits in BITS:
            made = emit.kernel(replace(shape, w_bits=bits))
            op, zeros, zero = constants(made.spec)
            image = np.random.default_rng(1).integers(0, 256, made.sizes["in"]).astype(np.uint8)
            own = {"in": image, **pack_mcu.pack_constants(op, zeros, zero, board_of(device).order)}
            kernels, given = [made, tvm_loops(made)], [own, own]
            if bits == 8:
                kernels.append(tvm_alone(made))
                given.append({"in": image, **pack_host.pack_constants(op, "llvm", zeros, zero)})
            results = rows.execute(device, kernels, given)
            first = results[0].output
            if len(np.unique(first)) < 16 or any(not np.array_equal(first, r.output) for r in results):
                raise LutError(f"{name}, {bits}-bit weights: outputs differ, or say nothing")
            records.append({"kernel": name, "w_bits": bits, **{way: round(r.cycles / macs(made.spec), 3)
                                                               for way, r in zip(WAYS, results)}})  # fmt: skip
    return records


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cortex-m4", help="a Cortex-M with the DSP extension (%(default)s)")
    p.add_argument("--json", action="store_true", help="print records as JSON")
    args = p.parse_args(argv)

    def run() -> int:
        records = bench(Device.load(args.device))
        if args.json:
            print(json.dumps(records, indent=1))
            return 0
        cells = [("cycles / MAC", "w bits", *WAYS)]
        cells += [
            (r["kernel"], str(r["w_bits"]), *(f"{r[way]:.3f}" if way in r else "-" for way in WAYS)) for r in records
        ]
        print(text_table(cells))
        return 0

    return guard(run, "python scripts/bench_mcu_tvm.py")


if __name__ == "__main__":
    sys.exit(main())
