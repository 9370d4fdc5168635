"""A graph of ONNX nodes around a program's tensors, which it knows as codes and as values (c - z) s.

Inside, every tensor is NCHW; `name/codes` are stored codes (values, in the float32 baseline), `name/value` what
DequantizeLinear makes of them. The opset rises with what is put in: 13 has scales per channel, 21 INT4, 25 INT2.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lut.errors import LutError

from .program import Op, Program

if TYPE_CHECKING:
    import onnx

SCORE_LIMIT = 32767
OPSETS = {"INT4": 21, "INT2": 25}
"""The first opset that has a type; all else is in FIRST."""
FIRST = 13
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def require(module: str) -> Any:
    """The module. Raises LutError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise LutError(f"{module} is not installed, and ONNX needs it: pip install 'lutier[onnx]'") from None


class Graph:
    """Nodes and constants, put in one by one; `model` makes the file's content of them."""

    def __init__(self, program: Program):
        self.program = program
        self.opset = FIRST
        self._onnx, self._helper = require("onnx"), require("onnx.helper")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._made: set[str] = set()
        self._codes: dict[str, str] = {}

    def constant(self, name: str, array: np.ndarray, kind: str | None = None) -> str:
        """An initialiser; `kind`: INT4 or INT2, which NumPy has not. A name that is there is kept as it is."""
        if name not in self._constants:
            if kind is not None:
                array = array.astype(self._helper.tensor_dtype_to_np_dtype(self._onnx.TensorProto.DataType.Value(kind)))
                self.opset = max(self.opset, OPSETS[kind])
            self._constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def integers(self, name: str, values: Sequence[int] | np.ndarray) -> str:
        """Axes, pads, indices: a constant int64 vector."""
        return self.constant(name, np.array(values, np.int64))

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """The output's name; a node that made it before is not repeated."""
        if output not in self._made:
            self._made.add(output)
            self._nodes.append(self._helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def cast(self, value: str, kind: str, output: str) -> str:
        return self.node("Cast", [value], output, to=self._onnx.TensorProto.DataType.Value(kind))

    def codes(self, name: str) -> str:
        """Codes (n, C, H, W) of a tensor; values in the baseline, and scores."""
        return self._codes[name]

    def define(self, name: str, codes: str) -> None:
        """`codes` is the tensor, as it is stored."""
        self._codes[name] = codes

    def value(self, name: str) -> str:
        """Values (n, C, H, W) of a tensor."""
        if self._is_float(name):
            return self.codes(name)
        return self.node("DequantizeLinear", [self.codes(name), *self._scale(name)], f"{name}/value")

    def flat(self, name: str) -> str:
        """Values (n, C H W). The codes are flattened, so that the operator behind sees DequantizeLinear."""
        flat = self.node("Flatten", [self.codes(name)], f"{name}/flat", axis=1)
        if self._is_float(name):
            return flat
        return self.node("DequantizeLinear", [flat, *self._scale(name)], f"{name}/flat/value")

    def store(self, op: Op, value: str, low: float, high: float) -> None:
        """Make the output tensor of its values: to codes, clamped to low..high (codes; values in the baseline)."""
        name, bits = op.output, self.program.tensors[op.output].bits
        if bits == 16:
            scale = self.program.tensors[name].scale
            whole = (-SCORE_LIMIT * scale, SCORE_LIMIT * scale)
            clamped = self._clip(name, value, (low * scale, high * scale), whole, np.float32)
        elif bits == 32:
            if (low, high) == (0, np.inf):
                clamped = self.node("Relu", [value], f"{name}/relu")
            else:
                clamped = self._clip(name, value, (low, high), (-np.inf, np.inf), np.float32)
        else:
            raw = self.node("QuantizeLinear", [value, *self._scale(name)], f"{name}/codes")
            clamped = self._clip(name, raw, (low, high), (0, 255), np.uint8)
        self.define(name, clamped)

    def _clip(self, name: str, value: str, bounds: tuple[float, float], widest: tuple[float, float], kind: Any) -> str:
        """Clip, with the bounds that are narrower than those of the type."""
        low = self.constant(f"{name}/low", np.array(bounds[0], kind)) if bounds[0] > widest[0] else ""
        high = [self.constant(f"{name}/high", np.array(bounds[1], kind))] if bounds[1] < widest[1] else []
        return self.node("Clip", [value, low, *high], f"{name}/clipped") if low or high else value

    def _is_float(self, name: str) -> bool:
        return self.program.tensors[name].bits == 32

    def _scale(self, name: str) -> tuple[str, str]:
        tensor = self.program.tensors[name]
        return (
            self.constant(f"{name}/scale", np.array(tensor.scale, np.float32)),
            self.constant(f"{name}/zero", np.array(tensor.zero, np.uint8)),
        )

    def take(self, name: str) -> Any:
        """A tensor (n, H, W, C) that is given to the model."""
        self.define(name, self.node("Transpose", [name], f"{name}/nchw", perm=TO_NCHW))
        return self._described(name, name, self._shape(name))

    def give(self, name: str, output: str) -> Any:
        """The tensor as the model's result: codes (n, H, W, C); scores or values flat, (n, H W C)."""
        codes, shape = self.codes(name), self._shape(name)
        flat = self.program.tensors[name].bits > 8
        if not flat or shape[:2] != (1, 1):
            codes = self.node("Transpose", [codes], f"{name}/nhwc" if flat else output, perm=TO_NHWC)
        if flat:
            self.node("Flatten", [codes], output, axis=1)
            shape = (int(np.prod(shape)),)
        return self._described(name, output, shape)

    def _shape(self, name: str) -> tuple[int, ...]:
        tensor = self.program.tensors[name]
        return tensor.height, tensor.width, tensor.channels

    def _described(self, name: str, label: str, shape: tuple[int, ...]) -> Any:
        proto = self._onnx.TensorProto
        kind = proto.UINT8 if self.program.tensors[name].bits <= 8 else proto.FLOAT
        return self._helper.make_tensor_value_info(label, kind, ["n", *shape])

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.ModelProto:
        """The finished model, checked. inputs, outputs: what `take` and `give` returned."""
        graph = self._helper.make_graph(self._nodes, self.program.name, inputs, outputs, self._constants.values())
        opset = [self._helper.make_opsetid("", self.opset)]
        version = self._helper.find_min_ir_version_for(opset)
        model = self._helper.make_model(graph, opset_imports=opset, ir_version=version, producer_name="lutier")
        self._onnx.checker.check_model(model, full_check=True)
        return model
