"""What a network leaves behind an inference: one buffer of numbers with its output tensors in a row, and their meaning.

Tensors are NHWC, each with a scale of its own; `Place` says where one begins. Where numbers are compared or handed on,
they are without the gaps that alignment leaves: (n, values), as `integer.run_program` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .program import Program


@dataclass(frozen=True)
class Place:
    """An output tensor in the buffer of results: its first number, how many, its label (`supernet.outputs.Form`), the
    value of one unit. softmax: the model returns the softmax of the values over the channels."""

    first: int
    count: int
    label: str = ""
    scale: float = 1.0
    softmax: bool = False


def places(program: Program, alignment: int = 1) -> tuple[Place, ...]:
    """Of the outputs in order, every first number at a multiple of `alignment` bytes."""
    found: list[Place] = []
    at = 0
    labels = program.form.labels if len(program.form.labels) == len(program.outputs) else program.outputs
    for position, (name, label) in enumerate(zip(program.outputs, labels)):
        tensor = program.tensors[name]
        size = np.dtype(tensor.dtype).itemsize
        at = -(-at * size // alignment) * alignment // size
        softmax = program.form.is_softmax(position)
        found.append(Place(at, tensor.bytes // size, label, tensor.scale, softmax))
        at += tensor.bytes // size
    return tuple(found)


def room(rows: Sequence[Place]) -> int:
    """Numbers of the buffer, gaps included."""
    return rows[-1].first + rows[-1].count


def dense(buffers: np.ndarray, rows: Sequence[Place]) -> np.ndarray:
    """(n, room) -> (n, values)."""
    if len(rows) == 1:
        return buffers
    return np.concatenate([buffers[:, row.first : row.first + row.count] for row in rows], 1)


def values(program: Program, numbers: np.ndarray) -> Any:
    """What the user's model returns, float32 on the CPU, of an inference's numbers (n, values)."""
    found = []
    for name, row in zip(program.outputs, places(program)):
        tensor = program.tensors[name]
        codes = torch.as_tensor(numbers[:, row.first : row.first + row.count], dtype=torch.float32)
        shape = (len(codes), tensor.height, tensor.width, tensor.channels)
        found.append(tensor.scale * codes.reshape(shape).permute(0, 3, 1, 2))
    return program.form.build(found)


def difference(program: Program, expected: np.ndarray, got: np.ndarray, who: str) -> str:
    """Where the reference's (n, values) and those of `who` first differ, in words; '' where they are equal."""
    if np.array_equal(expected, got):
        return ""
    image, at = (int(i) for i in np.argwhere(expected != got)[0])
    row = next(row for row in places(program) if at < row.first + row.count)
    span = slice(row.first, row.first + row.count)
    where = f"output {row.label}, " if len(program.outputs) > 1 else ""
    return f"{where}image {image}: {who} {got[image, span]}, the reference {expected[image, span]}"
