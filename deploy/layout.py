"""Where a built network's tensors, workspaces and constants lie, and what each call of a kernel is given in C."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from cost_models.arena import Buffer, lifetimes, plan
from cost_models.memory import tensor_bytes
from lut.device import Storage
from lut.errors import LutError
from lut.kernels.signature import NAMES

from .program import Op, Program
from .results import Place

Pack = Callable[[Op, Sequence[int], int], Mapping[str, np.ndarray]]
"""Constants by argument of an operator, given the zero points of its inputs and of its output."""


def check_image(program: Program) -> None:
    """Raise LutError unless one operator, of kind input, reads the image."""
    readers = [op for op in program.ops if program.input in op.inputs]
    if [op.spec.kind for op in readers] != ["input"]:
        raise LutError(f"{program.name}: the image {program.input!r} is read by {[op.name for op in readers]}; "
                       "expected one operator of kind 'input'")  # fmt: skip


def workspace_of(operator: str) -> str:
    """Its name among the offsets."""
    return f"workspace of {operator}"


def place(
    program: Program, workspaces: Mapping[str, int], alignment: int, slack: int, storage: Storage = "byte"
) -> tuple[dict[str, int], int]:
    """(offset by tensor name and `workspace_of(op)`, bytes) of one arena; image and results are the caller's.

    workspaces: bytes by operator name. slack: readable bytes behind every tensor. storage: of codes below 8 bits.
    """
    outside = {program.input, *program.outputs}
    inside = {
        name: tensor_bytes(t.channels, t.height, t.width, t.bits, storage) + slack
        for name, t in program.tensors.items()
        if name not in outside
    }
    buffers, shared = lifetimes(program.ops, inside, program.outputs)
    buffers = [buffer for buffer in buffers if buffer.name in inside]
    for step, op in enumerate(program.ops):
        if size := workspaces[op.name]:
            buffers.append(Buffer(workspace_of(op.name), size, step, step))
    arena = plan(buffers, shared, alignment)
    return dict(arena.offsets), arena.size


def constants(program: Program, pack: Pack, alignment: int, slack: int) -> tuple[bytes, dict[tuple[str, str], int]]:
    """(all constants, offset by (operator, argument)), each aligned and followed by `slack` bytes at least."""
    blob, offsets = bytearray(), {}
    for op in program.ops:
        zeros = [program.tensors[name].zero for name in op.inputs]
        for name, array in pack(op, zeros, program.tensors[op.output].zero).items():
            offsets[op.name, name] = len(blob)
            blob += array.tobytes()
            blob += bytes(slack + -(len(blob) + slack) % alignment)
    return bytes(blob), offsets


def arguments(
    program: Program,
    op: Op,
    used: Container[str],
    arena: Mapping[str, int],
    constants: Mapping[tuple[str, str], int],
    results: Sequence[Place],
    part: str = "",
    storage: Storage = "byte",
) -> str:
    """C expressions of a kernel's eight pointers, in a function with `image` and `scores`, an arena A and constants C.

    used: names of the pointers that the kernel reads or writes. results: of the outputs in `scores`. part: added to the
    workspace's address.
    """
    fixed = {program.input: "image"}
    fixed |= {name: f"scores + {row.first}" if row.first else "scores" for name, row in zip(program.outputs, results)}
    tensors = dict(zip(("in", "in2"), op.inputs)) | {"out": op.output}
    shared = {"concat": "out", "split": "in"}.get(op.spec.kind)  # of it an operator has a part of the channels
    words = []
    for name in NAMES:
        if name not in used:
            words.append("0")
        elif name in tensors:
            tensor = program.tensors[tensors[name]]
            bits = tensor.bits if storage == "packed" else 8 * np.dtype(tensor.dtype).itemsize
            first = op.offset * bits // 8 if name == shared else 0
            words.append(fixed.get(tensor.name) or f"A + {arena[tensor.name] + first}")
        elif name == "workspace":
            words.append(f"A + {arena[workspace_of(op.name)]}{part}")
        else:
            words.append(f"C + {constants[op.name, name]}")
    return ", ".join(words)
