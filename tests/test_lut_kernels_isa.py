"""Instruction sets: what LLVM is told, what this CPU lacks, and what comes of a target that nobody knows."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from dataclasses import replace

import pytest
from kernel_toys import conv

from lut import kernels
from lut.device import Device
from lut.errors import LutError
from lut.kernels import isa as instruction_sets
from lut.kernels.intrinsics import DOTS
from lut.kernels.isa import ISAS, host_flags, machine_of, require
from lut.kernels.targets import check_object
from lut.profilers.host import HostProfiler
from lut.profilers.timing import load_kernel
from lut.spec import OpSpec

SPEC = conv(16, 16, 4, 3)
FOREIGN = "neon-dot" if platform.machine() in ("x86_64", "AMD64") else "avx2"
needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (apt-get install binutils)")


def test_every_instruction_set_has_a_dot_product() -> None:
    assert list(DOTS) == list(ISAS)


@pytest.mark.parametrize("isa", ISAS)
def test_llvm_knows_every_target_and_emits_its_architecture(isa: str) -> None:
    pytest.importorskip("tvm")
    (found,) = struct.unpack_from("<H", kernels.build(SPEC, isa).object, 18)
    assert {62: "x86_64", 183: "aarch64"}[found] == machine_of(isa)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mcpu": "x86-64-v33"}, "mcpu: LLVM has no 'x86-64-v33' for x86_64-linux-gnu; did you mean x86-64-v3?"),
        ({"mcpu": "cortex-a76"}, "mcpu: LLVM has no 'cortex-a76' for x86_64-linux-gnu"),
        ({"mattr": ("+avxvnnni", "+fma")}, "mattr: LLVM has no avxvnnni for x86_64-linux-gnu"),
    ],
)
def test_an_unknown_target_is_an_error_and_not_generic_code(change: dict, message: str, monkeypatch) -> None:
    pytest.importorskip("tvm")
    monkeypatch.setitem(ISAS, "avx2", replace(ISAS["avx2"], **change))
    with pytest.raises(LutError) as error:
        kernels.build(SPEC, "avx2")
    assert str(error.value).startswith(message)


def test_an_object_for_another_architecture_is_refused() -> None:
    pytest.importorskip("tvm")
    code = kernels.build(SPEC, "neon").object
    with pytest.raises(LutError, match="asked for x86_64-linux-gnu, LLVM emitted aarch64 code"):
        check_object(code, kernels.target("avx2"))
    with pytest.raises(LutError, match="LLVM emitted machine 0 code"):
        check_object(b"!<arch>\n" * 9, kernels.target("avx2"))


def test_missing_flags_are_named(tmp_path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : fpu avx2 fma bmi2 avx512f\n")
    assert host_flags(info) == {"fpu", "avx2", "fma", "bmi2", "avx512f"}
    require("avx2", info)
    require("llvm", tmp_path / "absent")
    with pytest.raises(
        LutError, match=r"'avx512vnni' cannot run here: .* no avx512_vnni, avx512bw, .*; its own is 'avx2'"
    ):
        require("avx512vnni", info)
    with pytest.raises(LutError, match=r"has no avx_vnni; its own is 'avx2'"):
        require("avxvnni", info)
    with pytest.raises(LutError, match="'sse9' is unknown"):
        require("sse9", info)


def test_a_kernel_that_this_cpu_cannot_run_is_not_loaded(monkeypatch) -> None:
    pytest.importorskip("tvm")
    with pytest.raises(LutError, match=rf"'{FOREIGN}' cannot run here"):
        load_kernel(kernels.build(SPEC, FOREIGN))
    own = kernels.build(SPEC, kernels.isa_of_host())
    if own.isa != "llvm":
        monkeypatch.setattr(instruction_sets, "host_flags", lambda *_: frozenset({"fpu"}))
        with pytest.raises(LutError, match="cannot run here"):
            load_kernel(own)


def test_a_profiler_refuses_before_it_builds() -> None:
    device = replace(Device.load("host-cpu"), isa=FOREIGN)
    with pytest.raises(LutError, match=rf"'{FOREIGN}' cannot run here"):
        list(HostProfiler(build="no_such_module:build").measure([OpSpec("linear", 1, 4, 4, 1, 1)], device))


@needs_objdump
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_avxvnni_code_is_vex_encoded(bits: int, tmp_path) -> None:
    pytest.importorskip("tvm")
    path = tmp_path / "kernel.o"
    path.write_bytes(kernels.build(conv(32, 32, 16, 3, bits), "avxvnni").object)
    code = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    lines = [line for line in code.splitlines() if "vpdpbusd" in line]
    assert lines
    assert all("{vex}" in line for line in lines)
    assert not [word for word in ("zmm", "%k1", "vpmaddubsw") if word in code]
