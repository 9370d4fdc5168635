"""Traces of MetaSchedule as data: the JSON of schedule instructions and decisions that turn plain loops into a kernel.

A trace comes from a file that anyone may have written, so it may hold nothing but instructions that move, cut and mark
loops (INSTRUCTIONS), with marks of known effect (MARKS): each of them keeps what is computed. Instructions that call
code by name, import sources or change types are refused, and nothing is ever evaluated as Python.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from lut.errors import LutError
from lut.spec import OpSpec

from .plain import OUT, PAD, SUM, plain

PREFIX = "meta-schedule:"
"""Of the name of a variant, before the digest of its trace."""
LONGEST = 1 << 16
INSTRUCTIONS = frozenset(
    {
        "Annotate", "CacheWrite", "ComputeAt", "ComputeInline", "DecomposeReduction", "EnterPostproc", "Fuse",
        "GetChildBlocks", "GetConsumers", "GetLoops", "GetSBlock", "Reorder", "ReverseComputeAt", "SampleCategorical",
        "SampleComputeLocation", "SamplePerfectTile", "Split", "Unannotate", "Vectorize",
    }
)  # fmt: skip
MOST_STEPS = 512
"""Into which a loop may be unrolled."""
MARKS = {
    "meta_schedule.tiling_structure": None,
    "meta_schedule.vectorize": 64,
    "meta_schedule.unroll_explicit": MOST_STEPS,
    "pragma_auto_unroll_max_step": MOST_STEPS,
    "pragma_unroll_explicit": 1,
}
"""Annotations and the largest number that each may have; None: a word that only MetaSchedule reads."""
WORDS = frozenset({"main", "root", "global", PAD, SUM, OUT})


def variant_of(trace: str) -> str:
    """The name of the schedule that a trace makes."""
    return PREFIX + hashlib.sha256(trace.encode()).hexdigest()[:12]


def is_tuned(variant: str) -> bool:
    """Whether a variant is one that needs its trace."""
    return variant.startswith(PREFIX)


def check_trace(trace: str) -> list[Any]:
    """The trace's JSON. Raises LutError for anything but a harmless list of schedule instructions."""
    if len(trace) > LONGEST:
        raise LutError(f"trace: {len(trace)} characters; a trace has at most {LONGEST}")
    try:
        instructions, decisions = json.loads(trace)
        for name, inputs, attributes, outputs in instructions:
            if name not in INSTRUCTIONS:
                raise LutError(f"trace: instruction {str(name)[:40]!r} is none that a trace may have")
            if name == "Annotate":
                _check_mark(attributes[0], inputs[1])
            if name == "SampleCategorical" and not all(0 <= value <= MOST_STEPS for value in attributes[0]):
                raise LutError(f"trace: choices {str(attributes[0])[:40]} are not between 0 and {MOST_STEPS}")
            for value in _leaves([inputs, attributes, outputs]):
                _check_value(value)
        for place, decision in decisions:
            if not all(type(value) is int for value in _leaves([place, decision])):
                raise ValueError("a decision that is no number")
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise LutError(f"trace: not one of MetaSchedule: {error!s:.80}") from None
    return [instructions, decisions]


def _leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def _check_value(value: Any) -> None:
    """Numbers, names of blocks and loops, marks, and nothing."""
    if value is None or isinstance(value, int | float):
        return
    if isinstance(value, str):
        word = value.strip('"')
        if re.fullmatch(r"[blv]?[0-9]+|[SR]+", word) or word in WORDS or word in MARKS:
            return
    raise LutError(f"trace: {str(value)[:40]!r} is nothing that a trace may name")


def _check_mark(name: Any, value: Any) -> None:
    if name not in MARKS:
        raise LutError(f"trace: mark {str(name)[:40]!r} is none that a trace may set")
    most = MARKS[name]
    if most is not None and not (isinstance(value, str) or (isinstance(value, int) and 0 <= value <= most)):
        raise LutError(f"trace: {name}: {value!r} is not between 0 and {most}")


def scheduled(spec: OpSpec, isa: str, trace: str) -> tuple[Any, tuple[str, ...]]:
    """(TVM's module after the trace's instructions, its buffers' names). Raises LutError when they do not apply."""
    import tvm
    from tvm import s_tir

    body = check_trace(trace)
    function, names = plain(spec, isa)
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    try:
        s_tir.Trace.apply_json_to_schedule(body, schedule)
    except Exception as error:  # whatever a damaged trace makes of TVM's checks
        reason = str(error).strip().rpartition("\n")[2]
        raise LutError(f"trace: does not apply to this {spec.kind}: {type(error).__name__}: {reason[:200]}") from None
    return schedule.mod, names
