"""Rows and whole networks beside ONNX Runtime, OpenVINO and LiteRT (XNNPACK), each at its best setting, in one run.

    pip install 'lutier[runtimes]'
    python scripts/bench_runtimes.py [--rows] [--networks] [--threads 1] [--plot FILE.svg] [--json]

Everyone runs the same lowered network on as many threads: 8-bit (u8 activations, s8 weights per channel) and float32.
A row is the middle of a chain of equal layers, so that a runtime's call overhead is spread over CHAIN of them; what a
call of each costs at all is in the row of the empty network (one 1x1 convolution of one pixel). Contenders take turns,
ROUNDS times; the lowest window of each counts, and of an empty call the lowest of the whole run. Ours alone pays for
turning the image's bytes into codes. On x86 without VNNI ONNX Runtime by default saturates sums of two products, so its
scores are wrong; its default is a contender of its own beside the exact setting, and every setting is asked whether it
saturates (a convolution of the largest codes and weights). The speedup is over the best that is right there; the last
column counts the wrong ones too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deploy.lower import lower
from deploy.program import Program
from deploy.tvm_build import HostModule, build
from lut.errors import InputError
from lut.kernels import isa_of_host
from lut.progress import Progress
from scripts.rivals.runtimes import RIVALS, saturating
from search.environment import environment
from search.outcome import table as text_table
from supernet import SearchSpace, Supernet, extract
from supernet.networks import NETWORKS

CHAIN, ROUNDS, WINDOWS, WINDOW_US = 8, 8, 12, 2000.0
ROWS = {  # name: channels of the chain's layers, size, kernel, depthwise
    "3x3 16, 32x32": ((16,) * (CHAIN + 1), 32, 3, False),
    "3x3 32, 16x16": ((32,) * (CHAIN + 1), 16, 3, False),
    "3x3 64, 8x8": ((64,) * (CHAIN + 1), 8, 3, False),
    "1x1 96-24-96, 16x16": ((96, 24) * (CHAIN // 2) + (96,), 16, 1, False),
    "1x1 64, 16x16": ((64,) * (CHAIN + 1), 16, 1, False),
    "depthwise 96, 16x16": ((96,) * (CHAIN + 1), 16, 3, True),
}
NETS = {"resnet8": 32, "resnet20": 32, "mobilenet_v2": 96}
OURS, EMPTY = "Lutier", "empty"


def chain(channels: tuple[int, ...], kernel: int, depthwise: bool) -> nn.Module:
    """Convolution, batch norm and ReLU, len(channels) - 1 times, between a first layer and a classifier."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()]
    for c_in, c_out in itertools.pairwise(channels):
        groups = c_in if depthwise else 1
        conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))


def programs(model: nn.Module, size: int) -> dict[str, Program]:
    """8-bit and float32, with sound batch-norm statistics and random weights."""
    x = torch.randn(16, 3, size, size)
    with torch.no_grad():
        for _ in range(20):
            model(x)
    model.eval()
    found = {}
    for name, bits in (("8-bit", 8), ("float32", 32)):
        net = Supernet.from_model(model, x, SearchSpace((bits,), (bits,), (1.0,))).eval()
        if bits == 8:
            net.calibrate([x])
        found[name] = lower(extract(net, net.arch()), name)
    return found


def part(program: Program, first: int, last: int) -> Program:
    """Operators first .. last - 1 as a program of their own."""
    ops = program.ops[first:last]
    return Program(ops, program.tensors, ops[0].inputs[0], (ops[-1].output,), program.name)


@dataclass
class Contender:
    """window() -> microseconds of one inference, the mean of a window."""

    window: Callable[[], float]
    best: float = float("inf")

    def turn(self) -> None:
        self.best = min(self.best, *(self.window() for _ in range(WINDOWS)))


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """Windows of as many inferences as fill WINDOW_US."""
    for _ in range(20):
        run()
    start = time.perf_counter()
    for _ in range(20):
        run()
    count = max(1, round(WINDOW_US * 1e-6 / ((time.perf_counter() - start) / 20)))

    def window() -> float:
        begin = time.perf_counter()
        for _ in range(count):
            run()
        return (time.perf_counter() - begin) / count * 1e6

    return window


def rivals(program: Program, threads: int) -> dict[str, Contender]:
    """By "runtime: setting"; a runtime that refuses the program is left out, with its reason on stderr."""
    found = {}
    for name, prepare in RIVALS.items():
        try:
            for setting, session in prepare(program, threads).items():
                found[f"{name}: {setting}"] = Contender(timed(session.run))
        except (InputError, RuntimeError, ValueError) as error:
            print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return found


def compete(contenders: dict[str, Contender], title: str) -> dict[str, float]:
    """Microseconds by contender."""
    with Progress(ROUNDS, title) as bar:
        for _ in range(ROUNDS):
            for contender in contenders.values():
                contender.turn()
            bar.update()
    return {name: contender.best for name, contender in contenders.items()}


def best_of(us: dict[str, float]) -> dict[str, dict[str, Any]]:
    """By runtime: the time and the setting of its fastest setting."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in us.items():
        runtime, _, setting = name.partition(": ")
        if runtime not in found or value < found[runtime]["us"]:
            found[runtime] = {"us": value, "setting": setting}
    return found


def record(
    name: str, bits: str, us: dict[str, float], share: float, empty: dict[str, float], wrong: Sequence[str]
) -> dict[str, Any]:
    """share: what one layer is of the time. speedup: the best rival's time, its empty call taken off, over ours; in 8
    bits without the settings whose sums saturate (`wrong`)."""
    best = {runtime: {**found, "us": found["us"] * share} for runtime, found in best_of(us).items()}
    right = best_of({n: v for n, v in us.items() if bits == "float32" or not n.startswith(tuple(wrong) or "-")})

    def speedup(contenders: dict[str, dict[str, Any]], scale: float) -> float | None:
        net = [(f["us"] * scale - empty[r] * share) / best[OURS]["us"] for r, f in contenders.items() if r != OURS]
        return min(net, default=None)

    return {"name": name, "bits": bits, **{r: f["us"] for r, f in best.items()},
            "settings": {r: f["setting"] for r, f in best.items() if r != OURS},
            "speedup": speedup(right, share), "speedup_of_any": speedup(best, 1.0)}  # fmt: skip


def bench(rows: bool, networks: bool, threads: int) -> list[dict[str, Any]]:
    """One record per row or network and bits, the empty network's last."""
    torch.manual_seed(0)
    isa, races = isa_of_host(), list[tuple[str, str, dict[str, float], float]]()
    nothing = programs(nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2)), 1)["8-bit"]
    calls = {f"{EMPTY} {name}": contender for name, contender in rivals(nothing, threads).items()}
    wrong = [setting for name in RIVALS for setting in saturating(name)]

    def race(name: str, bits: str, program: Program, share: float, ours: Callable[[], float]) -> None:
        us = compete({OURS: Contender(ours), **rivals(program, threads), **calls}, f"{name} {bits}")
        races.append((name, bits, {n: value for n, value in us.items() if not n.startswith(EMPTY)}, share))

    with tempfile.TemporaryDirectory() as folder:
        for name, (channels, size, kernel, depthwise) in ROWS.items() if rows else ():
            for bits, program in programs(chain(channels, kernel, depthwise), size).items():
                module = HostModule(build(program, isa, Path(folder, f"{len(races)}"), threads=threads))
                layers = [op.name for op in program.ops[2 : 2 + CHAIN]]

                def ours(module: HostModule = module, layers: list[str] = layers) -> float:
                    with module.apart():
                        us = module.time_ops(1, WINDOW_US)
                    return float(sum(us[layer][0] for layer in layers))

                race(name, bits, part(program, 2, 2 + CHAIN), 1 / CHAIN, ours)
        for name, size in NETS.items() if networks else ():
            for bits, program in programs(NETWORKS[name](10, 3, size), size).items():
                module = HostModule(build(program, isa, Path(folder, f"{len(races)}"), threads=threads))

                def whole(module: HostModule = module) -> float:
                    with module.apart():
                        return float(module.time_network(1, window_us=WINDOW_US)[0])

                race(f"{name}, {size}x{size}", bits, program, 1.0, whole)
    least = {r.removeprefix(f"{EMPTY} "): f["us"] for r, f in best_of({n: c.best for n, c in calls.items()}).items()}
    records = [record(*race, least, wrong) for race in races]
    return [*records, {"name": "an empty network", "bits": "8-bit", **least, "saturating": wrong}]


def plot(records: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    shown = [r for r in records if OURS in r]
    names = [OURS, *RIVALS]
    figure = Figure((10, 0.55 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    step = 0.8 / len(names)
    for i, name in enumerate(names):
        y = np.arange(len(shown)) + (i - (len(names) - 1) / 2) * step
        axes.barh(y, [r[name] / r[OURS] if name in r else 0 for r in shown], 0.9 * step, label=name)
    axes.set_yticks(range(len(shown)), [f"{r['name']}, {r['bits']} ({r[OURS]:.1f} us)" for r in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"time, relative to {OURS}")
    axes.axvline(1, color="black", lw=0.6)
    figure.legend(loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", action="store_true", help="single layers alone")
    p.add_argument("--networks", action="store_true", help="whole networks alone")
    p.add_argument("--threads", type=int, default=1, help="of every contender (%(default)s)")
    p.add_argument("--plot", type=Path, metavar="FILE.svg")
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    cores = len(os.sched_getaffinity(0))
    if not 1 <= args.threads <= cores:
        p.error(f"--threads: {args.threads} is not from 1 to {cores}, the cores that this process may use")
    try:
        records = bench(args.rows or not args.networks, args.networks or not args.rows, args.threads)
    except ImportError as error:
        print(f"error: {error.name} is not installed: pip install 'lutier[runtimes]'", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if args.plot:
        plot(records, args.plot)
    if args.json:
        print(json.dumps({"rows": records, "environment": environment(["python", *sys.argv], 0)}, indent=1))
        return 0
    names = [OURS, *RIVALS]
    lines = [("us", "bits", *names, "best / ours", "saturating too")]
    for r in records:
        cells = [f"{r[name]:.1f}" if name in r else "-" for name in names]
        ratios = [f"{r[key]:.2f}x" if r.get(key) else "" for key in ("speedup", "speedup_of_any")]
        lines.append((r["name"], r["bits"], *cells, *ratios))
    print(text_table(lines))
    print(f"sums of 8-bit products saturate in: {', '.join(records[-1]['saturating']) or 'none of them'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
