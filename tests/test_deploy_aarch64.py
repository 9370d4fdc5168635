"""A whole network cross-compiled for aarch64: the library that a board would load, run by a program under qemu."""

from __future__ import annotations

import numpy as np
import pytest
from aarch64 import cross, emulate, needs_aarch64
from test_deploy_tvm_build import images, network
from test_supernet_zoo import IMAGES, convert

from deploy.integer import run_program
from deploy.lower import lower
from deploy.program import Program
from deploy.tvm_build import HostModule, build
from lut.errors import LutError
from supernet import extract

MAIN = """
#include <stdio.h>
#include HEADER
int main(void) {
    static uint8_t image[BYTES] __attribute__((aligned(64)));
    static union { float f[10]; int16_t i[10]; } scores __attribute__((aligned(64)));
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {
        if (RUN(image, (void *)&scores)) return 1;
        fwrite(&scores, SIZE, 10, stdout);
    }
    return 0;
}
"""


def run(program: Program, isa: str, batch: np.ndarray, folder, threads: int = 1) -> np.ndarray:
    library = build(program, isa, folder, threads=threads)
    kind = np.dtype(program.tensors[program.output].dtype)
    (folder / "main.c").write_text(MAIN)
    name = library.stem.replace("-", "_")
    words = {"HEADER": f'"{name}.h"', "RUN": f"{name}_run", "BYTES": batch[0].size, "SIZE": kind.itemsize}
    given = [f"-D{word}={value}" for word, value in words.items()]
    given += [f"-I{folder}", str(folder / "main.c"), str(library), f"-Wl,-rpath,{folder}"]
    return np.frombuffer(emulate([str(cross(given, folder / "main"))], batch.tobytes()), kind).reshape(len(batch), -1)


@needs_aarch64
@pytest.mark.parametrize("isa", ["neon", "neon-dot"])
@pytest.mark.parametrize("bits", [8, 4, 32])
def test_library_equals_the_reference(bits: int, isa: str, tmp_path) -> None:
    pytest.importorskip("tvm")
    program, batch = network(bits), images(20)
    scores, expected = run(program, isa, batch, tmp_path), run_program(program, batch)
    if bits == 32:
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(scores, expected)
        assert len(np.unique(expected)) > 50


@needs_aarch64
@pytest.mark.parametrize("name", ["convnext", "soft_gates"])
def test_islands_of_floats_follow_the_reference(name: str, tmp_path) -> None:
    """A layer norm and a softmax: sums in another order move few codes by one, and scores by what that does to them."""
    pytest.importorskip("tvm")
    net = convert(name)
    program = lower(extract(net, net.uniform(8, 8)), "islands")
    expected = run_program(program, IMAGES).astype(int)
    assert np.abs(run(program, "neon-dot", IMAGES, tmp_path) - expected).max() <= 0.01 * np.abs(expected).max()


@needs_aarch64
def test_two_threads(tmp_path) -> None:
    pytest.importorskip("tvm")
    batch = images(20)
    np.testing.assert_array_equal(run(network(), "neon-dot", batch, tmp_path, 2), run_program(network(), batch))


@needs_aarch64
def test_another_architecture_is_not_loaded(tmp_path) -> None:
    pytest.importorskip("tvm")
    library = build(network(), "neon-dot", tmp_path)
    with pytest.raises(LutError, match=r"'neon-dot' cannot run here: this CPU .* has no asimd"):
        HostModule(library)


def test_a_missing_cross_compiler_is_named(tmp_path, monkeypatch) -> None:
    pytest.importorskip("tvm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LutError, match=r"aarch64-linux-gnu-gcc: .*apt-get install gcc-aarch64-linux-gnu"):
        build(network(), "neon", tmp_path)
    assert not list(tmp_path.glob("*.so"))
