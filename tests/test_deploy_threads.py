"""A network on several threads: equal to the reference run after run, idle when nothing runs, gone with the process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_deploy_tvm_build import HOST, images, network

from deploy.integer import run_program
from deploy.tvm_build import HostModule, build
from deploy.validate import time_built
from lut.device import Device
from lut.errors import LutError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
MAIN = """
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "small_net.h"
static uint8_t image[8 * 8 * 3];
static int16_t scores[10];
static void show(void) { for (int i = 0; i < 10; i++) printf("%d ", scores[i]); fflush(stdout); }
#ifdef REFUSE
int pthread_create(void *a, const void *b, void *c, void *d) { return 11; }
#endif
int main(int n, char **v) {
    FILE *f = fopen(v[1], "rb");
    if (fread(image, 1, sizeof image, f) != sizeof image) return 1;
    small_net_run(image, scores);
    show();
    int status = 0;
    pid_t child = fork();
    if (!child) {
        small_net_run(image, scores);
        show();
        return 0;
    }
    waitpid(child, &status, 0);
    return status;
}
"""
UNLOAD = """
import ctypes, sys
import numpy as np
image, scores = np.zeros(8 * 8 * 3, np.uint8), np.zeros(10, np.int16)
given = [ctypes.c_void_p(a.ctypes.data) for a in (image, scores)]
close = ctypes.CDLL(None).dlclose
close.argtypes = [ctypes.c_void_p]
for turn in range(3):
    library = ctypes.CDLL(sys.argv[1])
    library.small_net_run(*given)
    handle = library._handle
    del library
    assert close(handle) == 0
print(*scores)
"""


@pytest.fixture(scope="module", params=[2, 3])
def library(request, tmp_path_factory) -> Path:
    pytest.importorskip("tvm")
    return build(network(), HOST, tmp_path_factory.mktemp("net"), threads=request.param)


def test_equal_to_the_reference_over_many_runs(library: Path) -> None:
    batch, module = images(40), HostModule(library)
    expected = run_program(network(), batch)
    assert module.about.threads == json.loads(library.with_suffix(".json").read_text())["threads"] > 1
    for _ in range(5):
        np.testing.assert_array_equal(module.run(batch), expected)


def test_floats(tmp_path) -> None:
    pytest.importorskip("tvm")
    program, batch = network(32), images(10)
    found = HostModule(build(program, HOST, tmp_path, threads=2)).run(batch)
    np.testing.assert_allclose(found, run_program(program, batch), rtol=1e-4, atol=1e-4)


def test_timings(library: Path) -> None:
    module = HostModule(library)
    hot, cold = module.time_network(3, window_us=200), module.time_network(2, flush=True)
    ops = module.time_ops(3, window_us=200)
    assert hot.shape == (3,)
    assert hot.min() > 0
    assert cold.min() > 0
    assert list(ops) == list(module.about.ops)
    assert all(us.shape == (3,) for us in ops.values())
    np.testing.assert_array_equal(module.run(images(3)), run_program(network(), images(3)))


def test_measured_as_on_one_thread(library: Path) -> None:
    """Twice in one process, as networks are in turn; its cores are the process's own again."""
    cores = os.sched_getaffinity(0)
    for _ in range(2):
        found = time_built(str(library), Device("here"), 3)
        assert (len(found["hot"]), len(found["cold"]), len(found["ops"])) == (3, 5, 11)
        assert os.sched_getaffinity(0) == cores


def test_an_idle_network_sleeps_and_wakes(library: Path) -> None:
    module, batch = HostModule(library), images(1)
    first = module.run(batch)
    for _ in range(3):
        time.sleep(0.02)  # long enough to fall asleep
        np.testing.assert_array_equal(module.run(batch), first)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1, "waiting threads burn the processor"


@pytest.mark.parametrize("refuse", [False, True])
def test_a_program_ends_with_its_threads_and_so_does_a_fork(library: Path, refuse: bool, tmp_path) -> None:
    """Where no thread can be started the caller does all the work."""
    image = images(1)
    (tmp_path / "image.bin").write_bytes(image.tobytes())
    (tmp_path / "main.c").write_text(MAIN)
    define = ["-DREFUSE", "-rdynamic"] if refuse else []
    command = ["cc", *define, f"-I{library.parent}", str(tmp_path / "main.c"), str(library), "-o", str(tmp_path / "a")]
    subprocess.run(command, check=True, timeout=60)
    command = [str(tmp_path / "a"), str(tmp_path / "image.bin")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    expected = run_program(network(), image)[0].tolist()
    assert list(map(int, done.stdout.split())) == 2 * expected


def test_unloading_does_not_crash(library: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNLOAD, str(library)], capture_output=True, text=True, check=True, timeout=60
    )
    expected = run_program(network(), np.zeros((1, 8, 8, 3), np.uint8))[0].tolist()
    assert list(map(int, done.stdout.split())) == expected


def test_one_thread_needs_none(tmp_path) -> None:
    pytest.importorskip("tvm")
    build(network(), HOST, tmp_path)
    source = (tmp_path / "small_net.c").read_text()
    assert "pthread" not in source
    assert "barrier" not in source


def test_bad_input(tmp_path) -> None:
    pytest.importorskip("tvm")
    with pytest.raises(LutError, match="small-net: threads: 0 is not positive"):
        build(network(), HOST, tmp_path, threads=0)
    assert not list(tmp_path.glob("*.so"))
