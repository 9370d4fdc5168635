"""Kernels and whole networks on a simulated microcontroller: cycles per multiplication, predicted beside simulated.

    python scripts/bench_mcu.py [--device cortex-m4] [--networks resnet8 ds_cnn] [--json]

Cycles are those of the device's model (its rows say which), of memories without wait states; beside them, for a
Cortex-M4, those of a board whose flash has some (lut/mcu/flash.py). Networks of a core with RTL are timed there (`rtl`,
a minute for 40 million cycles), one image each, four where QEMU does not know the core. Networks have random weights:
neither cycles nor bytes depend on them. Every row that a network needs is simulated; nothing is fitted or interpolated.
Found networks are the solver's, of random preferences, inside a share of the 8-bit network's time and weights; their
space is simulated whole, which takes hours in RTL (--shares without values: none).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cost_models.counts import macs
from deploy.c_project import write
from deploy.integer import run_program
from deploy.lower import lower
from deploy.mcu import simulate
from lut.build import build_table
from lut.cli import guard
from lut.device import Device
from lut.errors import LutError
from lut.profilers.base import Failure
from lut.profilers.mcu import McuProfiler
from lut.spec import Latency, OpSpec
from lut.table import LatencyTable
from search.budget import Budget
from search.costs import network_costs, predicted
from search.coverage import space_specs
from search.outcome import table as text_table
from search.solve import cost_of, solve
from supernet import SearchSpace, Subnet, Supernet, extract
from supernet.networks import NETWORKS

SIZES = {"resnet8": (10, 3, (32, 32)), "mobilenet_v1": (2, 3, (96, 96)), "ds_cnn": (12, 1, (49, 10)),
         "autoencoder": (640, 1, (5, 128))}  # fmt: skip
"""Outputs, channels and image of MLPerf Tiny's."""
FOUND = ("resnet8", "ds_cnn")
"""Of these, networks of mixed precision and width are found too."""
FEW = 5
"""Images that run on a board with wait states; its scores are the same."""
BITS = (8, 4, 2)
UNIFORM = ((8, 8), (4, 8), (2, 8), (8, 4), (4, 4), (2, 2))
"""Bits of weights and of activations."""
BESIDE = {"cortex-m4": "stm32l4r5"}
"""By device: a board with the same core whose flash has wait states."""
TARGETS = {
    "cortex-m4": {("3x3 16->16 32x32", 8): 1.55, ("3x3 16->16 32x32", 4): 1.7, ("3x3 16->16 32x32", 2): 1.65,
                  ("depthwise 64 16x16", 8): 4.5, ("pointwise 64->64 16x16", 8): 1.5},
    "rv32-ibex": {("3x3 16->16 32x32", 8): 4.35, ("3x3 16->16 32x32", 4): 4.92, ("3x3 16->16 32x32", 2): 5.4},
    "rv32-cv32e40p": {("3x3 16->16 32x32", 8): 4.64, ("3x3 16->16 32x32", 4): 5.0, ("3x3 16->16 32x32", 2): 5.46},
}  # fmt: skip
"""Cycles per multiplication to reach, by device, kernel and weight bits."""


def _square(c_in: int, c_out: int, size: int, k: int, groups: int = 1) -> OpSpec:
    return OpSpec("conv2d", 1, c_in, c_out, size, size, kernel=(k, k), pad=(k // 2,) * 4, groups=groups)


SHAPES = {
    "3x3 16->16 32x32": _square(16, 16, 32, 3),
    "3x3 16->16 32x32 with a sum": replace(_square(16, 16, 32, 3), kind="conv2d_add", in_bits=(8, 8)),
    "3x3 3->16 32x32": _square(3, 16, 32, 3),
    "3x3 64->64 8x8": _square(64, 64, 8, 3),
    "pointwise 64->64 16x16": _square(64, 64, 16, 1),
    "depthwise 64 16x16": _square(64, 64, 16, 3, groups=64),
    "linear 640->128": OpSpec("linear", 1, 640, 128, 1, 1),
}


def bench_rows(device: Device) -> list[dict[str, Any]]:
    """One record per kernel and weight bits."""
    specs = {(name, bits, 8): replace(spec, w_bits=bits) for name, spec in SHAPES.items() for bits in BITS}
    for (name, bits, _), spec in list(specs.items()):
        narrow = replace(spec, in_bits=(bits,) * len(spec.in_bits), out_bits=bits)
        specs |= {(name, bits, bits): narrow} if bits < 8 else {}
    answers = dict(McuProfiler().measure(specs.values(), device))
    waited = {board: dict(McuProfiler().measure(specs.values(), board)) for board in _beside(device)}
    records = []
    for (name, bits, acts), spec in specs.items():
        each, row = _cycles_per_mac(spec, answers[spec])
        slower = {
            f"cycles_per_mac_{board.name}": _cycles_per_mac(spec, rows[spec])[0] for board, rows in waited.items()
        }
        targets = TARGETS.get(device.name, {})
        records.append({"kernel": name, "w_bits": bits, "act_bits": acts, "cycles": row.cycles, "cycles_per_mac": each,
                        **slower, "target": targets.get((name, bits)) if acts == 8 else None,
                        "code_bytes": row.code_bytes, "source": row.source,
                        "workspace_bytes": row.workspace_bytes})  # fmt: skip
    return records


def _cycles_per_mac(spec: OpSpec, row: Latency | Failure) -> tuple[float, Latency]:
    if isinstance(row, Failure) or row.cycles is None:
        raise LutError(f"{spec}: {row}")
    return round(row.cycles / macs(spec), 3), row


def _beside(device: Device) -> list[Device]:
    """The board whose figures stand beside the device's, if there is one."""
    return [Device.load(BESIDE[device.name])] if device.name in BESIDE else []


def bench_networks(
    name: str, device: Device, folder: Path, images: int, shares: Sequence[float]
) -> list[dict[str, Any]]:
    """Uniform weights and activations, and found networks: what the table says beside the simulator."""
    classes, channels, size = SIZES[name]
    torch.manual_seed(0)
    example = torch.randn(16, channels, *size)
    bits = (4, 8) if name in FOUND else (2, 4, 8)
    space = SearchSpace((2, 4, 8), bits, (0.5, 1.0) if name in FOUND else (1.0,))
    net = Supernet.from_model(NETWORKS[name](classes, channels, size).eval(), example, space).eval()
    subnets = {f"w{w} a{a}": extract(net, net.uniform(w, a)) for w, a in UNIFORM if a in bits}
    specs = [spec for subnet in subnets.values() for op in subnet.schedule().ops if (spec := op.spec({}))]
    start = time.monotonic()
    shares = shares if name in FOUND else ()
    wanted = space_specs(net) if shares else specs
    table = build_table(device, wanted, folder / f"{name}.csv", every_row=True, progress=False)
    boards = _beside(device)
    rate = 60 * len(table) / (time.monotonic() - start)
    if shares:
        subnets |= {f"{share:.0%}": found(net, table, device, share) for share in shares}
        specs += [spec for subnet in subnets.values() for op in subnet.schedule().ops if (spec := op.spec({}))]
    there = {board: build_table(board, specs, folder / f"{name}.{board.name}.csv", every_row=True, progress=False)
             for board in boards}  # fmt: skip
    given = np.random.default_rng(0).integers(0, 256, (images, *size, channels)).astype(np.uint8)
    records = []
    for label, subnet in subnets.items():
        program = lower(subnet, f"{name} {label}")
        ran = simulate(write(program, device, folder / program.name), program, device, given)
        if not np.array_equal(ran.scores, run_program(program, given[: len(ran.scores)])):
            raise LutError(f"{program.name}: the simulator's scores are not the reference's")
        said, slower = predicted(subnet, table, device), {}
        for board, rows in there.items():
            slow = simulate(write(program, board, folder / f"{program.name} there"), program, board, given[:FEW])
            slower[board.name] = {"predicted": predicted(subnet, rows, board)["latency_us"], "simulated": slow.us}
        records.append({"network": name, "bits": label, "macs": said["macs"], "cycles": ran.cycles,
                        "latency_us": {"predicted": said["latency_us"], "simulated": ran.us},
                        **slower,
                        "ram_bytes": {"predicted": said["ram_bytes"], "linked": ran.ram_bytes},
                        "flash_bytes": {"predicted": said["flash_bytes"], "linked": ran.flash_bytes},
                        "stack_bytes": ran.stack_bytes, "source": ran.source, "exact_images": len(ran.scores),
                        "rows_per_minute": round(rate)})  # fmt: skip
    return records


def found(net: Supernet, table: LatencyTable, device: Device, share: float) -> Subnet:
    """The most probable network, of random preferences, inside a share of the uniform 8-bit network's costs."""
    schedule, costs = net.schedule(), network_costs(net, ("latency", "weights"), table, device)
    full = net.uniform(8, 8).choices
    limits = [Budget(metric, share * cost_of(schedule, cost, full), cost.unit) for metric, cost in costs.items()]
    scores = np.random.default_rng(0).normal(size=tuple(net.alpha.shape))
    return extract(net, solve(net.choices(), schedule, scores, costs, limits, 1)[0])


def _print(rows: list[dict[str, Any]], networks: list[dict[str, Any]], boards: list[Device]) -> None:
    waits = [f"{board.wait_states} waits" for board in boards]
    cells = [("kernel", "w bits", "a bits", "cycles", "cycles / MAC", "target", *waits, "code B")]
    cells += [(r["kernel"], str(r["w_bits"]), str(r["act_bits"]), f"{r['cycles']:,}", f"{r['cycles_per_mac']:.3f}",
               str(r["target"] or "-"),
               *(f"{r[f'cycles_per_mac_{board.name}']:.3f}" for board in boards), str(r["code_bytes"]))
              for r in rows]  # fmt: skip
    print(text_table(cells), end="\n\n")
    timed = [("ms", "by table"), *((f"ms, {states}", "by table") for states in waits)]
    lines = [("network", "bits", "cycles", *(name for two in timed for name in two), "RAM B", "error", "flash B",
              "error", "stack B")]  # fmt: skip
    names = ["latency_us", *(board.name for board in boards)]
    for r in networks:
        ram, flash = r["ram_bytes"], r["flash_bytes"]
        times = [f"{r[of][key] / 1e3:.2f}" for of in names for key in ("simulated", "predicted")]
        lines.append((r["network"], r["bits"], f"{r['cycles']:,}", *times, str(ram["linked"]),
                      str(ram["predicted"] - ram["linked"]),
                      str(flash["linked"]), f"{flash['predicted'] / flash['linked'] - 1:+.2%}",
                      str(r["stack_bytes"])))  # fmt: skip
    print(text_table(lines))
    if networks:
        rates = ", ".join(f"{r['network']} {r['rows_per_minute']}" for r in networks if r["bits"] == "w8 a8")
        print(f"\nrows a minute: {rates}; source: {networks[0]['source']}")


def run(args: argparse.Namespace) -> int:
    device = Device.load(args.device)
    rows = bench_rows(device)
    with tempfile.TemporaryDirectory() as folder:
        networks = [
            r for name in args.networks for r in bench_networks(name, device, Path(folder), args.images, args.shares)
        ]
    if args.json:
        print(json.dumps({"device": device.name, "rows": rows, "networks": networks}, indent=1))
    else:
        _print(rows, networks, _beside(device))
    return 0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cortex-m4", help="a microcontroller (%(default)s)")
    p.add_argument("--networks", nargs="*", choices=SIZES, default=list(SIZES))
    p.add_argument("--shares", nargs="*", type=float, default=[0.75, 0.6], help="of found networks (%(default)s)")
    p.add_argument("--images", type=int, default=100, help="that every network is checked on (%(default)s)")
    p.add_argument("--json", action="store_true", help="print records as JSON")
    args = p.parse_args(argv)
    return guard(lambda: run(args), "python scripts/bench_mcu.py")


if __name__ == "__main__":
    sys.exit(main())
