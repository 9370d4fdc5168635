"""A lowered network: operators with their constants, ready for the integer reference and for every back end.

The arithmetic (all back ends agree to the bit). Activations are unsigned codes q with zero point z, value (q - z) s.
acc  = sum_k q_in[k] w[o, k]                               int32; padding contributes its zero point
conv2d, linear:  y = clamp(z_out + (((acc << l) + bias[o]) m[o] + 2^31 >> 32))
conv2d_add:      y = clamp(z_out + (((acc << l) + bias[o]) m[o] + ((r - z_r) << l_r) m_r + 2^31 >> 32))
add:             y = clamp(z_out + (((a - z_a) << l) m + ((b - z_b) << l_r) m_r + 2^31 >> 32))
avg_pool:        y = clamp(z_out + (((sum of window - n z_in) << l) m + 2^31 >> 32))   n = kernel area; no padding
mul:             y = clamp(z_out + ((((a - z_a)(b - z_b)) << l) m + 2^31 >> 32))   by=channel: b is one pixel's
unary:           y = table[code]
max_pool:        the largest code; padding never wins
resample, pad, concat, split, shuffle:   codes are moved; absent channels and frames take the zero point
input:           y = table[channel, byte]
dequantize:      y = table[code], float32
quantize:        y = clamp(rint(x w) + z_out), halves to even, w a float32
softmax, layer_norm:   float32; equal to the reference to rounding alone, see validate.check_exact

Products are 64 bits wide, the shift by 32 is arithmetic (floor), (acc << l) + bias fits int32; bias holds
-z_in sum(w) << l. The bias is added behind the shift, because a whole step of the accumulator can be several codes of
the output when weights or inputs have few bits; l is chosen so that its rounding stays below 1/128 of a code. A sum is
rounded once: with two independent uniform rounding errors, rounding both terms by themselves gives another code in one
element of four (P(|e1 + e2| > 1/2) = 1/4), and at 2-bit activations a code is a third of the range.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lut.errors import LutError
from lut.spec import OpSpec
from supernet.outputs import Form


@dataclass(frozen=True)
class Tensor:
    """An activation: NHWC codes, one byte each on the host (int16 for the scores, float32 for the baseline)."""

    name: str
    height: int
    width: int
    channels: int
    bits: int  # 1..8 unsigned codes, 16 signed scores, 32 float32
    zero: int = 0
    scale: float = 1.0

    @property
    def dtype(self) -> str:
        return {16: "int16", 32: "float32"}.get(self.bits, "uint8")

    @property
    def bytes(self) -> int:
        return self.height * self.width * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Op:
    """One operator and its constants.

    weights: int8 (or float32) (c_out, c_in / groups, kh, kw), linear (c_out, c_in, 1, 1) with inputs in HWC order.
    bias: int32 (float32) (c_out,). mult: even signed int32, (c_out,) for conv2d, conv2d_add and linear, (1,) else.
    shift: l. res_mult, res_shift: m_r and l_r, of the second input. low, high: the clamp, in codes (float: values).
    gather: resample's source channel per output channel, -1 for zero. table: input's (channels, 256) codes (float32 in
    the baseline), a unary's (2^in_bits,) codes (the baseline has its function's name in spec.attrs), dequantize's
    float32 values. weights and bias of layer_norm: float32 (channels,), with eps; of quantize: 1 / scale. offset: the
    first channel of a part, of the output for concat, of the input for split; a concat is an operator for every part.
    """

    name: str
    spec: OpSpec
    inputs: tuple[str, ...]
    output: str
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None
    mult: np.ndarray | None = None
    shift: int = 0
    res_mult: int = 0
    res_shift: int = 0
    low: float = 0
    high: float = 255
    gather: np.ndarray | None = None
    table: np.ndarray | None = None
    eps: float = 0.0
    offset: int = 0
    in_place: int | None = None


@dataclass(frozen=True)
class Program:
    """Operators in execution order; tensors by name; `input` is uint8 NHWC, `outputs` int16 (or float32), each with a
    scale of its own. form: what the user's model returns of them."""

    ops: tuple[Op, ...]
    tensors: dict[str, Tensor]
    input: str
    outputs: tuple[str, ...]
    name: str = "net"
    meta: dict[str, str] = field(default_factory=dict)
    form: Form = field(default_factory=Form)

    @property
    def output(self) -> str:
        """The only output. LutError where there are several."""
        if len(self.outputs) != 1:
            raise LutError(f"{self.name}: it has several outputs ({', '.join(self.outputs)}); expected one")
        return self.outputs[0]

    @property
    def is_float(self) -> bool:
        """Whether the outputs are values, not codes: the baseline."""
        return any(self.tensors[name].bits == 32 for name in self.outputs)
