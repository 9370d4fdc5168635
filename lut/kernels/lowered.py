"""From scheduled blocks of loops to statements over the eight pointers that every kernel has.

TVM's usual passes, up to where it would wrap the function for its own calling convention. Small arrays stay on the
stack, where LLVM keeps sums in registers; larger ones (staged inputs) are placed in the workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .signature import NAMES, SLACK

STACK_BYTES = 4096
"""The largest array that stays on the stack."""


@dataclass(frozen=True)
class Lowered:
    """What `emit.compile_nest` compiles: pointers with their buffers, in order, and statements."""

    arguments: list[tuple[Any, Any]]
    part: Any
    statements: Any
    workspace_bytes: int

    def body(self) -> Any:
        return self.statements


def lower(module: Any, names: Sequence[str]) -> Lowered:
    """module: one scheduled function `main`; names: those of its buffers, among `signature.NAMES`."""
    from tvm import s_tir, tirx
    from tvm.ir import PointerType, PrimType

    s, x = s_tir.transform, tirx.transform
    for step in (
        s.CanonicalizeLoop(), s.LowerInitBlock(), s.PlanAndUpdateBufferAllocationLocation(), s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(), s.LowerMatchBuffer(), s.StmtSimplify(), s.LowerOpaqueBlock(), x.FlattenBuffer(),
        x.NarrowDataType(32), s.LoopPartition(), x.VectorizeLoop(True), x.StorageRewrite(), s.HoistIfThenElse(),
        x.UnrollLoop(), s.RenormalizeSplitPattern(), x.StmtSimplify(), x.RemoveNoOp(), x.CommonSubexprElim(),
    ):  # fmt: skip
        module = step(module)
    function = module["main"]
    given = dict(zip(names, function.params))
    arguments = []
    for name in NAMES:
        dtype = str(given[name].dtype) if name in given else "uint8"
        pointer = tirx.Var(name, PointerType(PrimType(dtype)))
        unused = tirx.decl_buffer((1 << 30,), dtype, name + "_b", data=pointer)
        arguments.append((pointer, given.get(name, unused)))
    workspace = arguments[NAMES.index("workspace")][1]
    statements, used = [], 0
    for statement in function.body.seq if isinstance(function.body, tirx.SeqStmt) else [function.body]:
        if isinstance(statement, tirx.stmt.AllocBuffer) and (size := _bytes(statement.buffer)) > STACK_BYTES:
            statement = tirx.stmt.DeclBuffer(statement.buffer, data=tirx.address_of(workspace[used]))
            used += -(-(size + SLACK) // 64) * 64
        statements.append(statement)
    return Lowered(arguments, tirx.Var("part", "int32"), tirx.SeqStmt(statements), used)


def _bytes(buffer: Any) -> int:
    """Of an array whose elements may be vectors."""
    dtype, _, lanes = str(buffer.dtype).partition("x")
    return int(np.prod([int(n) for n in buffer.shape])) * np.dtype(dtype).itemsize * int(lanes or 1)
