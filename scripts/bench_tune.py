"""What measuring schedules gains over each kernel's default one: `--schedules 6`, and trials of MetaSchedule.

    python -m scripts.bench_tune [--networks resnet8 mobilenet_v2] [--schedules 6] [--json]
    python -m scripts.bench_tune --tune 32 [--isa ISA] [--json]       # six rows, MetaSchedule beside the templates

Schedules are chosen as a table's are (lut/profilers/tune.py, metaschedule.py); the default and the chosen one are then
timed once more, in turn, in processes of their own, so that choosing the least of noisy times is not counted as gain.
The gain of a row is its default's time over the chosen one's; rows that keep the default count with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lut.columns import describe
from lut.errors import InputError
from lut.kernels import isa_of_host, row_key, variants
from lut.kernels.isa import require
from lut.profilers import metaschedule, tune
from lut.profilers.base import Built, Failure, Timing
from lut.profilers.pool import Pool
from lut.progress import Progress
from lut.spec import OpSpec

from .bench_kernels import SHAPES, row

SECONDS, MEMORY, AGAIN = 60.0, 4 * 2**30, 6
"""Limits of a build or timing; in how many processes default and chosen schedule are timed again."""
BUILD = "lut.profilers.timing:build_linked"


def timing(made: Built) -> Timing:
    return Timing("time", ("lut.profilers.timing:measure", made.kernel, tune.WINDOWS, 500.0), SECONDS)


def agree(made: Sequence[Built]) -> Timing:
    return Timing("call", ("lut.profilers.tune:differing", [each.kernel for each in made]), SECONDS)


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def quiet() -> Any:
    """Workers that time, on the last core."""
    return partial(Pool, [cores()[-1:]], memory_bytes=MEMORY)


def built(specs: Iterable[OpSpec], isa: str, count: int) -> dict[OpSpec, list[Built]]:
    """Kernels of up to `count` schedules, the default first. Raises InputError when one does not build."""
    wanted = [(spec, variant) for spec in specs for variant in variants(spec, isa, count)]
    found: dict[tuple[OpSpec, str], Built] = {}
    with Progress(len(wanted), "build") as bar, Pool([[core] for core in cores()], SECONDS, MEMORY) as pool:
        for key, answer in pool.run((key, "build", (BUILD, key[0], isa, key[1], 1)) for key in wanted):
            bar.update()
            if isinstance(answer, Failure):
                raise InputError(f"{describe(key[0])}: {key[1]}: {answer}")
            found[key] = answer
    made: dict[OpSpec, list[Built]] = {}
    for key in wanted:
        made.setdefault(key[0], []).append(found[key])
    return made


def compare(pairs: Mapping[OpSpec, tuple[Built, Built]]) -> list[dict[str, Any]]:
    """One record per row: its default and its chosen schedule, microseconds of both, gain."""
    both = {(spec, i): pair[i] for spec, pair in pairs.items() for i in range(2)}
    with Progress(AGAIN * len(both), "compare", "timing") as bar:
        us, failures = tune.best_times(both, quiet(), timing, AGAIN, bar.update)
    for (spec, _), failure in failures.items():
        raise InputError(f"{describe(spec)}: {failure}")
    return [
        {
            "row": describe(spec),
            "default": default.variant,
            "chosen": chosen.variant,
            "default_us": round(us[spec, 0], 3),
            "chosen_us": round(us[spec, 1], 3),
            "gain": 1.0 if default.variant == chosen.variant else round(us[spec, 0] / us[spec, 1], 4),
        }
        for spec, (default, chosen) in pairs.items()
    ]


def of_schedules(specs: Iterable[OpSpec], isa: str, count: int) -> list[dict[str, Any]]:
    """What the best of `count` schedules gains, for the rows that have several."""
    several = {spec: made for spec, made in built(specs, isa, count).items() if len(made) > 1}
    pairs = {}
    with Progress(tune.tasks(several), "choose", "timing") as bar:
        for spec, answer in tune.choose(several, quiet(), timing, agree, bar.update):
            if isinstance(answer, Failure):
                raise InputError(f"{describe(spec)}: {answer}")
            pairs[spec] = (several[spec][0], answer)
    return compare(pairs)


def of_trials(specs: Iterable[OpSpec], isa: str, trials: int) -> list[dict[str, Any]]:
    """What MetaSchedule gains; each record also has the best trial's time over the template's, and its seconds."""
    pairs, about = {}, dict[str, dict[str, Any]]()
    templates = {spec: made[0] for spec, made in built(specs, isa, 1).items()}
    with Progress(0, "tune", "trial") as bar, Pool([[core] for core in cores()], SECONDS, MEMORY) as makers:
        tuner = metaschedule.Tuner(BUILD, isa, 1, makers, quiet(), timing, agree)
        start = time.monotonic()
        for spec, answer, entry in metaschedule.tuned(tuner, templates, trials, bar):
            if isinstance(answer, Failure):
                raise InputError(f"{describe(spec)}: {answer}")
            pairs[spec] = (templates[spec], answer)
            seconds, start = time.monotonic() - start, time.monotonic()
            about[describe(spec)] = {
                "best_trial": round(entry.ratio, 3),
                "trials": entry.trials,
                "failed": entry.failed,
                "seconds": round(seconds, 1),
                "reason": entry.reason,
            }
    return [record | about[record["row"]] for record in compare(pairs)]


def rows_of(networks: Sequence[str], isa: str) -> list[OpSpec]:
    """Keys of the distinct rows of networks, float32 and uniform 8-bit."""
    from .bench_predict import networks as programs

    wanted = ("float32", "8-bit")
    found = (program for name in networks for label, program in programs(name, 0)[1].items() if label.endswith(wanted))
    return list(dict.fromkeys(row_key(op.spec, isa) for program in found for op in program.ops))


def rows_to_tune(isa: str) -> list[OpSpec]:
    """Six rows in float32; on `llvm`, where MetaSchedule has what the template has, in 8 bits too."""
    bits = ((32, 32), (8, 8)) if isa == "llvm" else ((32, 32),)
    linear = OpSpec("linear", 1, 64, 10, 1, 1, w_bits=32, in_bits=(32,), out_bits=32)
    return [row_key(spec, isa) for spec in [*(row(name, *each) for each in bits for name in SHAPES), linear]]


def show(records: list[dict[str, Any]]) -> None:
    for r in records:
        times = f"{r['default_us']:>10} {r['chosen_us']:>10} {r['gain']:>7.3f}"
        more = f" {r['best_trial']:>7} {r['failed']:>3}/{r['trials']} {r['seconds']:>6} s" if "trials" in r else ""
        print(f"{r['row']:<52} {r['default']:>6} -> {r['chosen']:<27}{times}{more}  {r.get('reason', '')}".rstrip())
    gains = [r["gain"] for r in records]
    median, p90 = np.quantile(gains, [0.5, 0.9])
    changed = sum(r["default"] != r["chosen"] for r in records)
    print(f"{len(records)} rows, {changed} with another schedule: gain median {median:.3f}, 90th percentile {p90:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet8", "mobilenet_v2"])
    parser.add_argument("--schedules", type=int, default=6, metavar="N", help="of each kernel (%(default)s)")
    parser.add_argument("--tune", type=int, default=0, metavar="N", help="trials of MetaSchedule per row, instead")
    parser.add_argument("--isa", default=None, help="default: this machine's best")
    parser.add_argument("--json", action="store_true", help="print records as JSON")
    args = parser.parse_args()
    isa = args.isa or isa_of_host()
    try:
        require(isa)
        if args.schedules < 2 or args.tune < 0:
            raise InputError("--schedules: at least 2; --tune: at least 1, or 0 for none")
        if args.tune:
            records = of_trials(rows_to_tune(isa), isa, args.tune)
        else:
            records = of_schedules(rows_of(args.networks, isa), isa, args.schedules)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps({"isa": isa, "rows": records}, indent=1))
    else:
        print(f"us, default and chosen schedule, {isa}")
        show(records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
