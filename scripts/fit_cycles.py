"""Fit a RISC-V core's cycles per instruction class to its RTL, and check them on kernels that the fit did not see.

    python scripts/fit_cycles.py --device rv32-ibex

Writes lut/mcu/fits/<core>.json, which `cycle_model: <core>` of a device reads. Every second kernel is fitted on, the
others are held out; probes (lut/mcu/fit.py) add what kernels have too few of. Needs QEMU, Verilator and the core's
sources. A minute.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lut.cli import guard
from lut.device import Device
from lut.files import atomic_write
from lut.mcu.emit import kernel, supported
from lut.mcu.fit import Sample, errors, fit, observe, probes
from lut.mcu.image import core_of, tools_of
from lut.mcu.riscv import FITS
from lut.mcu.rtl import versions
from lut.spec import OpSpec

BITS = (8, 4, 2)


def _conv(c_in: int, c_out: int, size: int, k: int, **fields: Any) -> OpSpec:
    return OpSpec("conv2d", 1, c_in, c_out, size, size, kernel=(k, k), pad=(k // 2,) * 4, **fields)


def specs() -> list[OpSpec]:
    """Small ones of every kind, of all bits, with and without borders, strides, whole words of channels."""
    convs = [
        _conv(8, 8, 6, 3), _conv(3, 8, 9, 3, stride=(2, 2)), _conv(16, 12, 5, 1), _conv(6, 7, 5, 3),
        _conv(16, 16, 6, 3, groups=16), _conv(5, 5, 7, 5, groups=5), _conv(8, 8, 3, 3, dilation=(2, 2)),
        OpSpec("linear", 1, 64, 10, 1, 1, out_bits=16), OpSpec("linear", 1, 33, 6, 1, 1),
        replace(_conv(8, 6, 6, 3), kind="conv2d_add", in_bits=(8, 8)),
    ]  # fmt: skip
    made = [replace(spec, w_bits=bits) for spec in convs for bits in BITS]
    made += [replace(spec, in_bits=(4,) * len(spec.in_bits), out_bits=4) for spec in convs[:5]]
    made += [
        OpSpec("add", 1, 16, 16, 5, 5, in_bits=(8, 8)),
        OpSpec("mul", 1, 8, 8, 5, 5, in_bits=(8, 8)),
        OpSpec("avg_pool", 1, 16, 16, 4, 4, kernel=(4, 4), stride=(4, 4)),
        OpSpec("max_pool", 1, 8, 8, 6, 6, kernel=(2, 2), stride=(2, 2)),
        OpSpec("input", 1, 3, 3, 8, 8),
        OpSpec("unary", 1, 8, 8, 4, 4),
        OpSpec("shuffle", 1, 8, 8, 4, 4, groups=2),
        OpSpec("pad", 1, 8, 8, 4, 4, pad=(1, 1, 1, 1)),
    ]
    return [spec for spec in made if supported(spec, "packed") is None]


def record(device: Device, fitted: Sequence[Sample], held: Sequence[Sample], price: dict[str, float]) -> dict[str, Any]:
    """What the file holds."""
    off = np.abs(errors(held, price))
    return {
        "core": core_of(device).rtl,
        "cycles": price,
        "fitted_on": len(fitted),
        "held_out": {"kernels": len(held), "median_error": float(np.median(off)), "largest_error": float(off.max())},
        "made_with": [*versions(core_of(device).rtl), *tools_of(device).versions, *core_of(device).flags],
    }


def run(args: argparse.Namespace) -> int:
    device = Device.load(args.device)
    samples = observe(device, [kernel(spec, device.act_storage) for spec in specs()])
    fitted, held = [*samples[::2], *observe(device, probes())], samples[1::2]
    price = fit(fitted)
    made = record(device, fitted, held, price)
    path = FITS / f"{made['core']}.json"
    atomic_write(path, json.dumps(made, indent=1) + "\n")
    said = made["held_out"]
    print("  ".join(f"{name} {cycles:g}" for name, cycles in price.items()))
    print(f"{path.name}: fitted on {len(fitted)}; held out {said['kernels']}: median error "
          f"{said['median_error']:.3%}, largest {said['largest_error']:.3%}")  # fmt: skip
    return 0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="rv32-ibex", help="one whose core names its RTL (%(default)s)")
    args = p.parse_args(argv)
    return guard(lambda: run(args), "python scripts/fit_cycles.py")


if __name__ == "__main__":
    sys.exit(main())
