"""Predicted beside measured: whole networks by the sum of their table rows, float32, uniform and found subnets.

    python scripts/bench_predict.py [--json] [--networks resnet8 resnet20 mobilenet_v2]
    python scripts/bench_predict.py --networks resnet8 --table tables/host-cpu.csv --points runs/front/pareto.json

Weights are random: latency does not depend on them. Found subnets come from the budget solver with random scores on
ResNet-8's space at five latency limits; with --points, from sweeps instead, plain networks among them: a point's file
each, or a sweep's pareto.json (search/pareto.py) or finished.json (scripts/bench_search.py). Rows that a network needs
and the table lacks are measured; nothing is fitted, and without --points nothing interpolated. Quiet the machine first.
"""

from __future__ import annotations

import argparse
import json
import operator
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cost_models.table import TableLatency
from deploy.lower import lower
from deploy.program import Program
from deploy.tvm_build import build
from deploy.validate import measure_networks, predicted_us
from lut.build import build_table
from lut.device import Device
from lut.errors import InputError
from lut.machine import this_machine
from search.budget import Budget
from search.coverage import space_specs
from search.environment import environment
from search.outcome import table as text_table
from search.solve import reachable, solve
from supernet import SearchSpace, Supernet, extract
from supernet.arch import Arch
from supernet.networks import NETWORKS

SIZES = {"resnet8": (3, 32), "resnet20": (3, 32), "mobilenet_v2": (3, 96)}
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Of the way from the fastest to the slowest architecture, where found networks have their limits."""
FOUR_BITS = ("resnet8", "resnet20")


SPACE = SearchSpace()
Point = tuple[Path, str, dict[str, int]]
"""A sweep's quantized network: its file, name and choices."""


def networks(name: str, seed: int, space: SearchSpace = SPACE) -> tuple[Supernet, dict[str, Program]]:
    """A network's supernet, and its float32, uniform 8-bit and, of some, uniform 4-bit programs."""
    torch.manual_seed(seed)
    channels, size = SIZES[name]
    model = NETWORKS[name](10, channels, size)
    x = torch.randn(16, channels, size, size)
    with torch.no_grad():
        for _ in range(20):
            model(x)  # sound batch-norm statistics
    model.eval()
    net = Supernet.from_model(model, x, space).eval()
    plain = Supernet.from_model(model, x, SearchSpace((32,), (32,), (1.0,))).eval()
    programs = {f"{name} float32": lower(extract(plain, plain.arch()), "float32")}
    for bits in (8, 4) if name in FOUR_BITS else (8,):
        programs[f"{name} {bits}-bit"] = lower(extract(net, net.uniform(bits, bits)), f"uniform{bits}")
    return net, programs


def found(net: Supernet, latency: TableLatency, seed: int) -> dict[str, Program]:
    """Architectures of the solver, from random scores, at limits between the smallest and the largest latency."""
    schedule, random = net.schedule(), np.random.default_rng(seed)
    ((low, high),) = reachable(net.choices(), schedule, {"latency": latency}).values()
    programs = {}
    for share in SHARES:
        scores = random.normal(size=tuple(net.alpha.shape))
        budget = Budget("latency", low + share * (high - low), "us")
        arch = solve(net.choices(), schedule, scores, {"latency": latency}, [budget], n=1)[0]
        programs[f"found {share:.0%}"] = lower(extract(net, arch), f"found{round(100 * share)}")
    return programs


def read_points(path: Path) -> list[Point]:
    """The quantized points in a file: one, or a sweep's. InputError for a file that is neither."""
    try:
        found = dict(json.loads(path.read_text()))
        points = [point for point in found.get("points", [found]) if point["kind"] != "float"]
        return [(path, str(p["name"]), {str(k): operator.index(v) for k, v in p["choices"].items()}) for p in points]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: no points of a sweep: {error!r}") from None


def space_of(points: Sequence[Point]) -> SearchSpace:
    """The default space and every bit-width of the points. Raises InputError for one that is none."""

    def options(word: str, usual: tuple[int, ...]) -> tuple[int, ...]:
        asked = {value for _, _, choices in points for name, value in choices.items() if name.endswith(f".{word}")}
        return tuple(sorted(asked.union(usual)))

    return replace(
        SPACE,
        weight_bits=options("weight_bits", SPACE.weight_bits),
        act_bits=options("act_bits", SPACE.act_bits),
    )


def from_points(points: Sequence[Point], net: Supernet) -> dict[str, Program]:
    """The networks of points; of those with the same choices, the first. InputError for one of another network."""
    names = {choice.name for choice in net.choices()}
    programs: dict[str, Program] = {}
    seen = []
    for path, name, choices in points:
        if choices in seen:
            continue
        if set(choices) != names:
            raise InputError(f"{path}: of another network: {min(set(choices) ^ names)} is not a choice of both")
        seen.append(choices)
        sweep = path.parent.parent if path.parent.name == "points" else path.parent
        label = next(text for text in (name, f"{name}, {sweep.name}", f"{name}, {path}") if text not in programs)
        programs[label] = lower(extract(net, Arch(choices)), f"point{len(programs)}")
    return programs


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    p.add_argument("--device", default="host-cpu")
    p.add_argument("--table", default="tables/bench-predict.csv", help="where rows are kept (%(default)s)")
    p.add_argument("--points", type=Path, nargs="+", default=[], metavar="FILE.json", help="of one network")
    p.add_argument("--processes", type=int, default=5, help="processes that time each network (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    device = Device.load(args.device)
    programs: dict[str, Program] = {}
    supernets = {}
    try:
        if args.points and len(args.networks) != 1:
            raise InputError("--points: of which network? give one: --networks resnet8")
        points = [point for path in args.points for point in read_points(path)]
        for name in args.networks:
            supernets[name], more = networks(name, args.seed, space_of(points))
            programs |= more
            programs |= from_points(points, supernets[name])
        specs = [op.spec for program in programs.values() for op in program.ops]
        if random := not args.points and "resnet8" in supernets:
            specs += space_specs(supernets["resnet8"])
        table = build_table(device, specs, Path(args.table), every_row=not args.points)
        if random:
            programs |= found(supernets["resnet8"], TableLatency(table), args.seed)
        with tempfile.TemporaryDirectory() as folder:
            isa = this_machine(device)["isa"]
            paths = {name: build(program, isa, Path(folder, str(i)), table, device.threads) for i, (name, program) in
                     enumerate(programs.items())}  # fmt: skip
            timings = measure_networks(paths, device, args.processes)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    rows: list[dict[str, Any]] = []
    for name, program in programs.items():
        predicted, timing = predicted_us(program, table), timings[name]
        rows.append({"network": name, "predicted_us": predicted, "measured_us": timing.hot.us, "p90_us": timing.hot.p90,
                     "cold_us": timing.cold.us, "error": predicted / timing.hot.us - 1})  # fmt: skip
    if args.json:
        print(json.dumps({"rows": rows, "environment": environment(["python", *sys.argv], args.seed)}, indent=1))
        return 0
    lines = [("network", "predicted us", "measured us", "error", "p90 us", "cold us")]
    for row in rows:
        lines.append((row["network"], f"{row['predicted_us']:.1f}", f"{row['measured_us']:.1f}",
                      f"{row['error']:+.1%}", f"{row['p90_us']:.1f}", f"{row['cold_us']:.1f}"))  # fmt: skip
    print(text_table(lines))
    errors = [abs(row["error"]) for row in rows]
    print(f"within 5 %: {sum(e <= 0.05 for e in errors)} of {len(rows)}; median {np.median(errors):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
