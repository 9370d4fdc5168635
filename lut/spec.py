"""The table's key and its value: one operator with everything that its cost depends on, and what was measured.

Shapes are those of the deployed tensors (batch, height, width, channels); bit-widths are 1 to 8, 16 for the
int16 scores of the last layer, 32 for float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Pair = tuple[int, int]
Source = Literal["board", "rtl", "host", "cycle-model", "instructions", "imported", "interpolated"]
MEASURED: tuple[Source, ...] = ("board", "rtl", "host")
SIMULATED: tuple[Source, ...] = ("cycle-model", "instructions")


def how(source: str | None) -> str:
    """The word for what a device said: only what ran on hardware, or on its own logic, was measured."""
    return "simulated" if source in SIMULATED else "measured"


def how_long(source: str | None) -> str:
    """The same for a time: what is made of instructions alone is none yet."""
    return "uncalibrated" if source == "instructions" else how(source)


FLOAT_BITS = 32
"""The bit-width that stands for float32."""


def attributes(**values: object) -> str:
    """OpSpec.attrs: sorted k=v, joined by ';'."""
    return ";".join(f"{name}={value}" for name, value in sorted(values.items()))


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One operator of a network, fused epilogue included: the table's key.

    Kinds that Lutier's own kernels know: `input` (uint8 image to first tensor), `conv2d`, `conv2d_add` (a residual
    add in the epilogue; `in_bits` holds input and residual), `linear`, `add`, `mul` (attrs `by=channel`: squeeze and
    excite), `unary` (a table of codes; float32: attrs `fn=silu` ..), `avg_pool`, `max_pool`, `resample` (strided,
    zero-filled channel gather: option-A shortcuts), `concat` and `split` (one part each: c_in of c_out channels, or the
    reverse), `shuffle`, `pad`, `quantize`, `dequantize`, `softmax`, `layer_norm`. Imported tables may use any other.
    """

    kind: str
    batch: int
    c_in: int
    c_out: int
    height: int  # of the input
    width: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    groups: int = 1
    w_bits: int = 8
    in_bits: tuple[int, ...] = (8,)  # one per input tensor
    out_bits: int = 8
    attrs: str = ""  # sorted k=v, separated by ';'
    site: str = ""  # a row that holds at one layer of one network only

    def out_size(self) -> Pair:
        """(height, width) of the output, by the convolution's floor rule."""
        top, left, bottom, right = self.pad
        rows = (self.height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1
        cols = (self.width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1
        return rows, cols

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.c_in == self.c_out

    @property
    def is_float(self) -> bool:
        return self.out_bits == FLOAT_BITS

    def without_site(self) -> OpSpec:
        return replace(self, site="")


@dataclass(frozen=True, slots=True)
class Latency:
    """What one row cost. Microseconds; `n` counts the samples that the quantiles stand on."""

    us: float  # undisturbed time, see lut.profilers.base.summarise; an imported row: what its file says
    p10: float
    p90: float
    n: int = 1
    workspace_bytes: int = 0
    code_bytes: int = 0
    source: str = "host"
    cycles: float | None = None
    energy_uj: float | None = None
    variant: str = ""  # kernel variant that was measured, or how the row was interpolated
