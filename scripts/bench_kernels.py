"""Speed of the kernels against each other: float32, and weights and inputs of 8, 4 and 2 bits, same template, same run.

Rows are measured in turn, several rounds, and the fastest window counts: ratios then hold on a noisy machine. In the
same turns runs the bare instruction, its operands in registers: what a row reaches of its products per second is the
row's share of the peak. Beside it, where the CPU has VPOPCNTQ, runs what would multiply codes of 1 and 2 bits plane by
plane (bare_popcount.py).

    python scripts/bench_kernels.py [--isa ISA] [--rounds 8] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys

from lut.errors import InputError
from lut.kernels import Kernel, build, isa_of_host, row_key, target
from lut.kernels.emit import Nest, compile_nest
from lut.kernels.intrinsics import dot
from lut.kernels.isa import LANES, get_isa
from lut.kernels.signature import NAMES, Arg
from lut.profilers.timing import measure
from lut.progress import Progress
from lut.spec import OpSpec
from scripts.bare_popcount import lacking, popcount

BITS = ((32, 32), (8, 8), (8, 4), (4, 8), (4, 4), (2, 8), (2, 4))
"""Of weights and inputs; pairs whose kernels are the same on an instruction set share a measurement."""
SHAPES = {  # name: c_in, c_out, size, kernel, groups
    "16->16 32x32": (16, 16, 32, 3, 1),
    "32->32 16x16": (32, 32, 16, 3, 1),
    "64->64 8x8": (64, 64, 8, 3, 1),
    "dw 96 16x16": (96, 96, 16, 3, 96),
    "1x1 96->24": (96, 24, 16, 1, 1),
    "1x1 64->64": (64, 64, 16, 1, 1),
}


def row(name: str, w_bits: int, in_bits: int) -> OpSpec:
    c_in, c_out, size, k, groups = SHAPES[name]
    return OpSpec(
        "conv2d", 1, c_in, c_out, size, size, (k, k), pad=(k // 2,) * 4, groups=groups,
        w_bits=w_bits, in_bits=(in_bits,), out_bits=32 if w_bits == 32 else 8,
    )  # fmt: skip


def macs(spec: OpSpec) -> int:
    rows, cols = spec.out_size()
    return rows * cols * spec.c_out * spec.c_in // spec.groups * spec.kernel[0] * spec.kernel[1]


BARE_STEPS = 4096
SERIAL_BITS = (1, 2)
"""Of weights and inputs alike, multiplied plane by plane."""


def bare(isa: str, bits: int) -> tuple[Kernel, int] | None:
    """(a kernel that does nothing but multiply and add, with as many sums as tiles have; its products); None where
    that is more than one instruction."""
    how, nest, sums = dot(isa, bits, bits), Nest(), get_isa(isa).blocks
    if bits == 8 and (how.reduce < 4 or how.limit):
        return None
    sizes = {
        "in": (how.staged, 64),
        "weights": (how.weight_dtype, how.vector),
        "workspace": (how.accumulator, sums * LANES),
    }
    args = tuple(Arg(name, *sizes.get(name, ("uint8", 0))) for name in NAMES)
    bound = {arg.name: nest.argument(arg.name, arg.dtype) for arg in args}
    inputs, weights = how.inputs(nest, bound["in"], 0), how.weights(nest, bound["weights"], 0)[0]
    totals = nest.local(how.accumulator, sums * LANES)
    places = [(i * LANES + part * how.lanes, part) for i in range(sums) for part in range(how.parts)]
    for place, _ in places:
        nest.store(totals, place, nest.const(0, how.accumulator, how.lanes), how.lanes)
    with nest.loop(BARE_STEPS):
        for place, part in places:
            total = how.multiply_add(nest, nest.load(totals, place, how.lanes), inputs, weights[part])
            nest.store(totals, place, total, how.lanes)
    for place, _ in places:
        nest.store(bound["workspace"], place, nest.load(totals, place, how.lanes), how.lanes)
    spec = OpSpec("conv2d", 1, 16, 16, 1, 1, w_bits=bits, in_bits=(bits,), out_bits=bits)
    code = compile_nest(nest, f"bare_{bits}", target(isa))
    return Kernel(f"bare_{bits}", spec, isa, code, args, 0, 0), BARE_STEPS * sums * how.vector


def bench(isa: str, rounds: int) -> tuple[dict[int, float], dict[int, float], list[dict[str, object]]]:
    """(peak by bits, 1e9 products a second; the same of popcounts; one record per row: shape, w_bits, in_bits, us,
    gmacs, speedup over float32, share of the peak)."""
    keys = {(name, *bits): row_key(row(name, *bits), isa) for name in SHAPES for bits in BITS}
    kernels: dict[object, Kernel] = {key: build(key, isa) for key in dict.fromkeys(keys.values())}
    loops = {bits: found for bits in (32, 8) if (found := bare(isa, bits))}
    kernels |= {bits: kernel for bits, (kernel, _) in loops.items()}
    serial = {bits: popcount(isa, bits) for bits in SERIAL_BITS} if not lacking(isa) else {}
    kernels |= {("popcount", bits): kernel for bits, (kernel, _) in serial.items()}
    us = dict.fromkeys(kernels, float("inf"))
    with Progress(rounds, "time") as bar:
        for _ in range(rounds):
            for key, kernel in kernels.items():
                us[key] = min(us[key], float(measure(kernel, windows=40, window_us=200.0).min()))
            bar.update()
    peak = {bits: products / us[bits] / 1e3 for bits, (_, products) in loops.items()}
    counted = {bits: products / us["popcount", bits] / 1e3 for bits, (_, products) in serial.items()}
    records: list[dict[str, object]] = [
        {
            "shape": name,
            "w_bits": w_bits,
            "in_bits": in_bits,
            "us": round(us[key], 2),
            "gmacs": round(macs(key) / us[key] / 1e3, 1),
            "speedup": round(us[keys[name, 32, 32]] / us[key], 2),
            "share": round(macs(key) / us[key] / 1e3 / top, 3) if (top := peak.get(max(w_bits, 8))) else None,
        }
        for (name, w_bits, in_bits), key in keys.items()
    ]
    return peak, counted, records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=None, help="avx512vnni, avx2 or llvm (default: this machine's best)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print records as JSON")
    options = parser.parse_args()
    isa = options.isa or isa_of_host()
    try:
        peak, counted, records = bench(isa, options.rounds)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"isa": isa, "peak_gmacs": peak, "popcount_gmacs": counted, "rows": records}, indent=1))
        return 0
    print(f"{'us, times faster than float32; ' + isa:36}" + "".join(f"{f'w{w} a{a}':>16}" for w, a in BITS))
    for name in SHAPES:
        cells = [r for r in records if r["shape"] == name]
        print(f"{name:36}" + "".join(f"{r['us']:>9} {r['speedup']:>5}x" for r in cells))
    print(f"\n{'share of the bare instruction':36}" + "".join(f"{f'w{w} a{a}':>16}" for w, a in BITS))
    for name in SHAPES:
        shares = [r["share"] for r in records if r["shape"] == name]
        print(f"{name:36}" + "".join(f"{'-' if share is None else f'{share:.0%}':>16}" for share in shares))
    rates = [f"{'float32' if bits == 32 else '8-bit'} {top:.0f} GMAC/s" for bits, top in peak.items()]
    rates += [f"{bits}-bit x {bits}-bit by popcount {top:.0f} GMAC/s" for bits, top in counted.items()]
    print("bare: " + ", ".join(rates + ([f"no popcount ({why})"] if (why := lacking(isa)) else [])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
