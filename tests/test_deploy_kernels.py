"""A network's kernels come from worker processes: the same bits, and limits that end what explodes."""

import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from test_deploy_tvm_build import HOST, network

from deploy import kernels
from deploy.kernels import build_kernels, workers
from deploy.tvm_build import build
from lut.errors import LutError
from lut.kernels import build as build_here
from lut.kernels import row_key
from lut.profilers.pool import Pool

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
COMPILER = '''
"""Builds as lut.kernels does, but for the kinds of operators that it has been told what to do with."""
import os, time
import lut.kernels
from lut.errors import LutError

def hang(): time.sleep(60)
def devour(): bytearray(2**34)
def crash(): os.abort()
def refuse(): raise LutError("no such instruction")

WRONG = {WRONG}

def build(spec, isa, variant="", threads=1, trace=""):
    with open(__file__ + ".log", "a") as log:
        log.write(spec.kind + "\\n")
    if spec.kind in WRONG:
        globals()[WRONG[spec.kind]]()
    return lut.kernels.build(spec, isa, variant, threads, trace)
'''


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """compiler({kind: what happens}) builds with the module above, on two workers; returns the kinds it has built."""
    pytest.importorskip("tvm")
    name = f"compiler_{random.getrandbits(40):x}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(kernels, "BUILD", f"{name}:build")
    path = tmp_path / f"{name}.py"
    with Pool([[core] for core in sorted(os.sched_getaffinity(0))[:2]], 20.0, 2**31) as pool:
        both = pool, threading.Lock()
        monkeypatch.setattr(kernels, "workers", lambda process: both)

        def told(wrong):
            path.write_text(COMPILER.replace("{WRONG}", repr(wrong)))
            return lambda: path.with_name(f"{name}.py.log").read_text().split()

        yield told


def test_kernels_of_workers_are_those_of_this_process():
    pytest.importorskip("tvm")
    program = network()
    built = build_kernels(program, HOST, None, 1)
    assert list(built) == [op.name for op in program.ops]
    assert built == {op.name: build_here(row_key(op.spec, HOST), HOST) for op in program.ops}
    assert built["join"] is built["again"]
    assert build_kernels(program, HOST, None, 2)["stem"].threads == 2


def test_workers_stay_with_their_process():
    pool, _ = workers(os.getpid())
    build_kernels(network(), "llvm", None, 1)
    before = {slot: worker.process.pid for slot, worker in pool._workers.items()}
    assert before, "they wait for the next network"
    build_kernels(network(4), "llvm", None, 1)
    assert workers(os.getpid())[0] is pool
    assert {slot: worker.process.pid for slot, worker in pool._workers.items()} == before
    assert workers(0)[0] is not pool, "those of a forked child are its own"
    assert not workers(0)[0]._workers


def test_two_threads_build_their_own_networks():
    pytest.importorskip("tvm")
    programs = [network(bits, name=f"net{i}") for i, bits in enumerate((8, 32, 4))]
    with ThreadPoolExecutor(3) as threads:
        several = list(threads.map(lambda program: build_kernels(program, "llvm", None, 1), programs))
    assert several == [build_kernels(program, "llvm", None, 1) for program in programs]


def test_every_key_is_compiled_once(compiler):
    asked = compiler({})
    build_kernels(network(), HOST, None, 1)
    keys = {row_key(op.spec, HOST) for op in network().ops}
    assert sorted(asked()) == sorted(key.kind for key in keys)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("devour", "small-net: max: memory: an allocation was refused"),
        ("crash", "small-net: max: crash: SIGABRT"),
        ("refuse", "small-net: max: no such instruction$"),
    ],
)
def test_a_kernel_that_cannot_be_built_names_its_operator(compiler, tmp_path, what, message):
    compiler({"max_pool": what})
    with pytest.raises(LutError, match=message):
        build(network(), HOST, tmp_path)
    assert not list(tmp_path.glob("*.so"))


def test_a_compiler_that_hangs_is_ended_and_the_next_network_is_built(compiler, tmp_path, monkeypatch):
    compiler({"add": "hang"})
    pool, _ = kernels.workers(0)
    warm = [(op.name, "build", ("lut.kernels:build", row_key(op.spec, HOST), HOST, "", 1)) for op in network().ops]
    assert list(pool.run(warm)), "the start of both does not count"
    monkeypatch.setattr(pool, "_seconds", 5.0)
    with pytest.raises(LutError, match="small-net: sum: timeout: not done after 5 s"):
        build(network(), HOST, tmp_path)
    program = network()
    rest = replace(program, ops=tuple(op for op in program.ops if op.spec.kind != "add"))
    assert "fc" in build_kernels(rest, HOST, None, 1)
