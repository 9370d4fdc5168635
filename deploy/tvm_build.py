"""A lowered network as one shared library: the table's own kernels, called directly from generated C.

Kernels are built once per row key and linked with the generated `NAME.c`; constants are embedded, activations and
workspaces live in a static arena (`cost_models/arena.py`). There is no runtime: `NAME_run(image, scores)` is a sequence
of calls, so that the sum of table rows is what the network costs. On several threads every one of them makes these
calls, for its own part, and they wait for each other after each (`threads_template.c`).
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from cost_models.arena import ALIGNMENT
from lut.errors import InputError, LutError
from lut.files import atomic_write
from lut.kernels import Kernel, pack_constants, supported
from lut.kernels.isa import machine_of, require
from lut.kernels.signature import SLACK
from lut.profilers.quiet import one_core_each
from lut.profilers.timing import aligned, compile_c
from lut.table import LatencyTable

from . import layout
from .built import Description, describe, digest
from .kernels import build_kernels
from .network_source import SCORES, Network, identifier
from .program import Op, Program
from .results import Place, dense, places, room

CACHE_BYTES = 64 << 20
"""More than the last-level cache share of one core."""


def _call(
    program: Program,
    op: Op,
    kernel: Kernel,
    arena: dict[str, int],
    constants: dict[tuple[str, str], int],
    rows: tuple[Place, ...],
    stride: int,
) -> str:
    """C expression that runs one operator. stride: from one thread's workspace to the next one's."""
    own = f" + part * {stride}" if kernel.threads > 1 else ""
    words = layout.arguments(program, op, {arg.name for arg in kernel.args if arg.count}, arena, constants, rows, own)
    return f"{kernel.symbol}({words}, {'part' if kernel.threads > 1 else 0})"


def _place(program: Program, kernels: dict[str, Kernel]) -> tuple[dict[str, int], int, int]:
    """(offsets in the arena, its bytes, bytes from one thread's workspace to the next one's).

    On several threads each has one workspace for all operators, behind the tensors: among them its lines would have to
    be fetched from the core that wrote them last (1 to 4 % of ResNet-8's time on two).
    """
    stride = max(kernel.stride for kernel in kernels.values())
    threads = max(kernel.threads for kernel in kernels.values())
    inside = {name: kernel.workspace_bytes if threads == 1 else 0 for name, kernel in kernels.items()}
    offsets, size = layout.place(program, inside, ALIGNMENT, SLACK)
    if threads > 1:
        size = -(-size // ALIGNMENT) * ALIGNMENT
        offsets |= {layout.workspace_of(name): size for name in kernels}
        size += threads * stride
    return offsets, size + SLACK, stride


def _check(program: Program) -> None:
    for op in program.ops:
        if (reason := supported(op.spec)) is not None:
            raise LutError(f"{program.name}: {op.name}: {reason}")
    layout.check_image(program)
    for name in program.outputs:
        if any(name in op.inputs for op in program.ops):
            raise LutError(f"{program.name}: the output {name!r} is read by an operator; it is the caller's")


def build(program: Program, isa: str, folder: Path, table: LatencyTable | None = None, threads: int = 1) -> Path:
    """Write NAME.so, NAME.h, NAME.c, NAME.bin and NAME.json into `folder`; returns the path of NAME.so.

    table: whose rows name the kernels' schedules, which lie beside it where MetaSchedule found them; None for the
    default ones. threads: that share an inference, the caller's among them.

    C interface: `int32_t NAME_run(const uint8_t *image, int16_t *scores)` (float for the float32 baseline), not
    re-entrant; NAME.h says where in `scores` each of several outputs begins. An `isa` of another architecture is
    cross-compiled. Raises LutError when an operator has no kernel or the C compiler fails or is missing.
    """
    _check(program)
    name = identifier(program.name)
    kernels = build_kernels(program, isa, table, threads)
    arena, arena_bytes, stride = _place(program, kernels)
    pack = lambda op, zeros, zero: pack_constants(op, isa, zeros, zero)  # noqa: E731
    blob, constants = layout.constants(program, pack, ALIGNMENT, SLACK)
    image, scores = program.tensors[program.input], program.tensors[program.outputs[0]].dtype
    rows = places(program, ALIGNMENT)
    calls = {op.name: _call(program, op, kernels[op.name], arena, constants, rows, stride) for op in program.ops}
    distinct = {kernel.symbol: kernel for kernel in kernels.values()}
    network = Network(name, calls, SCORES[scores], threads)
    shape = image.height, image.width, image.channels
    files: dict[str, str | bytes] = {
        f"{name}.h": network.header(shape, rows),
        f"{name}.c": network.source(list(distinct), arena_bytes, len(blob)),
        f"{name}.bin": blob,
    }
    library = _link(name, files, {symbol: kernel.object for symbol, kernel in distinct.items()}, isa, threads)
    about = Description(
        name=name,
        isa=isa,
        image=shape,
        outputs=rows,
        scores=scores,
        ops=tuple(op.name for op in program.ops),
        arena_bytes=arena_bytes,
        constant_bytes=len(blob),
        code_bytes=sum(kernel.code_bytes for kernel in distinct.values()),
        kernels=len(distinct),
        threads=threads,
        library=digest(library),
    )
    for file, data in (files | {f"{name}.json": about.text(), f"{name}.so": library}).items():
        atomic_write(folder / file, data)
    return folder / f"{name}.so"


def _link(name: str, files: dict[str, str | bytes], objects: dict[str, bytes], isa: str, threads: int) -> bytes:
    """The shared library of a network's sources and its kernels, by symbol; in a folder of its own, since the assembler
    looks for NAME.bin where it runs before anywhere else."""
    team = ["-pthread", "-Wl,-z,nodelete"] if threads > 1 else []  # its threads outlive dlclose
    with tempfile.TemporaryDirectory() as scratch:
        for file, data in (files | {f"{symbol}.o": code for symbol, code in objects.items()}).items():
            Path(scratch, file).write_bytes(data.encode() if isinstance(data, str) else data)
        inputs = [*team, f"{name}.c", *(f"{symbol}.o" for symbol in objects)]
        return compile_c(inputs, Path(scratch, "net.so"), machine_of(isa), Path(scratch)).read_bytes()


def _load(path: Path) -> ctypes.CDLL:
    """The library, from a copy under a name of its own: of one name the dynamic loader has the first library for the
    life of the process, although the file may be another one by now."""
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(shutil.copyfile(path, Path(folder, path.name))))


class HostModule:
    """A network that `build` made, loaded into this process.

    Raises InputError when `path` is none, LutError when this CPU cannot run its instruction set.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.about = describe(self.path)
        require(self.about.isa)
        try:
            self._library = _load(self.path)
            for suffix in ("run", "time", "time_steps", "time_call"):
                self._function(suffix)
        except (OSError, AttributeError) as error:
            raise InputError(f"{self.path}: no built network: {error}") from None
        self._image = aligned(int(np.prod(self.about.image)), "uint8")
        self._scores = aligned(room(self.about.outputs), self.about.scores)
        self._buffers = tuple(ctypes.c_void_p(a.ctypes.data) for a in (self._image, self._scores))

    def _function(self, suffix: str) -> Callable[..., int]:
        return self._library[f"{self.about.name}_{suffix}"]

    def run(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, c) -> (n, values), as integer.run_program. Raises InputError when the shape is another."""
        if images.dtype != np.uint8 or images.shape[1:] != self.about.image:
            raise InputError(f"images: {images.dtype} {images.shape}; expected uint8 (n, {self.about.image})")
        scores = np.empty((len(images), len(self._scores)), self.about.scores)
        step = self._function("run")
        for image, row in zip(images, scores):
            self._image[:] = image.reshape(-1)
            step(*self._buffers)
            row[:] = self._scores
        return dense(scores, self.about.outputs)

    def apart(self) -> AbstractContextManager[object]:
        """To measure inside: the threads of an inference, this one among them, then keep to a core each."""
        if self.about.threads == 1:
            return nullcontext()
        return one_core_each(lambda: self.run(np.zeros((1, *self.about.image), np.uint8)))

    def time_network(self, windows: int = 60, flush: bool = False, window_us: float = 2000.0) -> np.ndarray:
        """Microseconds per inference (windows,), hot; with `flush`, of single inferences after evicting the caches."""
        us = np.zeros(windows)
        junk = np.zeros(CACHE_BYTES if flush else 0, np.uint8)
        at = ctypes.c_void_p(junk.ctypes.data if flush else None)
        size, window = ctypes.c_size_t(junk.size), ctypes.c_double(window_us)
        self._function("time")(*self._buffers, windows, window, at, size, ctypes.c_void_p(us.ctypes.data))
        return us

    def time_ops(self, windows: int = 60, window_us: float = 2000.0) -> dict[str, np.ndarray]:
        """Microseconds (windows,) by operator, within whole inferences that follow each other."""
        us = np.zeros((windows, len(self.about.ops)))
        window, out = ctypes.c_double(window_us), ctypes.c_void_p(us.ctypes.data)
        self._function("time_steps")(*self._buffers, windows, window, out)
        return dict(zip(self.about.ops, us.T))

    def call_overhead(self, windows: int = 20) -> np.ndarray:
        """Microseconds of calling an empty kernel (windows,)."""
        us = np.zeros(windows)
        self._function("time_call")(windows, ctypes.c_void_p(us.ctypes.data))
        return us
