"""How published blocks look as an OpSpec, and the geometry of FBNet's space.

A block (1x1 expansion, depthwise convolution, 1x1 projection) is one operator of kind `mbconv`: kernel, stride and
padding are those of its depthwise convolution, `attrs` says the rest: `act=relu6;mid=96;residual=1;se=0`, where mid
is the number of channels between the 1x1 convolutions, and `groups=2` stands there where these are grouped.

FBNet (Wu 2019, arXiv:1812.03443, table 1): 22 searchable layers behind a 16-channel stem at 112x112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..spec import FLOAT_BITS, OpSpec, attributes

FBNET_STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
"""Per stage: output channels, layers, stride of the first."""
FBNET_STEM, FBNET_SIZE = 16, 112
SKIP = "skip"


def float_op(
    kind: str,
    c_in: int,
    c_out: int,
    height: int,
    width: int,
    kernel: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1),
    pad: int = 0,
    attrs: str = "",
    site: str = "",
    bits: int = FLOAT_BITS,
) -> OpSpec:
    """An ungrouped operator of one image in float32 (or `bits`), padded alike on four sides."""
    return OpSpec(
        kind, 1, c_in, c_out, height, width, kernel, stride, (1, 1), (pad,) * 4, 1, bits, (bits,), bits, attrs, site
    )


def mbconv(
    c_in: int,
    c_out: int,
    height: int,
    width: int,
    kernel: int,
    stride: int,
    mid: int,
    *,
    act: str,
    residual: bool,
    se: bool = False,
    groups: int = 1,
    site: str = "",
    bits: int = FLOAT_BITS,
) -> OpSpec:
    """A block of kind `mbconv`. height, width: of the input. act: relu, relu6 or hswish."""
    more = {"groups": groups} if groups > 1 else {}
    attrs = attributes(act=act, mid=mid, residual=int(residual), se=int(se), **more)
    return float_op("mbconv", c_in, c_out, height, width, (kernel,) * 2, (stride,) * 2, kernel // 2, attrs, site, bits)


@dataclass(frozen=True)
class Slot:
    """One layer of FBNet's space: the place that a block or a skip fills. `size`: pixels of its square input."""

    c_in: int
    c_out: int
    height: int
    width: int
    stride: int
    site: str = ""

    def block(self, kernel: int, expansion: int, groups: int = 1, bits: int = FLOAT_BITS) -> OpSpec:
        """The block here. Its shortcut is the identity, where shapes allow one; FBNet activates with ReLU."""
        residual = self.stride == 1 and self.c_in == self.c_out
        mid = self.c_in * expansion
        return mbconv(
            self.c_in, self.c_out, self.height, self.width, kernel, self.stride, mid,
            act="relu", residual=residual, groups=groups, site=self.site, bits=bits,
        )  # fmt: skip

    def other(self, kind: str, bits: int = FLOAT_BITS) -> OpSpec:
        """Anything else here, such as the skip."""
        stride = (self.stride, self.stride)
        return float_op(kind, self.c_in, self.c_out, self.height, self.width, (1, 1), stride, site=self.site, bits=bits)


def fbnet_slots() -> list[Slot]:
    """The 22 layers, sites 0 to 21."""
    slots: list[Slot] = []
    channels, size = FBNET_STEM, FBNET_SIZE
    for c_out, layers, first_stride in FBNET_STAGES:
        for layer in range(layers):
            stride = first_stride if layer == 0 else 1
            slots.append(Slot(channels, c_out, size, size, stride, str(len(slots))))
            channels, size = c_out, size // stride
    return slots


def fbnet_op(name: str) -> tuple[int, int, int] | None:
    """(kernel, expansion, groups) of ir_k3_e6 or ir_k5_s2 (s: groups of the 1x1 convolutions); None for others."""
    match = re.fullmatch(r"ir_k([13579])_([es])([1-9])", name)
    if match is None:
        return None
    kernel, value = int(match[1]), int(match[3])
    return (kernel, value, 1) if match[2] == "e" else (kernel, 1, value)
