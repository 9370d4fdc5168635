"""A second device, `twin`, made of this machine's memory: what runs on an accelerator can be tested without one.

As on a GPU, an operator whose tensors lie on two devices is an error (numbers, tensors without axes, may), and NumPy
takes nothing from it; values are those of the CPU, to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
TRANSFERS = frozenset({"aten::_to_copy", "aten::copy_"})


class Twin(torch.Tensor):
    """A tensor on the second device; `raw` holds it on the CPU."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Twin:
        shape = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, raw.size(), device="twin:0", **shape)
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operator, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in PRODUCTS and args[0].ndim == 1:  # else PyTorch changes a tensor's shape in place
            return function(args[0][None], args[1])[0]
        return torch._C._disabled_torch_function_impl(function, types, args, kwargs or {})  # else .cpu() were a Twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Twin:
        made = Twin(self.raw.detach().clone())
        is_parameter = getattr(self, "_is_param", False)
        copied = torch.nn.Parameter(made, self.requires_grad) if is_parameter else made
        return memo.setdefault(id(self), copied)

    def data_ptr(self) -> int:
        return self.raw.data_ptr()

    def tolist(self) -> Any:
        return self.raw.tolist()

    def __repr__(self) -> str:
        return f"Twin({self.raw})"


def run(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator of ATen, on the CPU's side of its tensors."""
    name = operator._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [isinstance(tensor, Twin) for tensor in tensors]
    if name not in TRANSFERS and any(here) and any(t.ndim for t, twin in zip(tensors, here) if not twin):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    lands = any(here) if kwargs.get("device") is None else torch.device(kwargs["device"]).type == "twin"
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = operator(*raw(args), **raw(kwargs))
    if operator._schema.is_mutable and not name.startswith("aten::_foreach"):
        return args[0] if made is raw(args[0]) else wrapped(made)
    return wrapped(made) if lands else made


def raw(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.raw if isinstance(leaf, Twin) else leaf, value)


def wrapped(value: Any) -> Any:
    return tree_map(lambda leaf: Twin(leaf) if isinstance(leaf, torch.Tensor) else leaf, value)


_setup_privateuseone_for_python_backend("twin")
EVERY_OPERATOR = torch.library.Library("_", "IMPL")
EVERY_OPERATOR.fallback(lambda operator, *args, **kwargs: run(operator, args, kwargs), dispatch_key="PrivateUse1")
