"""Functions of one value that a deployed network computes by looking a code up: 2^b entries, whatever the function.

y = x relu6(x + 3) / 6           hardswish     (Howard et al. 2019, arXiv:1905.02244, sec. 5.2)
y = relu6(x + 3) / 6             hardsigmoid
y = x sigmoid(x)                 silu          (Elfwing et al. 2018, arXiv:1702.03118)
y = x Phi(x)                     gelu          (Hendrycks and Gimpel 2016, arXiv:1606.08415)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
POSITIVE = frozenset({"hardsigmoid", "sigmoid"})
"""Functions whose values are never negative."""
