"""NEON and dot-product kernels, cross-compiled and run under qemu, against the NumPy oracle."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from aarch64 import CC, needs_aarch64, run_kernels
from kernel_toys import BITS, POOLS, SHAPES, bound, compare, conv, extremes, make, oracle, with_bits

from lut import kernels
from lut.spec import OpSpec

pytest.importorskip("tvm")
pytestmark = needs_aarch64
ISAS = ("neon", "neon-dot")
SCORES = OpSpec("linear", 1, 64, 10, 1, 1, out_bits=16)
NARROW = replace(conv(12, 20, 5, 3, residual=True), in_bits=(4, 2), out_bits=4)

CASES: dict[str, tuple[OpSpec, int, int | None]] = {  # spec, seed, extreme
    **{f"{s}-{b}": (with_bits(SHAPES[s], b), sum(map(ord, s)) + b, None) for s in SHAPES for b in BITS},
    **{f"{p}-{b}": (with_bits(POOLS[p], b), len(p), None) for p in POOLS for b in (32, 8)},
    **{f"{e}-{n}-{b}": (extremes(b)[n], 0, e) for e in (255, 0) for n in (0, 1) for b in (8, 4, 2)},
    "scores": (SCORES, 0, None),
    "narrow": (NARROW, 5, None),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[tuple[str, str], tuple[tuple, np.ndarray]]:
    """(what the case was made of, the kernel's output) by (isa, case), from one program."""
    made = {(isa, name): make(*CASES[name]) for isa in ISAS for name in CASES}
    cases = []
    for (isa, name), data in made.items():
        kernel = kernels.build(CASES[name][0], isa)
        cases.append((kernel, bound(kernel, *data)))
    outputs = run_kernels(cases, tmp_path_factory.mktemp("aarch64"))
    return {key: (made[key], out) for key, out in zip(made, outputs)}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_oracle(case: str, isa: str, ran) -> None:
    made, out = ran[isa, case]
    compare(CASES[case][0], out, oracle(*made))


@pytest.mark.parametrize("isa", ISAS)
def test_parts_make_the_whole(isa: str, tmp_path) -> None:
    names = ("16", "residual", "pointwise", "depthwise", "linear", "add", "global", "unary")
    specs = [(SHAPES | POOLS)[name] for name in names]
    made = [make(spec, seed=1) for spec in specs]
    built = [kernels.build(spec, isa, threads=2) for spec in specs]
    outputs = run_kernels([(kernel, bound(kernel, *data)) for kernel, data in zip(built, made)], tmp_path)
    for spec, data, out in zip(specs, made, outputs):
        compare(spec, out, oracle(*data))


def listing(spec: OpSpec, isa: str, tmp_path) -> str:
    path = tmp_path / "kernel.o"
    path.write_bytes(kernels.build(spec, isa).object)
    command = [CC.replace("gcc", "objdump"), "-d", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("isa", "bits", "wanted"),
    [
        ("neon", 8, ("smlal", "sadalp", "sqrdmulh", "sqxtun")),
        ("neon", 2, ("smlal", "sadalp", "sqrdmulh")),
        ("neon-dot", 8, ("sdot", "sqrdmulh", "sqxtun")),
        ("neon-dot", 4, ("sdot",)),
        ("neon", 32, ("fmla",)),
    ],
)
def test_code_has_the_instructions_it_is_for(isa: str, bits: int, wanted: tuple[str, ...], tmp_path) -> None:
    code = listing(conv(32, 32, 16, 3, bits), isa, tmp_path)
    assert not [word for word in wanted if f"\t{word}\t" not in code]
    assert isa == "neon-dot" or "sdot" not in code


@pytest.mark.parametrize(("isa", "wanted"), [("neon", "smlal"), ("neon-dot", "sdot")])
def test_depthwise_code_has_the_instruction_it_is_for(isa: str, wanted: str, tmp_path) -> None:
    assert f"\t{wanted}\t" in listing(replace(conv(32, 32, 16, 3), groups=32), isa, tmp_path)
