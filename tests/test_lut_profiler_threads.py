"""Rows of a device with several threads: timed on as many cores, in a table of their own."""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from kernel_toys import HOST, conv

from lut import kernels
from lut.build import build_table
from lut.device import Device
from lut.errors import LutError
from lut.profilers.host import HostProfiler
from lut.profilers.quiet import one_core_each, quiet_cores
from lut.profilers.timing import compile_c, measure
from lut.spec import Latency

TWO = Device.load("host-cpu-2")
SPEC = conv(16, 16, 8, 3)
CORES = len(os.sched_getaffinity(0))
needs_two = pytest.mark.skipif(CORES < 2, reason="this CPU lacks a second core")
ENGINE = """
import os
from collections import namedtuple
Kernel = namedtuple("Kernel", "threads workspace_bytes code_bytes")

def build(spec, isa, threads):
    return Kernel(threads, 64 * threads, 1)

def measure(kernel, windows, window_us):
    return [100.0 * kernel.threads + len(os.sched_getaffinity(0))] * windows
"""


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
/* Refuses a thread of the timing library; those of others start. */
int pthread_create(void *a, const void *b, void *c, void *d) {
    static int made;
    Dl_info of;
    if (dladdr(c, &of) && strstr(of.dli_fname, "timing.so") && made++ == ALLOWED) return 11;
    return ((int (*)(void *, const void *, void *, void *))dlsym(RTLD_NEXT, "pthread_create"))(a, b, c, d);
}
"""
STARVED = """
import ctypes, pickle, sys
import numpy as np
from lut.profilers.timing import harness, load_kernel, pointers, random_arguments
kernel, us = pickle.load(open(sys.argv[1], "rb")), np.zeros(4)
stride, window, out = ctypes.c_size_t(kernel.stride), ctypes.c_double(50.0), ctypes.c_void_p(us.ctypes.data)
arrays = random_arguments(kernel)
print(harness().time_kernel(load_kernel(kernel), pointers(arrays), kernel.threads, stride, 4, window, out))
"""


def test_host_cpu_2_is_host_cpu_on_two_threads() -> None:
    assert replace(Device.load("host-cpu"), name="host-cpu-2", threads=2) == TWO


@needs_two
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_know_the_threads_and_are_timed_on_as_many_cores(threads: int, tmp_path, monkeypatch) -> None:
    name = f"engine_{random.getrandbits(40):x}"
    (tmp_path / f"{name}.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    profiler = HostProfiler(f"{name}:build", f"{name}:measure", processes=1, most=1, windows=3)
    ((_, row),) = profiler.measure([SPEC], replace(TWO, threads=threads))
    assert isinstance(row, Latency)
    assert (row.us, row.workspace_bytes) == (101.0 * threads, 64 * threads)


@needs_two
def test_threads_that_wait_for_each_other_have_a_core_each() -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    for _ in range(2):  # this thread's cores are its own again
        done = threading.Event()
        helper = threading.Thread(target=done.wait)
        with one_core_each(helper.start) as team:
            cores = [os.sched_getaffinity(thread) for thread in team]
        done.set()
        helper.join()
        assert cores == [{first}, {second}]
        assert len(os.sched_getaffinity(0)) == CORES


@needs_two
@pytest.mark.tvm
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_table_of_two_threads(tmp_path) -> None:
    pytest.importorskip("tvm")
    path, profiler = tmp_path / "t.csv", HostProfiler(processes=2, most=2, windows=3, window_us=100)
    table = build_table("host-cpu-2", [SPEC], path, profiler=profiler, progress=False)
    assert table.provenance["threads"] == "2"
    (row,) = table.values()
    assert row.us > 0
    assert row.workspace_bytes == kernels.build(SPEC, HOST, threads=2).workspace_bytes
    with pytest.raises(LutError, match="threads: the table has 2, this machine 1"):
        build_table("host-cpu", [SPEC], path, profiler=profiler, progress=False)


@needs_two
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_threads_can_be_timed_again_and_again() -> None:
    pytest.importorskip("tvm")
    for spec in (SPEC, conv(8, 8, 1, 1)):
        kernel = kernels.build(spec, HOST, threads=2)
        for _ in range(3):
            us = measure(kernel, windows=4, window_us=50)
            assert us.shape == (4,)
            assert np.all(us > 0)
            assert len(os.sched_getaffinity(0)) == CORES


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_thread_that_cannot_start_is_an_error_and_ends_the_others(allowed: int, tmp_path) -> None:
    pytest.importorskip("tvm")
    (tmp_path / "kernel").write_bytes(pickle.dumps(kernels.build(SPEC, HOST, threads=3)))
    (tmp_path / "shim.c").write_text(SHIM)
    shim = compile_c([f"-DALLOWED={allowed}", str(tmp_path / "shim.c")], tmp_path / "shim.so")
    env = {**os.environ, "LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STARVED, str(tmp_path / "kernel")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == (errno.EAGAIN if allowed < 2 else 0)


def test_more_threads_than_cores_are_refused() -> None:
    many = replace(TWO, threads=CORES + 1)
    expected = rf"device host-cpu-2: threads: {CORES + 1} is above the {CORES} cores that this process may use"
    with pytest.raises(LutError, match=expected):
        quiet_cores(many)
    with pytest.raises(LutError, match=expected):
        list(HostProfiler().measure([SPEC], many))
