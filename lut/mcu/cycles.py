"""The cycle models that devices name: each makes cycles of what a simulator counted."""

from __future__ import annotations

from collections.abc import Callable

from lut.columns import nearest
from lut.device import Core
from lut.errors import LutError

from . import cortex_m4
from .trace import Listing, Region

Model = Callable[[Region, Listing], int]
MODELS: dict[str, Model] = {"cortex-m4": cortex_m4.cycles}


def model_of(core: Core) -> Model:
    """Raises LutError for a model that there is not."""
    if core.cycle_model not in MODELS:
        known = sorted(MODELS)
        raise LutError(f"core.cycle_model: {core.cycle_model!r} is unknown; {nearest(core.cycle_model, known)}")
    return MODELS[core.cycle_model]
