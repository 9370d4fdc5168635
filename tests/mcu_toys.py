"""What tests of microcontrollers share: the mark that skips without a toolchain, and rows on given data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from kernel_toys import make, oracle

from lut.device import Device, Storage
from lut.errors import LutError
from lut.mcu import emit, pack, rows, rtl
from lut.mcu.image import board_of
from lut.mcu.toolchain import toolchain
from lut.spec import OpSpec

M4, IBEX, CV32E40P, XPULP, VEXRISCV = map(
    Device.load, ("cortex-m4", "rv32-ibex", "rv32-cv32e40p", "rv32-cv32e40p-xpulp", "rv32-vexriscv")
)


def _needs(tools: Callable[[], object]) -> pytest.MarkDecorator:
    """A skip, with the reason, where something is missing."""
    try:
        tools()
    except LutError as error:
        return pytest.mark.skipif(True, reason=str(error))
    return pytest.mark.skipif(False, reason="it is there")


needs_toolchain = _needs(toolchain)
needs_riscv = _needs(lambda: toolchain("riscv"))
needs_rtl = _needs(lambda: [rtl.versions(name) for name in rtl.CORES])


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 (h, w, bytes) of codes (h, w, c): the first in the lowest bits, the last byte of a pixel filled with 1s."""
    places = codes[..., None] >> np.arange(bits) & 1
    flat = places.reshape(*codes.shape[:2], -1)
    padding = -flat.shape[-1] % 8
    return np.packbits(np.pad(flat, ((0, 0), (0, 0), (0, padding)), constant_values=1), axis=-1, bitorder="little")


def unpacked(raw: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of that shape (h, w, c)."""
    places = np.unpackbits(raw.reshape(*shape[:2], -1), axis=-1, bitorder="little")
    places = places[..., : shape[2] * bits].reshape(*shape, bits)
    return (places << np.arange(bits, dtype=np.uint8)).sum(-1)


def compare(
    specs: Sequence[OpSpec],
    seed: int = 0,
    extreme: int | None = None,
    device: Device = M4,
    execute: Callable[..., list[rows.Result]] = rows.execute,
    storage: Storage = "byte",
) -> list[rows.Result]:
    """Run kernels in one image and compare their outputs with the oracle's, to the bit."""
    kernels = [emit.kernel(spec, storage) for spec in specs]
    made = [make(spec, seed + i, extreme) for i, spec in enumerate(specs)]
    given = []
    for kernel, (op, inputs, zeros, z_out) in zip(kernels, made):
        constants = pack.pack_constants(replace(op, spec=kernel.spec), zeros, z_out, board_of(device).order)
        stored = [packed(codes, bits) for codes, bits in zip(inputs, kernel.spec.in_bits)]
        given.append(constants | dict(zip(("in", "in2"), stored)))
    for kernel, arrays in zip(kernels, given):
        rest = 77 if kernel.spec.out_bits >= 8 else 0x55 * (77 % 4)
        arrays["out"] = np.full(kernel.sizes["out"], rest, np.uint8)  # a concat leaves the other parts alone
    results = execute(device, kernels, given)
    for spec, kernel, result, data in zip(specs, kernels, results, made):
        expected, bits = oracle(*data), kernel.spec.out_bits
        if spec.kind == "concat" and bits < 8:
            expected[..., spec.c_in :] = (0x55 * (77 % 4)) & ((1 << bits) - 1)
        raw = result.output
        got = raw.view(np.int16).reshape(expected.shape) if bits == 16 else unpacked(raw, bits, expected.shape)
        np.testing.assert_array_equal(got, expected, str(spec))
        few = spec.kind == "resample" or extreme is not None
        most = 3 if storage == "byte" else 1
        assert few or len(np.unique(got)) > most, f"{spec}: the data saturate: nothing was tested"
    return results
