"""Where networks are trained: the CPU or a device that PyTorch knows, in float32 or in mixed precision.

Mixed precision (Micikevicius et al. 2018, arXiv:1710.03740) is PyTorch's autocast to bfloat16: convolutions, products
and what lies between them in 16 bits, weights, sums over batches and step sizes in 32. Training alone: what is
compared, reported or extracted is computed in float32. bfloat16 has float32's range, so losses are not scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lut.errors import InputError

from .config import Precision


def accelerator(name: str) -> torch.device:
    """The device of that name (`cpu`, `cuda`, `cuda:1`), once something was computed on it.

    Raises InputError, with what there is, for one that this machine or this build of PyTorch lacks.
    """
    try:
        device = torch.device(name)
        (torch.ones(2, dtype=torch.float64, device=device) + 1).cpu()  # metrics are in float64
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:  # by kind of device
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"accelerator: '{name}': {reason}; here there is {' and '.join(at_hand())}") from None
    return device


def at_hand() -> list[str]:
    """Names of the devices that this machine has."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu"] if found is None else ["cpu", found.type]


def idle(device: torch.device) -> list[str]:
    """A line for each accelerator that is at hand while `device`, where networks are trained, is the CPU."""
    others = at_hand()[1:] if device.type == "cpu" else []
    return [f"networks are trained on the CPU, though there is {name}: --accelerator {name}" for name in others]


def describe(device: torch.device) -> str | None:
    """What an accelerator is called by its maker, or its name; None for the CPU."""
    if device.type == "cpu":
        return None
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def require(device: torch.device, precisions: Iterable[Precision]) -> None:
    """InputError where one of them is not for this device, as bfloat16 on a GPU from before Ampere."""
    if "bfloat16" not in precisions:
        return
    try:
        with torch.autocast(device.type, torch.bfloat16):
            return
    except (AssertionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"precision: bfloat16 on '{device}': {reason}; float32 does") from None


def mixed(step: Callable[..., Any], device: torch.device, precision: Precision) -> Callable[..., Any]:
    """`step`, a forward pass, in that precision; what it returns is in float32."""
    if precision == "float32":
        return step

    def cast(*args: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            output = step(*args)
        return tree_map(lambda leaf: leaf.float() if isinstance(leaf, Tensor) else leaf, output)

    return cast


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Inside, a GPU's convolutions and products are in float32, not TF32 with its 10 bits: what is evaluated is close
    to what integers compute."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
