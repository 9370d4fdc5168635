"""Profile the default space's shapes (ResNet-8 at 32x32, four widths, three bit-widths) and print how it went.

Rows a minute, seconds for the table, spread over processes, and the held-out error of the interpolation, once on the
default space and once (--dense) on a finer one of which only a plan's share is measured and some of the rest checked.

--again N: N rows twice as a table's are timed, and twice in few and long timings, in turn (WAYS): how far apart are the
two times of a row? On a machine with busy neighbours that says whether a table can be believed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lut import kernels
from lut.build import run_build
from lut.device import Device
from lut.interpolate import group_of
from lut.machine import this_machine
from lut.profilers.base import Failure
from lut.profilers.host import HostProfiler
from lut.spec import OpSpec
from lut.table import LatencyTable

WIDTHS, DENSE = (0.25, 0.5, 0.75, 1.0), tuple(i / 16 for i in range(1, 17))
BITS = (2, 4, 8)
Body = dict[str, dict[str, Any]]
WAYS = {
    "as a table's are": HostProfiler(progress=True),
    "few and long": HostProfiler(processes=5, most=10, doubt=1.0, windows=60, progress=True),
}
"""Ways of timing rows. Few: five timings of 30 ms, and more where no two agree, whatever neighbours do."""


def conv(c_in: int, c_out: int, size: int, k: int, stride: int, bits: int, in_bits: int, add: bool = False) -> OpSpec:
    """A convolution of ResNet-8: 'same' padding, at the bottom and right when strided."""
    edge = k // 2
    pad = (edge if stride == 1 else 0, edge if stride == 1 else 0, edge, edge)
    kind, inputs = ("conv2d_add", (in_bits, 8)) if add else ("conv2d", (in_bits,))
    return OpSpec(kind, 1, c_in, c_out, size, size, (k, k), (stride, stride), (1, 1), pad, 1, bits, inputs, 8)


def resnet8(widths: Sequence[float], bits: Sequence[int] = BITS) -> list[OpSpec]:
    """Every row that ResNet-8's layers can ask for when each tensor takes any of `widths`."""
    options = {c: sorted({max(1, round(c * w)) for w in widths}) for c in (16, 32, 64)}
    specs = [OpSpec("input", 1, 3, 3, 32, 32)]
    specs += [conv(3, c, 32, 3, 1, 8, i) for c in options[16] for i in bits]
    for c, size in ((16, 32), (32, 16), (64, 8)):
        for a, b, w, i in itertools.product(options[c], options[c], bits, bits):
            specs += [conv(a, b, size, 3, 1, w, i, add=True)] + ([conv(a, b, size, 3, 1, w, i)] if c == 16 else [])
    for c, size in ((16, 32), (32, 16)):
        for a, b, w, i in itertools.product(options[c], options[2 * c], bits, bits):
            specs += [conv(a, b, size, 3, 2, w, i), conv(a, b, size, 1, 2, w, i)]
    specs += [OpSpec("avg_pool", 1, c, c, 8, 8, (8, 8), (8, 8)) for c in options[64]]
    return specs + [OpSpec("linear", 1, c, 10, 1, 1, in_bits=(i,), out_bits=16) for c in options[64] for i in bits]


def again(specs: Sequence[OpSpec], device: Device, ways: Mapping[str, HostProfiler] = WAYS) -> Body:
    """By way of timing: of rows timed twice, how many differ, and by how much; seconds of a pass, builds included."""
    passes: dict[str, list[LatencyTable]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for _ in range(2):
        for way, profiler in ways.items():
            start = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                table = run_build(device, specs, Path(folder, "t.csv"), every_row=True, profiler=profiler).table
            passes[way].append(table)
            seconds[way] += time.monotonic() - start
    body: Body = {}
    for way, (first, second) in passes.items():
        ratios = np.array([row.us / second[spec].us for spec, row in first.items() if spec in second])
        apart = np.exp(np.abs(np.log(ratios))) - 1
        body[way] = {
            "rows": len(apart),
            "seconds": round(seconds[way] / 2, 1),
            "disturbed": ", ".join(table.provenance["disturbed"] for table in (first, second)),
            **{f"above {limit:.0%} apart": f"{(apart > limit).mean():.1%}" for limit in (0.03, 0.05, 0.1)},
            "at most": f"{apart.max():.1%}",
            "in the median": f"{np.median(apart):.2%}",
        }
    return body


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dense", action="store_true", help="widths in sixteenths; also measure rows left out")
    parser.add_argument("--check", type=int, default=60, help="with --dense: rows to check (%(default)s)")
    parser.add_argument("--again", type=int, default=0, metavar="N", help="rows to time twice, in two ways")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device, specs = Device.load("host-cpu"), resnet8(DENSE if args.dense else WIDTHS)
    isa = this_machine(device)["isa"]
    keys = list(dict.fromkeys(kernels.row_key(spec, isa) for spec in specs))
    if args.again:
        ways = again(random.Random(0).sample(keys, min(args.again, len(keys))), device)
        print(json.dumps(ways, indent=1) if args.json else "\n".join(f"{way}: {each}" for way, each in ways.items()))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        result = run_build(device, specs, Path(folder, "t.csv"))
        seconds = time.monotonic() - start
    body: dict[str, object] = {
        "space_rows": len(keys),
        "groups": len({group_of(key) for key in keys}),
        "measured": result.measured,
        "failures": len(result.failures),
        "seconds": round(seconds, 1),
        "rows_per_minute": round(60 * result.measured / seconds, 1),
        **result.table.provenance,
    }
    if args.dense:
        left = [key for key in keys if key not in result.table]
        asked = random.Random(0).sample(left, min(args.check, len(left)))
        rows = dict(HostProfiler(progress=True).measure(asked, device))
        errors = [abs(result.table.lookup(s).us / r.us - 1) for s, r in rows.items() if not isinstance(r, Failure)]
        body["checked"] = len(errors)
        body["checked_median"], body["checked_p90"] = (round(float(q), 4) for q in np.quantile(errors, [0.5, 0.9]))
    print(json.dumps(body, indent=1) if args.json else "\n".join(f"{name}: {value}" for name, value in body.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
