"""A deployed network on the device it was built for: equal to the reference to the bit, how accurate, how fast.

Latency is taken as the table's rows were: in several processes, interleaved over the networks that are compared,
one at a time on a quiet core; `cold` is a single inference after the caches were evicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lut.device import Device
from lut.errors import LutError
from lut.profilers.base import Failure, floor, spread, summarise
from lut.profilers.pool import Pool
from lut.profilers.quiet import quiet_cores
from lut.progress import Progress
from lut.spec import Latency
from lut.table import LatencyTable

from .built import Description
from .integer import run_program
from .predict import predicted_us, rows_of, storage
from .program import Program
from .results import difference, places
from .rpc import RemoteModule
from .tvm_build import HostModule

EXACT_IMAGES = 1000
ISLANDS, ISLAND_ERROR = ("softmax", "layer_norm"), 0.01
MEASURE_SECONDS = 60.0
AGREE = 0.02
WINDOW_US = 500.0  # short, so that many windows lie between two disturbances
MEASURE_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Timing:
    """hot, cold: microseconds of one inference; ops: microseconds by operator, within whole inferences."""

    hot: Latency
    cold: Latency
    ops: Mapping[str, float]


class Module(Protocol):
    """A built network where it runs: tvm_build.HostModule, rpc.RemoteModule."""

    about: Description

    def run(self, images: np.ndarray) -> np.ndarray: ...
    def apart(self) -> AbstractContextManager[object]: ...
    def time_network(self, windows: int = ..., flush: bool = ..., window_us: float = ...) -> np.ndarray: ...
    def time_ops(self, windows: int = ..., window_us: float = ...) -> dict[str, np.ndarray]: ...


def open_module(path: Path | str, device: Device) -> Module:
    """A built network on the device that it was built for."""
    return RemoteModule(path, device) if device.runner == "rpc" else HostModule(path)


def time_built(path: str, device: Device, windows: int) -> dict[str, Any]:
    """What one process measures of a built network; called in a worker."""
    module = open_module(path, device)
    with module.apart():
        return {
            "hot": module.time_network(windows, window_us=WINDOW_US).tolist(),
            "cold": module.time_network(max(windows // 10, 5), flush=True).tolist(),
            "ops": {name: floor(us.tolist()) for name, us in module.time_ops(windows, WINDOW_US).items()},
        }


def measure_networks(
    paths: Mapping[str, Path], device: Device, processes: int = 5, windows: int = 200, progress: bool = True
) -> dict[str, Timing]:
    """Time built networks, by name, interleaved over `processes`; a network whose two lowest times differ by more
    than AGREE is timed in up to twice as many. Raises LutError when one crashes or hangs."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
    with Progress(processes * len(paths), "measure", "timing", shown=progress) as bar:
        for turn in range(2 * processes):
            due = [name for name, rounds in samples.items() if turn < processes or _unsure(rounds)]
            bar.grow(len(due) if turn >= processes else 0)
            with Pool([quiet_cores(device)], MEASURE_SECONDS, MEASURE_BYTES) as pool:
                tasks = [
                    (name, "call", ("deploy.validate:time_built", str(paths[name]), device, windows)) for name in due
                ]
                for name, answer in pool.run(tasks):
                    if isinstance(answer, Failure):
                        raise LutError(f"{paths[name]}: {name}: could not be measured: {answer}")
                    samples[name].append(answer)
                    bar.update()
    return {name: _timing(rounds) for name, rounds in samples.items()}


def _unsure(rounds: Sequence[Mapping[str, Any]]) -> bool:
    return spread([r["hot"] for r in rounds]) > AGREE


def _timing(rounds: list[dict[str, Any]]) -> Timing:
    hot, cold = (summarise([r[key] for r in rounds]) for key in ("hot", "cold"))
    ops = {name: sorted(r["ops"][name] for r in rounds)[min(1, len(rounds) - 1)] for name in rounds[0]["ops"]}
    return Timing(hot, cold, ops)


def check_exact(program: Program, module: Module, images: np.ndarray) -> int:
    """Run both on EXACT_IMAGES images, random bytes where there are fewer, and compare every number of every output.

    Returns the number of images that are equal to the bit: all of them, or it raises LutError naming the first that
    differs. With float islands (ISLANDS) a value may be rounded to the next code, and scores may differ by ISLAND_ERROR
    of the largest one. Of float32 networks, which sum in another order, it returns the images that were compared.
    """
    lacking = max(0, EXACT_IMAGES - len(images))
    noise = np.random.default_rng(0).integers(0, 256, (lacking, *images.shape[1:]), dtype=np.uint8)
    some = np.concatenate([images[:EXACT_IMAGES], noise])
    expected, got = run_program(program, some), module.run(some)
    if any(op.spec.kind in ISLANDS for op in program.ops):
        return _close(program, expected, got)
    if not program.is_float:
        if wrong := difference(program, expected, got, "the device gave"):
            raise LutError(f"{program.name}: {wrong}")
        return len(some)
    for row in places(program):  # float32: summation order differs
        ours, theirs = (numbers[:, row.first : row.first + row.count] for numbers in (expected, got))
        scale = float(np.abs(ours).max())
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * scale):
            raise LutError(f"{program.name}: float scores differ by {np.abs(ours - theirs).max():.3g} of {scale:.3g}")
    return len(some)


def _close(program: Program, expected: np.ndarray, got: np.ndarray) -> int:
    for row in places(program):
        ours, theirs = (numbers[:, row.first : row.first + row.count].astype(float) for numbers in (expected, got))
        error, most = np.abs(ours - theirs).max(), np.abs(ours).max()
        if not error <= ISLAND_ERROR * most:
            raise LutError(
                f"{program.name}: with {' and '.join(ISLANDS)} in float32 scores may differ by {ISLAND_ERROR:.0%} of "
                f"the largest, {most:.4g}; they differ by {error:.4g}"
            )
    return int((expected == got).all(1).sum())


def describe_network(
    program: Program, module: Module, timing: Timing, table: LatencyTable, images: np.ndarray
) -> dict[str, Any]:
    """One network of validation.json: what was predicted and measured; the caller adds top-1."""
    checked = check_exact(program, module, images)
    rows, sizes = rows_of(program, table), storage(program)
    prediction = predicted_us(program, table)
    return {
        "latency_us": {
            "predicted": prediction,
            "measured": timing.hot.us,
            "p10": timing.hot.p10,
            "p90": timing.hot.p90,
            "error": prediction / timing.hot.us - 1,
            "cold": timing.cold.us,
            "rows": sum(row.us for row in rows.values()),
        },
        "weights_bytes": {"predicted": sizes["weights"], "stored": module.about.constant_bytes},
        "ram_bytes": {"predicted": sizes["ram"], "planned": module.about.arena_bytes},
        "top1": {},
        "exact_images": checked,
        "interpolated_rows": sum(row.source == "interpolated" for row in rows.values()),
        "ops": [
            {
                "name": op.name,
                "kind": op.spec.kind,
                "predicted_us": rows[op.name].us,
                "measured_us": timing.ops[op.name],
            }
            for op in program.ops
        ],
    }
