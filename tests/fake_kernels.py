"""Kernels that answer, raise, hang, crash and devour memory, for a profiler: Python functions in a module of the test's
own, which the workers import by its path."""

import random
from dataclasses import replace

import lut.kernels
from lut.device import Device
from lut.profilers.host import HostProfiler
from lut.spec import OpSpec

HOST = Device.load("host-cpu")
CONV = OpSpec("conv2d", 1, 16, 16, 8, 8, (3, 3), pad=(1, 1, 1, 1))
ENGINE = '''
"""A kernel is (c_in, c_out, kind); what it does depends on its kind."""
import os, random, subprocess, sys, time
from collections import namedtuple
from pathlib import Path

Kernel = namedtuple("Kernel", "c_in c_out kind workspace_bytes code_bytes")
CALLS = Path(__file__).with_name("calls.txt")

def note(word):
    with CALLS.open("a") as file:
        file.write(word + "\\n")

def build(spec, isa, threads):
    note("build")
    if spec.kind == "no_build":
        raise RuntimeError("LLVM does not like it")
    return Kernel(spec.c_in, spec.c_out, spec.kind, 64, 1000 + spec.c_out)

def measure(kernel, windows, window_us):
    note(f"time {os.getpid()}")
    if kernel.kind == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        note(f"child {child.pid}")
        time.sleep(60)
    if kernel.kind == "devour":
        bytearray(2**34)
    if kernel.kind == "crash":
        print("about to fall", file=sys.stderr, flush=True)
        os.abort()
    if kernel.kind == "slow":
        time.sleep(0.2)
    if kernel.kind == "busy":  # a neighbour, for three timings of five; the same ones in every run
        turn = len({line for line in CALLS.read_text().splitlines() if line.startswith("time")})
        chance = random.Random(1000 * turn + kernel.c_in)
        busy = 1.0 if chance.random() > 0.6 else 1.2 + 0.3 * chance.random()
        return [busy * kernel.c_in * kernel.c_out / 100] * windows
    return [kernel.c_in * kernel.c_out / 100 + 0.001 * i for i in range(windows)]
'''


def fake_engine(tmp_path, monkeypatch):
    """A profiler that runs the module above; its calls are in `calls(tmp_path)`."""
    name = f"engine_{random.getrandbits(40):x}"
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / f"{name}.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(lut.kernels, "row_key", lambda s, isa: replace(s, in_bits=(8,) * len(s.in_bits), out_bits=8))
    monkeypatch.setattr(lut.kernels, "supported", lambda s: "no kernel" if s.kind == "unheard" else None)
    return HostProfiler(
        build=f"{name}:build", measure_kernel=f"{name}:measure", processes=3, most=8, windows=5, seconds=2.0
    )


def calls(tmp_path):
    path = tmp_path / "engine" / "calls.txt"
    return path.read_text().split("\n")[:-1] if path.exists() else []
