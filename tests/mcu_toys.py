"""What tests of microcontrollers share: the mark that skips without a toolchain, and rows on given data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from kernel_toys import make, oracle

from lut.device import Device
from lut.errors import LutError
from lut.mcu import emit, pack, rows
from lut.mcu.toolchain import toolchain
from lut.spec import OpSpec

M4 = Device.load("cortex-m4")


def _missing() -> str:
    try:
        toolchain()
    except LutError as error:
        return str(error)
    return ""


needs_toolchain = pytest.mark.skipif(bool(_missing()), reason=_missing() or "the toolchain is there")


def compare(
    specs: Sequence[OpSpec],
    seed: int = 0,
    extreme: int | None = None,
    device: Device = M4,
    execute: Callable[..., list[rows.Result]] = rows.execute,
) -> list[rows.Result]:
    """Run kernels in one image and compare their outputs with the oracle's, to the bit."""
    kernels = [emit.kernel(spec) for spec in specs]
    made = [make(spec, seed + i, extreme) for i, spec in enumerate(specs)]
    given = [
        pack.pack_constants(op, zeros, z_out) | dict(zip(("in", "in2"), inputs)) for op, inputs, zeros, z_out in made
    ]
    for kernel, arrays in zip(kernels, given):
        arrays["out"] = np.full(kernel.sizes["out"], 77, np.uint8)  # a concat leaves the other parts alone
    results = execute(device, kernels, given)
    for spec, result, data in zip(specs, results, made):
        expected = oracle(*data)
        got = result.output.view(np.int16 if spec.out_bits == 16 else np.uint8).reshape(expected.shape)
        np.testing.assert_array_equal(got, expected, str(spec))
        few = spec.kind == "resample" or extreme is not None
        assert few or len(np.unique(got)) > 3, f"{spec}: the data saturate: nothing was tested"
    return results
