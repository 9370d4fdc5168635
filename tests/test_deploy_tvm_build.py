"""The built library against the integer reference."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from cost_models.arena import lifetimes
from deploy.integer import run_program
from deploy.program import Op, Program, Tensor
from deploy.tvm_build import HostModule, build
from lut.errors import InputError, LutError
from lut.kernels import isa_of_host
from lut.spec import OpSpec

needs_tvm = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
HOST = isa_of_host()


def network(bits: int = 8, seed: int = 0, name: str = "small-net") -> Program:
    """input -> conv -> depthwise -> conv + shortcut -> strided conv + resample -> add -> pools -> linear."""
    rng = np.random.default_rng(seed)
    float_ = bits == 32
    act = 32 if float_ else 8
    tensors: dict[str, Tensor] = {"image": Tensor("image", 8, 8, 3, 8)}
    ops: list[Op] = []

    def emit(op: str, spec: OpSpec, inputs: tuple[str, ...], zero: int = 0, in_place: int | None = None) -> None:
        rows, cols = spec.out_size()
        tensors[op] = Tensor(op, rows, cols, spec.c_out, spec.out_bits, 0 if float_ else zero)
        weighted = spec.kind in ("conv2d", "conv2d_add", "linear")
        shape, top = (spec.c_out, spec.c_in // spec.groups, *spec.kernel), (1 << (bits - 1)) - 1
        fan = int(np.prod(shape[1:]))
        scale = 2.0**32 * (12000 if spec.out_bits == 16 else 50) / (140 * max(top, 1) * fan**0.5)
        mult = (min(scale, 2.0**30) * rng.uniform(0.5, 1, spec.c_out if weighted else 1)).astype("i4") // 2 * 2
        if not weighted:
            mult[:] = (1 << 26) if spec.kind == "avg_pool" else 1 << 30
        draw = (lambda s: rng.standard_normal(s).astype("f4") / fan**0.5) if float_ else (
            lambda s: rng.integers(-top, top + 1, s).astype("i1")
        )  # fmt: skip
        draw_bias = (lambda n: rng.standard_normal(n).astype("f4")) if float_ else (
            lambda n: rng.integers(-999, 999, n).astype("i4")
        )  # fmt: skip
        bound = {32: (-4.0, 4.0), 16: (-32768, 32767)}.get(spec.out_bits, (0, 255))
        table = rng.standard_normal((3, 256)).astype("f4") if float_ else rng.integers(0, 256, (3, 256)).astype("u1")
        made = Op(
            op, spec, inputs, op,
            weights=draw(shape) if weighted else None,
            bias=(draw_bias(spec.c_out) if weighted else None),
            mult=None if float_ else mult.astype("i4"),
            shift=0 if weighted else 2, res_mult=1 << 30, res_shift=1, low=bound[0], high=bound[1],
            gather=np.array([-1] * 3 + list(range(12)) + [-1] * 5) if spec.kind == "resample" else None,
            table=table if spec.kind == "input" else None,
            in_place=in_place,
        )  # fmt: skip
        ops.append(made)

    def spec(kind: str, c_in: int, c_out: int, size: int, k: int = 1, inputs: int = 1, **more) -> OpSpec:
        given = {"kernel": (k, k), "w_bits": bits, "in_bits": (act,) * inputs, "out_bits": act} | more
        return OpSpec(kind, 1, c_in, c_out, size, size, **given)

    emit("in", spec("input", 3, 3, 8, in_bits=(8,)), ("image",), 128)
    emit("stem", spec("conv2d", 3, 12, 8, 3, pad=(1, 1, 1, 1)), ("in",))
    emit("dw", spec("conv2d", 12, 12, 8, 3, pad=(1, 1, 1, 1), groups=12), ("stem",), 7)
    emit("join", spec("conv2d_add", 12, 12, 8, 3, 2, pad=(1, 1, 1, 1)), ("dw", "stem"), 3, in_place=1)
    emit("again", spec("conv2d_add", 12, 12, 8, 3, 2, pad=(1, 1, 1, 1)), ("join", "join"), 9)
    emit("down", spec("conv2d", 12, 20, 8, 3, stride=(2, 2), pad=(0, 0, 1, 1)), ("again",), 128)
    emit("skip", spec("resample", 12, 20, 8, 1, stride=(2, 2)), ("again",), 9)
    emit("sum", spec("add", 20, 20, 4, 1, 2), ("down", "skip"), 1, in_place=0)
    emit("max", spec("max_pool", 20, 20, 4, 3, stride=(1, 1), pad=(1, 1, 1, 1)), ("sum",), 1)
    emit("avg", spec("avg_pool", 20, 20, 4, 4), ("max",))
    emit("fc", spec("linear", 20, 10, 1, out_bits=32 if float_ else 16), ("avg",))
    return Program(tuple(ops), tensors, "image", ("fc",), name)


def images(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3)).astype("u1")


@needs_tvm
@pytest.mark.parametrize("isa", sorted({HOST, "llvm"}))
@pytest.mark.parametrize("bits", [8, 4, 32])
def test_library_equals_the_reference(bits: int, isa: str, tmp_path) -> None:
    pytest.importorskip("tvm")
    program = network(bits)
    module, batch = HostModule(build(program, isa, tmp_path)), images(20)
    expected = run_program(program, batch)
    if bits == 32:
        np.testing.assert_allclose(module.run(batch), expected, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(module.run(batch), expected)
        assert len(np.unique(expected)) > 50
    assert module.about.kernels == len(program.ops) - 1  # join and again share one
    assert module.about.arena_bytes < sum(t.bytes for t in program.tensors.values()) + 40_000


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> HostModule:
    pytest.importorskip("tvm")
    return HostModule(build(network(), HOST, tmp_path_factory.mktemp("net")))


@needs_tvm
def test_timings(small: HostModule) -> None:
    hot, cold = small.time_network(5, window_us=200), small.time_network(3, flush=True)
    ops, empty = small.time_ops(5, window_us=200), small.call_overhead(5)
    assert hot.shape == (5,)
    assert cold.shape == (3,)
    assert np.median(cold) > np.median(hot) > np.median(empty) > 0
    assert list(ops) == list(small.about.ops)
    total = sum(np.median(us) for us in ops.values())
    assert 0.5 < total / np.median(hot) < 2


@needs_tvm
def test_c_interface(small: HostModule, tmp_path) -> None:
    """A C program that includes the header, links the library and prints the scores."""
    library = small.path
    image = images(1)
    (tmp_path / "image.bin").write_bytes(image.tobytes())
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "small_net.h"\nstatic uint8_t image[8 * 8 * 3];\n'
        'int main(int n, char **v) { FILE *f = fopen(v[1], "rb"); if (fread(image, 1, 192, f) != 192) return 1;\n'
        'int16_t s[10]; small_net_run(image, s); for (int i = 0; i < 10; i++) printf("%d ", s[i]); return n != 2; }\n'
    )
    command = ["cc", f"-I{library.parent}", str(tmp_path / "main.c"), str(library), "-o", str(tmp_path / "main")]
    subprocess.run(command, check=True, timeout=60)
    done = subprocess.run(
        [str(tmp_path / "main"), str(tmp_path / "image.bin")], capture_output=True, check=True, timeout=60
    )
    np.testing.assert_array_equal(np.array(done.stdout.split(), int), small.run(image)[0])


@needs_tvm
def test_bad_input(small: HostModule, tmp_path) -> None:
    with pytest.raises(InputError, match="expected uint8"):
        small.run(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="no built network"):
        HostModule(tmp_path / "absent.so")
    program = network()
    with pytest.raises(LutError, match="kind 'input'"):
        build(Program(program.ops[1:], program.tensors, "in", ("fc",)), HOST, tmp_path)
    with pytest.raises(LutError, match="3-bit weights"):
        build(network(3), HOST, tmp_path)
    assert not list(tmp_path.glob("*.so")), "a failed build left a library"


def test_lifetimes_follow_the_program() -> None:
    program = network()
    sizes = {name: t.bytes for name, t in program.tensors.items()}
    buffers, shared = lifetimes(program.ops, sizes, program.outputs)
    span = {b.name: (b.first, b.last) for b in buffers}
    assert span["stem"] == (1, 3)
    assert span["again"] == (4, 6)
    assert span["fc"] == (10, 11)
    assert shared == {"join": "stem", "sum": "down"}
