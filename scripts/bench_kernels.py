"""Speed of the kernels against each other: float32, and weights and inputs of 8, 4 and 2 bits, same template, same run.

Rows are measured in turn, several rounds, and the fastest window counts: ratios then hold on a noisy machine.

    python scripts/bench_kernels.py [--isa ISA] [--rounds 8] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys

from lut.errors import InputError
from lut.kernels import build, isa_of_host, row_key
from lut.profilers.timing import measure
from lut.progress import Progress
from lut.spec import OpSpec

BITS = ((32, 32), (8, 8), (8, 4), (4, 8), (4, 4), (2, 8), (2, 4))
"""Of weights and inputs; pairs whose kernels are the same on an instruction set share a measurement."""
SHAPES = {  # name: c_in, c_out, size, kernel, groups
    "16->16 32x32": (16, 16, 32, 3, 1),
    "32->32 16x16": (32, 32, 16, 3, 1),
    "64->64 8x8": (64, 64, 8, 3, 1),
    "dw 96 16x16": (96, 96, 16, 3, 96),
    "1x1 96->24": (96, 24, 16, 1, 1),
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


def bench(isa: str, rounds: int) -> list[dict[str, object]]:
    """One record per row: shape, w_bits, in_bits, us, gmacs (1e9 a second), speedup over float32."""
    keys = {(name, *bits): row_key(row(name, *bits), isa) for name in SHAPES for bits in BITS}
    kernels = {key: build(key, isa) for key in dict.fromkeys(keys.values())}
    us = dict.fromkeys(kernels, float("inf"))
    with Progress(rounds, "time") as bar:
        for _ in range(rounds):
            for key, kernel in kernels.items():
                us[key] = min(us[key], float(measure(kernel, windows=40, window_us=200.0).min()))
            bar.update()
    return [
        {
            "shape": name,
            "w_bits": w_bits,
            "in_bits": in_bits,
            "us": round(us[key], 2),
            "gmacs": round(macs(key) / us[key] / 1e3, 1),
            "speedup": round(us[keys[name, 32, 32]] / us[key], 2),
        }
        for (name, w_bits, in_bits), key in keys.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=None, help="avx512vnni, avx2 or llvm (default: this machine's best)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print records as JSON")
    options = parser.parse_args()
    isa = options.isa or isa_of_host()
    try:
        records = bench(isa, options.rounds)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"isa": isa, "rows": records}, indent=1))
        return 0
    print(f"{'us, times faster than float32; ' + isa:36}" + "".join(f"{f'w{w} a{a}':>16}" for w, a in BITS))
    for name in SHAPES:
        cells = [r for r in records if r["shape"] == name]
        print(f"{name:36}" + "".join(f"{r['us']:>9} {r['speedup']:>5}x" for r in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
