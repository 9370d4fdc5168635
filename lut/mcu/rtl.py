"""True cycles: an image on a core's RTL, simulated by Verilator with memories of zero wait states.

The sources of the cores are Python packages (`pip install 'lutier[rtl]'`); rtl/ has a wrapper per core and the memory,
by whose window the firmware reaches files as it does by semihosting in QEMU. A simulator is built once (30 s) into the
cache folder, under a name that has a hash of all that it was made of.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lut.columns import nearest
from lut.device import Device
from lut.errors import LutError
from lut.files import cache_folder
from lut.process import Hang, run_image, run_limited, run_tool

from .image import FOLDER, core_of
from .toolchain import found

RTL = FOLDER / "rtl"
BUILD_SECONDS = 600.0
INSTALL = "make toolchain, or apt-get install --no-install-recommends verilator g++ make"
FLAGS = ("--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-DSYNTHESIS",
         "-Wno-fatal", "-Wno-lint", "-Wno-UNOPTFLAT", "-Wno-BLKANDNBLK", "--top-module", "core", "-o", "simulator",
         "-CFLAGS", "-O2")  # fmt: skip

_PRIMITIVES = "vendor/lowrisc_ip/ip/prim/rtl"
_GENERIC = "vendor/lowrisc_ip/ip/prim_generic/rtl"
_CHOSEN = "dv/uvm/core_ibex/common/prim"
_IBEX = "pkg alu branch_predict compressed_decoder controller counter csr cs_registers decoder dummy_instr ex_block \
fetch_fifo id_stage if_stage load_store_unit multdiv_fast multdiv_slow pmp prefetch_buffer register_file_ff wb_stage \
core top"
_CV32E40P = "if_stage cs_registers register_file_ff load_store_unit id_stage aligner decoder compressed_decoder fifo \
prefetch_buffer hwloop_regs mult int_controller ex_stage alu_div alu ff_one popcnt apu_disp controller obi_interface \
prefetch_controller sleep_unit core top"


@dataclass(frozen=True)
class Rtl:
    """wrapper: in rtl/, without its suffix. package: on PyPI, with underscores for hyphens the module whose
    `data_location` has the sources. files: in the order that they need; folders: of headers and of modules by name,
    both below that location. defines: macros. base: where its memory lies."""

    wrapper: str
    package: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    defines: tuple[str, ...] = ()
    base: int = 0x80000000


CORES = {
    "ibex": Rtl(
        "ibex",
        "pythondata-cpu-ibex",
        (
            f"{_CHOSEN}/prim_pkg.sv",
            *(f"{_PRIMITIVES}/prim_{name}_pkg.sv" for name in ("util", "secded", "ram_1p", "mubi", "cipher", "count")),
            *(f"{_GENERIC}/prim_generic_{name}.sv" for name in ("buf", "flop", "clock_gating")),
            *(f"{_CHOSEN}/prim_{name}.sv" for name in ("buf", "flop", "clock_gating")),
            *(f"rtl/ibex_{name}.sv" for name in _IBEX.split()),
        ),
        (_PRIMITIVES, "rtl", "vendor/lowrisc_ip/dv/sv/dv_utils", _CHOSEN, _GENERIC),
    ),
    "cv32e40p": Rtl(
        "cv32e40p",
        "pythondata-cpu-cv32e40p",
        (
            *(f"rtl/include/cv32e40p_{name}_pkg.sv" for name in ("apu_core", "fpu")),
            "rtl/include/cv32e40p_pkg.sv",
            *(f"rtl/cv32e40p_{name}.sv" for name in _CV32E40P.split()),
        ),
        ("rtl/include", "bhv/include"),
        ("XPULP=0",),
    ),
}
CORES["vexriscv"] = Rtl("vexriscv", "pythondata-cpu-vexriscv", ("VexRiscv.v",), (), base=0x40000000)
CORES["cv32e40p-xpulp"] = replace(CORES["cv32e40p"], defines=("XPULP=1",))


def rtl_of(name: str) -> Rtl:
    """LutError for a core that there is not."""
    if name not in CORES:
        raise LutError(f"core.rtl: {name!r} is unknown; {nearest(name, sorted(CORES))}")
    return CORES[name]


def _sources(rtl: Rtl) -> tuple[Path, str]:
    """Where a core's sources are, and their version."""
    try:
        module = importlib.import_module(rtl.package.replace("-", "_"))
    except ImportError:
        raise LutError(f"{rtl.package}: not found; install it: pip install 'lutier[rtl]'") from None
    return Path(module.data_location), str(module.data_git_hash)[:12]


@functools.cache
def versions(name: str) -> tuple[str, str]:
    """(Verilator's, the core's sources'), in words. LutError when either is missing."""
    line = run_tool([found("verilator", INSTALL), "--version"], 20.0).split()
    return " ".join(line[:2]).lower(), f"{name} {_sources(rtl_of(name))[1]}"


def _build(command: list[str], folder: Path) -> None:
    """Verilator runs make, which runs the compiler: all of them end within the limit."""
    try:
        ended = run_limited(command, folder, BUILD_SECONDS)
    except Hang:
        raise LutError(f"{Path(command[0]).name}: the simulator was not built after {BUILD_SECONDS:g} s") from None
    if ended.status:
        raise LutError(f"{Path(command[0]).name}: {ended.said.strip()[-2000:]}")


@functools.cache
def simulator(name: str) -> Path:
    """The core's simulator, built where the cache folder lacks it. LutError has what is missing, or the complaint."""
    rtl, (verilator, version) = rtl_of(name), versions(name)
    own = [RTL / f"{rtl.wrapper}.sv", RTL / "main.cpp", RTL / "memory.h"]
    digest = hashlib.sha256(repr((verilator, version, FLAGS, rtl)).encode())
    for path in own:
        digest.update(path.read_bytes())
    target = cache_folder() / "rtl" / f"{name}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    found("g++", INSTALL), found("make", INSTALL)
    target.parent.mkdir(parents=True, exist_ok=True)
    where, _ = _sources(rtl)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as folder:
        paths = [f"-I{where / path}" for path in rtl.folders]
        files = [str(where / path) for path in rtl.files]
        defines = [f"-D{define}" for define in rtl.defines]
        command = [found("verilator", INSTALL), *FLAGS, *defines, f"-I{RTL}", "-Mdir", folder,
                   "-CFLAGS", f"-I{RTL} -DBASE={rtl.base:#x}u"]  # fmt: skip
        _build([*command, *paths, *files, str(own[0]), str(own[1])], Path(folder))
        os.replace(Path(folder, "simulator"), target)
    return target


@dataclass(frozen=True)
class RtlRun:
    """What an image printed, and the cycles between its marks."""

    output: str
    cycles: list[int]


def run_rtl(device: Device, image: Path, folder: Path, seconds: float) -> RtlRun:
    """Run an image whose files are in `folder` on the device's core. Raises as `simulator` and process.run_image do."""
    core = core_of(device)
    if not core.rtl:
        raise LutError(f"device {device.name}: core.rtl is missing; it names the RTL to simulate: {', '.join(CORES)}")
    marks = folder / "marks"
    command = [str(simulator(core.rtl).resolve()), str(image.resolve()), marks.name]
    output = run_image(command, image, folder, seconds)
    return RtlRun(output, [int(line) for line in marks.read_text().split()])
