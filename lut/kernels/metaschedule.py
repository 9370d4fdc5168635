"""MetaSchedule's search space of an operator: schedules drawn from it, and mutations of good ones, as traces.

Tiles are S S R S: two outer cuts of every output axis, the whole reduction, and the innermost cut, whose sums stay in
registers. The usual S S R S R S would split the reduction too and so sum float32 values in another order.
"Tensor Program Optimization with Probabilistic Programs", https://arxiv.org/abs/2205.13603.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from lut.spec import OpSpec

from .isa import target
from .plain import plain
from .targets import llvm_target
from .traces import check_trace

STRUCTURE, INNERMOST, VECTOR, UNROLL = "SSRS", 64, 64, (0, 16, 64, 512)
INTRINSICS = "tvm.s_tir.tensor_intrin"
TRIES = 4
"""Attempts per trace that is wanted: drawing may fail, or find one again."""


@contextmanager
def _without_intrinsics() -> Iterator[None]:
    """TuneContext imports every vendor's tensor instructions, which takes up to minutes; none is used here."""
    if INTRINSICS in sys.modules:
        yield
        return
    sys.modules[INTRINSICS] = ModuleType(INTRINSICS)
    try:
        yield
    finally:
        del sys.modules[INTRINSICS]


def _context(module: Any, isa: str, seed: int) -> tuple[Any, list[Any]]:
    """(TVM's tune context, its post-processors)."""
    from tvm.s_tir import meta_schedule as ms

    rule = ms.schedule_rule
    reuse = rule.ReuseType(req="may", levels=[2], scope="global")
    rules = [
        rule.AutoInline(True, True, True, True, True, True),
        rule.MultiLevelTiling(structure=STRUCTURE, max_innermost_factor=INNERMOST, reuse_write=reuse),
        rule.ParallelizeVectorizeUnroll(-1, VECTOR, list(UNROLL), True),
        rule.RandomComputeLocation(),
    ]
    post = ms.postproc
    after = [post.DisallowDynamicLoop(), post.RewriteParallelVectorizeUnroll(), post.RewriteReductionBlock()]
    space = ms.space_generator.PostOrderApply(sch_rules=rules, postprocs=after, mutator_probs={})
    strategy = ms.search_strategy.ReplayTrace()
    with _without_intrinsics():
        made = ms.TuneContext(
            module,
            target=llvm_target({**target(isa), "num-cores": 1}),
            space_generator=space,
            search_strategy=strategy,
            rand_state=seed + 1,
            num_threads=1,
        )
    return made, after


def _text(trace: Any) -> str:
    """A trace as JSON on one line."""

    def plainly(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plainly(item) for item in value]
        return value.value if hasattr(value, "value") else value

    return json.dumps(plainly(trace.as_json()), separators=(",", ":"))


def sample(spec: OpSpec, isa: str, count: int, seed: int = 0) -> list[str]:
    """Up to `count` distinct traces for the row key `spec`, drawn at random."""
    import tvm

    module = tvm.IRModule({"main": plain(spec, isa)[0]})
    context, _ = _context(module, isa, seed)
    spaces = context.generate_design_space()
    context.pre_tuning(TRIES * count, count, design_spaces=spaces)
    found: dict[str, None] = {}
    for _ in range(TRIES):
        for candidate in context.generate_measure_candidates() or ():
            found[_text(candidate.sch.trace)] = None
        if len(found) >= count:
            break
    context.post_tuning()
    return list(found)[:count]


def mutate(spec: OpSpec, isa: str, parents: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Up to `count` distinct traces that differ from one of `parents` (best first) in one decision."""
    import tvm
    from tvm import s_tir
    from tvm.s_tir import meta_schedule as ms

    module = tvm.IRModule({"main": plain(spec, isa)[0]})
    context, after = _context(module, isa, seed)
    mutators = [ms.mutator.MutateTileSize(), ms.mutator.MutateUnroll(), ms.mutator.MutateComputeLocation()]
    for step in (*mutators, *after):
        step._initialize_with_tune_context(context)
    choice, found = random.Random(seed), dict.fromkeys(parents)
    for _ in range(TRIES * count):
        schedule = s_tir.Schedule(module, seed=choice.randrange(1, 1 << 30))
        parent = choice.choices(parents, range(len(parents), 0, -1))[0]
        s_tir.Trace.apply_json_to_schedule(check_trace(parent), schedule)
        mutated = choice.choices(mutators, (6, 1, 1))[0].apply(schedule.trace)
        if mutated is None:
            continue
        child = s_tir.Schedule(module, seed=choice.randrange(1, 1 << 30))
        mutated.apply_to_schedule(child, remove_postproc=True)
        child.enter_postproc()
        if all(step.apply(child) for step in after):
            found[_text(child.trace)] = None
        if len(found) >= len(parents) + count:
            break
    return [trace for trace in found if trace not in parents]
