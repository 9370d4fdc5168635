"""The cycle models that devices name: each makes cycles of what a simulator counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lut.columns import nearest
from lut.device import Core
from lut.errors import LutError
from lut.spec import Source

from . import cortex_m4, riscv
from .trace import Listing, Region


@dataclass(frozen=True)
class Model:
    """cycles: of what QEMU counted; None: RTL runs every row. source: what a row says of where they are from."""

    cycles: Callable[[Region, Listing], int] | None
    source: Source


def instructions(region: Region, listing: Listing) -> int:
    """One cycle each: for cores of which no model was checked."""
    return region.instructions


RISCV_CORES = ("ibex", "cv32e40p")
MODELS = {
    "instructions": Model(instructions, "instructions"),
    "rtl": Model(None, "rtl"),
    "cortex-m4": Model(cortex_m4.cycles, "cycle-model"),
    **{core: Model(partial(riscv.cycles, core=core), "cycle-model") for core in RISCV_CORES},
}


def model_of(core: Core) -> Model:
    """Raises LutError for a model that there is not."""
    if core.cycle_model not in MODELS:
        known = sorted(MODELS)
        raise LutError(f"core.cycle_model: {core.cycle_model!r} is unknown; {nearest(core.cycle_model, known)}")
    return MODELS[core.cycle_model]
