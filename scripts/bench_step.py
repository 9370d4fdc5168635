"""CPU time and memory of a search's steps beside plain training's, in one interleaved run on one thread.

    python -m scripts.bench_step [--networks resnet8 resnet20 ds_cnn] [--batches 32 128] [--rounds 12] [--json]
    python -m scripts.bench_step --memory [--networks ...] [--batches ...]

The supernet has every option: 3 weight bits x 3 activation bits x 8 widths per layer, LSQ steps per option, softmax
gates. Its weight and architecture steps are those of search.bilevel, with loss, clipping, optimizer and two expected
costs. `plain` is the user's float32 network with the same loss, clipping and optimizer, as PyTorch runs it; `plain, cl`
the same in the memory layout that the supernet has (channels last). `subnet` is one of 4-bit weights and 8-bit
activations; `taught`: with the float network as teacher, `before`: of batches that it has seen. `whole tensors`:
activations not quantized piece by piece; `image's step`: learned. `expected costs, alone`: without other steps in
between. Steps take turns; medians are shown.

--memory: the highest resident memory during ten steps above that between two, each in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from cost_models.counts import COUNTS
from cost_models.expected import expected
from lut.progress import Progress
from search.bilevel import SearchLoop, make_objective, make_relaxation
from search.compiled import Compiled
from search.config import SearchConfig
from search.environment import environment
from search.outcome import table as text_table
from search.teacher import Teacher
from search.train import descend, distillation, smoothed_cross_entropy
from supernet import SearchSpace, Supernet, extract, quantizers
from supernet.networks import NETWORKS

INPUTS = {"ds_cnn": (1, (49, 10))}  # else 3 x 32 x 32
CLASSES = 10
BITS, MORE_BITS = (2, 4, 8), (2, 4, 6, 8)
WIDTHS, FEWER_WIDTHS = tuple((i + 1) / 8 for i in range(8)), (0.5, 1.0)
Step = Callable[[], Any]


def batch(name: str, size: int) -> tuple[Tensor, Tensor]:
    channels, shape = INPUTS.get(name, (3, (32, 32)))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, channels, *shape, generator=generator), torch.arange(size) % CLASSES


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    channels, shape = INPUTS.get(name, (3, (32, 32)))
    return NETWORKS[name](CLASSES, channels, shape).train()


def plain(name: str, size: int, layout: torch.memory_format, compiled: bool) -> Step:
    net = model(name).to(memory_format=layout)  # type: ignore[call-overload]
    x, y = batch(name, size)
    x = x.contiguous(memory_format=layout)
    return training(net, x, y, Compiled(net, size, lambda line: None) if compiled else net)


class OneBatch:
    """The data of a search that never ends."""

    def __init__(self, name: str, size: int):
        self.pair = batch(name, size)

    def size(self, split: str) -> int:
        return len(self.pair[0])


def search(name: str, size: int, compiled: bool, bits: tuple[int, ...], widths: tuple[float, ...]) -> SearchLoop:
    space = SearchSpace(bits, bits, widths, channel_multiple=1)
    net = Supernet.from_model(model(name), batch(name, min(size, 16))[0], space).train()
    graded = {metric: expected(COUNTS[metric], net.schedule(), net.choices()) for metric in ("bitops", "weights")}
    config = SearchConfig(relaxation="softmax", batch_size=size, compile="always" if compiled else "never")
    data = OneBatch(name, size)
    loss = smoothed_cross_entropy()
    return SearchLoop(net, data, graded, {}, config, make_objective(config, []), make_relaxation(config),  # type: ignore
                      loss, lambda output, target: 0.0, False)  # fmt: skip


def weight_step(loop: SearchLoop) -> Step:
    return lambda: loop.weight_step(*loop.data.pair, "step")  # type: ignore[attr-defined]


def arch_step(loop: SearchLoop) -> Step:
    return lambda: loop.arch_step(*loop.data.pair, "step")  # type: ignore[attr-defined]


def cost_step(loop: SearchLoop) -> Step:
    def step() -> None:
        gates = loop.net.sample(loop.relaxation)
        torch.stack([cost(gates) for cost in loop.costs.values()]).sum().backward()

    return step


LAYOUTS = {"plain": torch.contiguous_format, "plain, cl": torch.channels_last}
SEARCHES = {"supernet": (BITS, WIDTHS), "4 bits": (MORE_BITS, WIDTHS), "2 widths": (BITS, FEWER_WIDTHS)}


def subnet_steps(name: str, size: int, compiled: bool) -> dict[str, Step]:
    net = search(name, size, False, *SEARCHES["supernet"]).net
    subnet, (x, y) = extract(net, net.uniform(4, 8)).train(), batch(name, size)
    forward = Compiled(subnet, size, lambda line: None) if compiled else subnet
    return {
        "subnet, weights": training(subnet, x, y, forward),
        "subnet, taught": training(subnet, x, y, forward, Teacher(model(name), room=0)),
        "subnet, taught before": training(subnet, x, y, forward, Teacher(model(name))),
    }


def training(
    net: nn.Module, x: Tensor, y: Tensor, forward: Callable[[Tensor], Tensor], teacher: Teacher | None = None
) -> Step:
    """A step of plain training, or of one with a teacher; what is frozen has no part in it."""
    loss, weights = smoothed_cross_entropy(), [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, 0.01, momentum=0.9)

    def step() -> None:
        output = forward(x)
        value = loss(output, y)
        if teacher is not None:
            value = torch.lerp(value, distillation(output, teacher(x), 4.0), 0.5)
        descend(value, [optimizer], weights, 5.0, "step")

    return step


def in_pieces_of(size: int, step: Step) -> Step:
    """`step` with activations quantized that many bytes at a time."""

    def patched() -> None:
        before, quantizers.PIECE_BYTES = quantizers.PIECE_BYTES, size
        try:
            step()
        finally:
            quantizers.PIECE_BYTES = before

    return patched


def variants(name: str, size: int) -> dict[str, Step]:
    """The eager weight step without what makes it fast."""
    plainly, learned = (search(name, size, False, *SEARCHES["supernet"]) for _ in range(2))
    learned.net.quantizer(learned.net.nodes[0].name).requires_grad_(True)
    return {
        "supernet, weights, whole tensors": in_pieces_of(2**40, weight_step(plainly)),
        "supernet, weights, image's step": weight_step(learned),
    }


def contenders(name: str, size: int) -> tuple[dict[str, Step], dict[str, float]]:
    """The steps, warm, and the seconds that compiling took."""
    steps: dict[str, Step] = {}
    seconds: dict[str, float] = {}
    for compiled in (False, True):
        mark = ", compiled" if compiled else ""
        made = {title: plain(name, size, layout, compiled) for title, layout in LAYOUTS.items()}
        for title, options in SEARCHES.items():
            if compiled and title == "2 widths":  # what widths cost shows without
                continue
            loop = search(name, size, compiled, *options)
            made[f"{title}, weights"] = weight_step(loop)
            if title == "supernet":
                made["supernet, architecture"] = arch_step(loop)
                if not compiled:
                    made["expected costs"] = cost_step(loop)
        made |= subnet_steps(name, size, compiled)
        if not compiled:
            made |= variants(name, size)
        for title, step in made.items():
            start = time.perf_counter()
            step()
            if compiled:
                seconds[title] = time.perf_counter() - start
            step()
            steps[title + mark] = step
    return steps, seconds


def race(steps: dict[str, Step], rounds: int, title: str) -> dict[str, float]:
    """Median CPU milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    with Progress(rounds, title) as bar:
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.process_time()
                step()
                times[name].append((time.process_time() - start) * 1e3)
            bar.update()
    return {name: statistics.median(values) for name, values in times.items()}


def bench(name: str, size: int, rounds: int) -> dict[str, Any]:
    steps, seconds = contenders(name, size)
    ms = race(steps, rounds, f"{name}, batch {size}")
    ms["expected costs, alone"] = race({"": steps["expected costs"]}, rounds, "expected costs")[""]
    saved = (ms["supernet, weights"] - ms["supernet, weights, compiled"]) / 1e3
    return {
        "network": name,
        "batch": size,
        "ms": ms,
        "compile_seconds": seconds,
        "steps_until_compiling_pays": seconds["supernet, weights"] / saved if saved > 0 else None,
    }


def resident() -> dict[str, int]:
    """KiB now and at most (VmRSS, VmHWM)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM")}


def memory_of(name: str, size: int, title: str, compiled: bool) -> float:
    """MiB that ten steps take at most beyond weights and optimizer; run in a process of its own. Two steps before bring
    compiling out of the way."""
    torch.set_num_threads(1)
    if title in LAYOUTS:
        step = plain(name, size, LAYOUTS[title], compiled)
    else:
        step = weight_step(search(name, size, compiled, *SEARCHES[title]))
    for _ in range(2):
        step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator kept of them
    before = resident()["VmRSS"]
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far starts anew
    for _ in range(10):
        step()
    return (resident()["VmHWM"] - before) / 1024


def memory(name: str, size: int) -> dict[str, float]:
    """MiB by contender."""
    found = {}
    context = multiprocessing.get_context("spawn")
    for compiled in (False, True):
        for title in (*LAYOUTS, "supernet"):
            with context.Pool(1) as pool:
                found[title + (", compiled" if compiled else "")] = pool.apply(memory_of, (name, size, title, compiled))
    return found


def show(record: dict[str, Any]) -> str:
    ms, of = record["ms"], record["ms"]["plain"]
    compiled = ms["plain, compiled"]
    rows = [("step", "ms of CPU", "/ plain", "/ plain, compiled", "compiling s")]
    for title, value in ms.items():
        seconds = record["compile_seconds"].get(title.removesuffix(", compiled")) if "compiled" in title else None
        rows.append((title, f"{value:.1f}", f"{value / of:.2f}", f"{value / compiled:.2f}",
                     "" if seconds is None else f"{seconds:.0f}"))  # fmt: skip
    pays = record["steps_until_compiling_pays"]
    return f"{record['network']}, batch {record['batch']}\n{text_table(rows)}\ncompiling pays after " + (
        "no number of steps" if pays is None else f"{pays:.0f} steps of {record['batch']}"
    )


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--networks", nargs="+", default=["resnet8", "resnet20", "ds_cnn"], choices=sorted(NETWORKS))
    p.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    p.add_argument("--rounds", type=int, default=12)
    p.add_argument("--memory", action="store_true")
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    inductor.force_disable_caches = True  # else a second run's compiling takes a quarter of the first one's time
    records = []
    for name in args.networks:
        for size in args.batches:
            if args.memory:
                records.append({"network": name, "batch": size, "MiB": memory(name, size)})
                shown = "".join(f"\n  {title}: {mib:.0f} MiB" for title, mib in records[-1]["MiB"].items())
                line = f"{name}, batch {size}{shown}"
            else:
                records.append(bench(name, size, args.rounds))
                line = show(records[-1])
            if not args.json:
                print(line, flush=True)
    if args.json:
        print(json.dumps({"records": records, "environment": environment(["python", *sys.argv], 0)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
