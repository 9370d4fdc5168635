"""The bare rate of bit-serial products, operands in registers or in the first-level cache: AND, VPOPCNTQ, add.

A code of b bits is b planes of one bit each, and a 512-bit register holds 64 inputs of 8 outputs:

    sum_k x_k w_k = sum over planes i, j of 2^(i+j) popcount(x_i & w_j)      (Zhou et al. 2016, arXiv:1606.06160)

so that b-bit by b-bit codes cost 3 b^2 instructions per 512 products; pairs of equal i + j share a sum. Ternary weights
cost as much as 2-bit codes: they are a plane of the positive and one of the negative.
"""

from __future__ import annotations

from lut.kernels import Kernel, target
from lut.kernels.emit import Nest, compile_nest
from lut.kernels.isa import host_flags
from lut.kernels.signature import NAMES, Arg
from lut.spec import OpSpec

FLAG = "avx512_vpopcntdq"
QUADS = 8
"""64-bit lanes of a register, an output each."""
PIXELS, BLOCKS = 3, 2
"""Of a tile: with two planes of each, its sums, weights and inputs fill the 32 registers."""
STEPS, ROWS = 4096, 32
"""Inputs come from ROWS rows in turn, or LLVM would take their products out of the loop."""


def lacking(isa: str) -> str:
    """What an instruction set, or this CPU, has not; or ''."""
    if isa != "avx512vnni":
        return f"{isa} has no 512-bit registers"
    return "" if FLAG in host_flags() else f"this CPU has no {FLAG}"


def popcount(isa: str, bits: int) -> tuple[Kernel, int]:
    """(a kernel that does nothing but `bits`-bit by `bits`-bit products, their number). Without the instruction LLVM
    counts otherwise: the products are the same, their rate says nothing."""
    nest, planes, sums = Nest(), range(bits), 2 * bits - 1
    sizes = {
        "in": ("int64", ROWS * PIXELS * bits * QUADS),
        "weights": ("int64", BLOCKS * bits * QUADS),
        "workspace": ("int64", PIXELS * BLOCKS * QUADS),
    }
    args = tuple(Arg(name, *sizes.get(name, ("uint8", 0))) for name in NAMES)
    bound = {arg.name: nest.argument(arg.name, arg.dtype) for arg in args}
    weights = [[nest.bind(nest.load(bound["weights"], (d * bits + j) * QUADS, QUADS)) for j in planes]
               for d in range(BLOCKS)]  # fmt: skip
    totals = nest.local("int64", PIXELS * BLOCKS * sums * QUADS)
    for slot in range(PIXELS * BLOCKS * sums):
        nest.store(totals, slot * QUADS, nest.const(0, "int64", QUADS), QUADS)
    with nest.loop(STEPS // ROWS), nest.loop(ROWS) as row:
        for p in range(PIXELS):
            inputs = [nest.bind(nest.load(bound["in"], ((row * PIXELS + p) * bits + i) * QUADS, QUADS)) for i in planes]
            for d in range(BLOCKS):
                for i in planes:
                    for j in planes:
                        at = ((p * BLOCKS + d) * sums + i + j) * QUADS
                        ones = nest.x.popcount(inputs[i] & weights[d][j])
                        nest.store(totals, at, nest.load(totals, at, QUADS) + ones, QUADS)
    for tile in range(PIXELS * BLOCKS):
        weighed = [nest.load(totals, (tile * sums + s) * QUADS, QUADS) << nest.const(s, "int64", QUADS)
                   for s in range(sums)]  # fmt: skip
        nest.store(bound["workspace"], tile * QUADS, sum(weighed[1:], weighed[0]), QUADS)
    body = target(isa)
    name, spec = f"popcount_{bits}", OpSpec("conv2d", 1, 16, 16, 1, 1, w_bits=bits, in_bits=(bits,), out_bits=bits)
    if not lacking(isa):
        body["mattr"] = [*body["mattr"], "+avx512vpopcntdq"]
    code = compile_nest(nest, name, body)
    return Kernel(name, spec, isa, code, args, 0, 0), STEPS * PIXELS * BLOCKS * QUADS * 64
