"""What an operator costs in a network beyond its row: which rows make a chain, how it is laid out, what comes of it."""

from __future__ import annotations

import ctypes
import itertools
import math
import pickle
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from kernel_toys import HOST, conv

import lut.build
from lut.calibrate import Calibration, read_kib
from lut.device import Device
from lut.profilers import chain
from lut.profilers.base import Built, Failure
from lut.profilers.timing import compile_c, harness, pointers
from lut.spec import Latency, OpSpec

DEVICE = Device.load("host-cpu")
ROW = Latency(1.0, 1.0, 1.0, 5, source="host")


def rows(count: int, **more) -> dict[OpSpec, Latency]:
    return {replace(conv(4, 4 + i, 8, 3), **more): ROW for i in range(count)}


def test_chains_are_rows_of_integer_operators_with_weights():
    fitting = rows(2 * chain.OPS + 5)
    others = {
        **rows(3, w_bits=32, in_bits=(32,), out_bits=32),
        **rows(3, out_bits=16),
        **rows(3, kind="avg_pool", w_bits=8, groups=1),
        **{spec: replace(ROW, source="interpolated") for spec in rows(3, height=9)},
        **{spec: replace(ROW, variant="meta-schedule:0123456789ab") for spec in rows(3, height=10)},
    }
    drawn = chain.chains({**others, **fitting})
    assert [len(each) for each in drawn] == [chain.OPS] * chain.CHAINS
    assert {spec for each in drawn for spec in each} <= set(fitting)
    assert drawn == chain.chains({**others, **fitting}) and len(set(map(tuple, drawn))) == chain.CHAINS
    assert chain.chains(rows(chain.OPS - 1)) == []


def test_a_chain_goes_on_with_a_row_of_the_shape_that_was_written():
    table = {replace(conv(c, o, 8, 3), w_bits=bits): ROW for c in (4, 6) for o in (4, 6, 9) for bits in (2, 4, 8)}
    pairs = [pair for each in chain.chains(table) for pair in itertools.pairwise(each)]
    assert all(after.c_in == before.c_out for before, after in pairs if before.c_out != 9)  # no row reads 9 channels
    assert {after.c_in for before, after in pairs if before.c_out == 9} == {4, 6}


def test_constants_are_recovered_and_never_negative():
    drawn = chain.chains({**rows(40), **rows(40, height=16)})
    kib = [sum(map(read_kib, each)) for each in drawn]
    found = chain.fit(drawn, [chain.OPS * 0.1 + k * 0.02 for k in kib])
    assert found == pytest.approx({"op_us": 0.1, "kib_us": 0.02})
    assert chain.fit(drawn, [chain.OPS * 0.3 - k * 0.02 for k in kib])["kib_us"] == 0
    assert chain.fit(drawn, [-1.0] * len(drawn)) == {"op_us": 0, "kib_us": 0}
    assert read_kib(conv(4, 9, 8, 3)) == 4 * 8 * 8 / 1024
    assert read_kib(replace(conv(4, 9, 8, 3), w_bits=32, in_bits=(32,), out_bits=32)) == 4 * 4 * 8 * 8 / 1024


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("threads", [1, 2])
def test_operators_read_what_the_one_before_wrote(threads: int) -> None:
    pytest.importorskip("tvm")
    from lut.profilers.timing import build_linked

    specs = [conv(16, 16, 8, 3), conv(16, 16, 8, 3, residual=True), conv(16, 16, 8, 1)]
    kernels = [build_linked(spec, HOST, threads=threads) for spec in specs]
    arguments = chain._laid_out(kernels)
    for before, after in itertools.pairwise(arguments):
        assert before[2].ctypes.data == after[0].ctypes.data
    assert arguments[1][1].ctypes.data == arguments[1][2].ctypes.data  # a sum is written over its input
    assert arguments[0][3].ctypes.data != arguments[2][3].ctypes.data
    found = chain.beyond([pickle.dumps(kernel) for kernel in kernels])
    assert math.isfinite(found) and abs(found) < 1000


class Answers:
    """A pool whose workers answer what they are told to."""

    def __init__(self, us: list[float | Failure], broken: set[OpSpec]):
        self.us, self.broken, self.asked = us, broken, []

    def __call__(self, *_: object) -> Answers:
        return self

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks):
        for key, call, arguments in tasks:
            self.asked.append(call)
            if call == "build":
                yield key, Failure("crash", "") if key in self.broken else Built(b"", 0, 0)
            else:
                assert arguments[0] == "lut.profilers.chain:beyond" and len(arguments[1]) == chain.OPS
                yield key, self.us[key]


def test_a_chain_that_fails_is_left_out(monkeypatch) -> None:
    us = [0.2 * chain.OPS] * chain.CHAINS
    monkeypatch.setattr(chain, "Pool", Answers([Failure("timeout", ""), *us[1:]], set()))
    expected = pytest.approx({"op_us": 0.2, "kib_us": 0}, abs=1e-9)
    assert chain.measure_beyond(rows(200), DEVICE) == expected
    monkeypatch.setattr(chain, "Pool", Answers([Failure("crash", "")] * chain.CHAINS, set()))
    assert chain.measure_beyond(rows(200), DEVICE) == {}


def test_a_chain_with_a_kernel_that_does_not_build_is_left_out(monkeypatch) -> None:
    table = rows(200)
    broken = chain.chains(table)[0][3]
    lost = sum(broken in each for each in chain.chains(table))
    pool = Answers([50.0, *[0.2 * chain.OPS] * (chain.CHAINS - 1)], {broken})
    monkeypatch.setattr(chain, "Pool", pool)
    assert chain.measure_beyond(table, DEVICE)["op_us"] == pytest.approx(0.2)
    assert pool.asked.count("call") == (chain.CHAINS - lost) * chain.PROCESSES
    assert chain.measure_beyond(rows(3), DEVICE) == {}


@dataclass(frozen=True)
class Profiler:
    """Answers without measuring."""

    journal: object = None
    progress: bool = False
    schedules: int = 1
    tune: int = 0
    database: object = None

    def measure(self, ops, device):
        yield from ((spec, ROW) for spec in ops)


def test_a_table_measures_it_once_and_keeps_it(tmp_path, monkeypatch) -> None:
    answers = [{}, {"op_us": 0.25, "kib_us": 0.01}]
    monkeypatch.setattr(lut.build, "profiler_of", lambda device: Profiler())
    monkeypatch.setattr(lut.build, "measure_beyond", lambda rows, device, progress: answers.pop(0))

    def built(count: int) -> Calibration:
        path, specs = tmp_path / "t.csv", list(rows(count))
        return Calibration.of(lut.build.build_table(DEVICE, specs, path, every_row=True, progress=False))

    assert built(2) == Calibration()  # too few rows
    assert built(4) == Calibration(op_us=0.25, kib_us=0.01)
    assert built(6) == Calibration(op_us=0.25, kib_us=0.01) and not answers


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("threads", [1, 2])
def test_every_pass_calls_every_operator_once_on_every_thread(threads: int, tmp_path) -> None:
    source = tmp_path / "count.c"
    source.write_text("""
        #include <stdint.h>
        int32_t count(void *a, void *b, int64_t *seen, void *c, void *d, void *e, void *f, void *g, int32_t part) {
            seen[part]++;
            return 0;
        }""")
    function = ctypes.CDLL(str(compile_c([str(source)], tmp_path / "count.so"))).count
    seen, us = np.zeros((3, 16), np.int64), np.zeros(4)
    arrays = [pointers([None, None, row, *[None] * 5]) for row in seen]
    steps = (chain._Step * 3)()
    for step, given in zip(steps, arrays):
        step.f, step.a = (
            ctypes.cast(function, ctypes.c_void_p).value,
            ctypes.cast(given, ctypes.POINTER(ctypes.c_void_p)),
        )
    out = ctypes.c_void_p(us.ctypes.data)
    assert harness().time_chain(steps, 3, threads, len(us), ctypes.c_double(50.0), out) == 0
    assert (seen[:, :threads] == seen[0, 0]).all() and seen[0, 0] > len(us) and not seen[:, threads:].any()
    assert (us > 0).all()
