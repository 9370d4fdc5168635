"""From a loop nest to an object file: a small builder of TIR statements, lowered by LLVM to a bare C function.

Kernels are written as loop nests over flat buffers with explicit vectors (`Nest`), so that register tiles, packed
weights and narrow tails are exactly what the code says. `compile_nest` lowers one without TVM's packed calling
convention: the object file has a single C symbol, no outside symbols, and needs no TVM at run time. On several
threads a nest is the work of one of them, `part` (`Nest.share`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from .isa import LANES
from .targets import check_object, llvm_target


class Nest:
    """Statements of one function, appended in program order; loops and branches are context managers.

    Buffers are flat; an index is a scalar expression, and `lanes` consecutive elements make a vector. threads: how many
    parts share the work.
    """

    def __init__(self, threads: int = 1) -> None:
        from tvm import tirx

        self.x, self.threads = tirx, threads
        self.part = tirx.Var("part", "int32")
        self._open: list[list[Any]] = [[]]
        self._names = 0
        self.arguments: list[Any] = []

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}{self._names}"

    def _append(self, statement: Any) -> None:
        self._open[-1].append(statement)

    def argument(self, name: str, dtype: str) -> Any:
        """A pointer parameter, seen as a flat buffer (its length is not checked)."""
        from tvm.ir import PointerType, PrimType

        pointer = self.x.Var(name, PointerType(PrimType(dtype)))
        buffer = self.x.decl_buffer((1 << 30,), dtype, name + "_b", data=pointer)
        self.arguments.append((pointer, buffer))
        return buffer

    def local(self, dtype: str, length: int) -> Any:
        """Scratch on the stack; LLVM keeps it in registers when every index is a constant."""
        buffer = self.x.decl_buffer((length,), dtype, self._name("local"), scope="local", data_alignment=64)
        self._append(self.x.stmt.AllocBuffer(buffer))
        return buffer

    def bind(self, value: Any) -> Any:
        """Name a value that is computed once, here."""
        value = self.x.expr.convert(value) if isinstance(value, int) else value
        variable = self.x.Var(self._name("v"), value.ty)
        self._append(self.x.stmt.Bind(variable, value))
        return variable

    def _index(self, start: Any, lanes: int) -> list[Any]:
        return [self.x.Ramp(start, 1, lanes)] if lanes > 1 else [start]

    def load(self, buffer: Any, start: Any, lanes: int = 1) -> Any:
        return self.x.BufferLoad(buffer, self._index(start, lanes))

    def store(self, buffer: Any, start: Any, value: Any, lanes: int = 1) -> None:
        self._append(self.x.BufferStore(buffer, value, self._index(start, lanes)))

    def _sequence(self, statements: list[Any]) -> Any:
        return statements[0] if len(statements) == 1 else self.x.SeqStmt(statements)

    @contextmanager
    def loop(self, extent: Any) -> Iterator[Any]:
        """for (variable = 0; variable < extent; variable++). An extent of 1 is no loop."""
        if isinstance(extent, int) and extent == 1:
            yield 0
            return
        variable = self.x.Var(self._name("i"), "int32")
        self._open.append([])
        yield variable
        body = self._sequence(self._open.pop())
        self._append(self.x.For(variable, 0, extent, self.x.ForKind.SERIAL, body))

    def bounds(self, extent: int) -> tuple[Any, Any]:
        """(first, count) of this part's share of `extent` units; the count is an int where all shares are equal."""
        if self.threads == 1:
            return 0, extent
        if extent % self.threads == 0:
            return self.bind(self.part * (extent // self.threads)), extent // self.threads
        first, end = (self.bind(extent * (self.part + i) // self.threads) for i in range(2))
        return first, self.bind(end - first)

    @contextmanager
    def share(self, extent: int) -> Iterator[Any]:
        """`loop` over this part's share."""
        first, count = self.bounds(extent)
        with self.loop(count) as i:
            yield i if self.threads == 1 else first + i

    @contextmanager
    def last(self) -> Iterator[None]:
        """What the last part does alone."""
        if self.threads == 1:
            yield
            return
        with self.when(self.part == self.threads - 1):
            yield

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        self._open.append([])
        yield
        self._append(self.x.IfThenElse(condition, self._sequence(self._open.pop()), None))

    def splat(self, value: Any, lanes: int) -> Any:
        return self.x.Broadcast(value, lanes) if lanes > 1 else value

    def const(self, value: float, dtype: str, lanes: int = 1) -> Any:
        return self.splat(self.x.const(value, dtype), lanes)

    def view(self, value: Any, dtype: str) -> Any:
        """The same bits as another type."""
        return self.x.reinterpret(dtype, value)

    def intrinsic(self, name: str, dtype: str, *operands: Any) -> Any:
        """An LLVM intrinsic without side effects, by its full name."""
        return self.x.call_llvm_pure_intrin(dtype, name, *operands)

    def shuffle(self, vectors: list[Any], lanes: list[int]) -> Any:
        """Lanes picked from the concatenation of equally long vectors."""
        return self.x.Shuffle(vectors, lanes)

    def blend(self, even: Any, odd: Any, lanes: int) -> Any:
        """Even lanes of one vector, odd lanes of the other."""
        return self.shuffle([even, odd], [lane + lanes * (lane % 2) for lane in range(lanes)])

    def store_some(self, buffer: Any, start: Any, value: Any, dtype: str, count: int, lanes: int = LANES) -> None:
        """Store the first `count` lanes of a vector of `lanes`, in pieces whose lengths are powers of two."""
        whole = self.local(dtype, lanes)
        self.store(whole, 0, value, lanes)
        for first, length in pieces(count, lanes // 2):
            self.store(buffer, start + first, self.load(whole, first, length), length)

    def body(self) -> Any:
        if len(self._open) != 1:
            raise RuntimeError("a loop is still open")
        return self._sequence(self._open[0])


def pieces(count: int, largest: int) -> Iterator[tuple[int, int]]:
    """(start, length): `count` cut into powers of two, longest first."""
    start, length = 0, largest
    while start < count:
        while length > count - start:
            length //= 2
        yield start, length
        start += length


def in_vectors(nest: Nest, count: int, step: Callable[[Any, int], None]) -> None:
    """step(start, lanes) over `count` elements: a loop over whole vectors of LANES, then the tail in pieces."""
    whole = count // LANES
    if whole:
        with nest.loop(whole) as i:
            step(i * LANES, LANES)
    for start, lanes in pieces(count % LANES, LANES // 2):
        step(whole * LANES + start, lanes)


def share_vectors(nest: Nest, count: int, step: Callable[[Any, int], None]) -> None:
    """`in_vectors` over this part's share; the last part has the tail."""
    if whole := count // LANES:
        with nest.share(whole) as i:
            step(i * LANES, LANES)
    if count % LANES:
        with nest.last():
            for start, lanes in pieces(count % LANES, LANES // 2):
                step(whole * LANES + start, lanes)


def copy(nest: Nest, target: tuple[Any, Any], source: tuple[Any, Any], count: int, convert: Any = None) -> None:
    """Copy `count` consecutive elements, each target and source a (buffer, start), through convert(value, lanes)."""
    wide = 32
    (into, to), (origin, start) = target, source

    def move(offset: Any, lanes: int) -> None:
        value = nest.load(origin, start + offset, lanes)
        nest.store(into, to + offset, convert(value, lanes) if convert else value, lanes)

    if count >= wide:
        with nest.loop(count // wide) as i:
            move(i * wide, wide)
    for offset, lanes in pieces(count % wide, wide // 2):
        move(count - count % wide + offset, lanes)


def fill(nest: Nest, buffer: Any, start: Any, count: int, value: Any) -> None:
    """Set `count` consecutive elements to a scalar."""
    wide = 32
    if count >= wide:
        with nest.loop(count // wide) as i:
            nest.store(buffer, start + i * wide, nest.splat(value, wide), wide)
    for offset, lanes in pieces(count % wide, wide // 2):
        nest.store(buffer, start + (count - count % wide) + offset, nest.splat(value, lanes), lanes)


class Function(Protocol):
    """What can be compiled: pointers with their buffers, in order, and statements; a `Nest` is one."""

    @property
    def arguments(self) -> list[Any]: ...
    @property
    def part(self) -> Any: ...
    def body(self) -> Any: ...


def compile_nest(nest: Function, symbol: str, target: dict[str, Any]) -> bytes:
    """The object file (ELF bytes) of `int32_t symbol(arguments..., int32_t part)`, which returns 0.

    Raises LutError when LLVM does not know the target.
    """
    import tvm
    from tvm import s_tir, tirx
    from tvm.ir import PrimType
    from tvm.tirx.build import codegen_build

    llvm = llvm_target(target)
    statements: Sequence[Any] = [tirx.stmt.DeclBuffer(buffer, data=pointer) for pointer, buffer in nest.arguments]
    body = tirx.SeqStmt([*statements, nest.body()])
    for key, value in (("device_type", 1), ("device_id", 0)):  # LowerTVMBuiltin asks for them: 1 is the CPU
        body = tirx.AttrStmt(tvm.runtime.convert("default"), key, tirx.const(value, "int32"), body)
    body = tirx.SeqStmt([body, tirx.stmt.Return(tirx.const(0, "int32"))])
    parameters = [*(pointer for pointer, _ in nest.arguments), nest.part]
    function = tirx.PrimFunc(parameters, body, PrimType("int32"))
    function = function.with_attr({"global_symbol": symbol, "calling_conv": 1, "target": llvm})
    module = tvm.IRModule({symbol: function})
    x, s = tirx.transform, s_tir.transform
    for step in (x.StmtSimplify(), s.RewriteUnsafeSelect(), x.LowerIntrin()):
        module = step(module)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.o")
        codegen_build(module, llvm).write_to_file(str(path), "o")
        return check_object(path.read_bytes(), target)
