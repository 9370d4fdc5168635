"""A lowered network as a TFLite model, for LiteRT: int8 tensors, weights per channel, int32 biases; or float32.

TFLite's codes are ours minus 128. What a fused add reads has no tensor in a program, so here it is one of int8 over
twice the output's range; paddings that TFLite's SAME does not give are PAD operators. So the model is the same work,
not the same numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deploy.program import Op, Program
from lut.errors import LutError

VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}
"""First versions of operators that take int8, per channel; 2 for the others."""


class _Model:
    def __init__(self, program: Program) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.s: Any = schema
        self.program, self.is_float = program, program.tensors[program.output].bits == 32
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        self.at: dict[str, int] = {}

    def tensor(self, name: str, shape: Sequence[int], kind: str, scale: Sequence[float] = (), zero: int = 0,
               axis: int = 0, data: np.ndarray | None = None) -> int:  # fmt: skip
        t = self.s.TensorT()
        t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), getattr(self.s.TensorType, kind), 0
        if len(scale):
            q = self.s.QuantizationParametersT()
            q.scale, q.zeroPoint, q.quantizedDimension = list(map(float, scale)), [zero] * len(scale), axis
            t.quantization = q
        if data is not None:
            buffer = self.s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            t.buffer = len(self.buffers) - 1
        self.tensors.append(t)
        return len(self.tensors) - 1

    def activation(self, name: str, shape: Sequence[int] | None = None, like: str = "") -> int:
        """An activation with the scale and zero point of the program's tensor `like`."""
        t = self.program.tensors[like or name]
        shape = shape or (1, t.height, t.width, t.channels)
        if self.is_float:
            return self.tensor(name, shape, "FLOAT32")
        scale, zero = (t.scale * 256, 0) if t.bits == 16 else (t.scale, t.zero - 128)
        return self.tensor(name, shape, "INT8", [scale], zero)

    def emit(self, code: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        op = self.s.OperatorT()
        op.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        op.inputs, op.outputs = list(inputs), [output]
        if options is not None:
            op.builtinOptions = options
            op.builtinOptionsType = getattr(self.s.BuiltinOptions, type(options).__name__[:-1])
        self.operators.append(op)

    def padded(self, op: Op) -> tuple[int, bool]:
        """(input, whether SAME pads it as the operator asks), behind a PAD where VALID needs one."""
        source, spec = self.at[op.inputs[0]], op.spec
        if not any(spec.pad):
            return source, False
        if spec.pad == same(spec):
            return source, True
        top, left, bottom, right = spec.pad
        t = self.program.tensors[op.inputs[0]]
        shape = (1, t.height + top + bottom, t.width + left + right, t.channels)
        frame = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        paddings = self.tensor(f"{op.name}/frame", (4, 2), "INT32", data=frame)
        out = self.activation(f"{op.name}/padded", shape, op.inputs[0])
        self.emit("PAD", [source, paddings], out, self.s.PadOptionsT())
        return out, False

    def fused(self, op: Op) -> int:
        """RELU6 where the clamp is narrower than the codes, else none: int8 saturates at a ReLU's zero."""
        activations = self.s.ActivationFunctionType
        if self.is_float:
            return {(-np.inf, np.inf): activations.NONE, (0, np.inf): activations.RELU}.get(
                (op.low, op.high), activations.RELU6
            )
        return activations.RELU6 if 0 <= op.low < op.high < 255 else activations.NONE

    def weighted(self, op: Op) -> None:
        spec, s = op.spec, self.s
        assert op.weights is not None and op.bias is not None
        depthwise, joined = spec.depthwise, spec.kind == "conv2d_add"
        if spec.groups > 1 and not depthwise:
            raise LutError(f"{op.name}: LiteRT has no grouped convolution in 8 bits")
        weights = op.weights.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        bias, scales = op.bias, np.ones(0)
        if not self.is_float:
            scales, signs = self._scales(op)
            weights = weights * (signs if depthwise else signs[:, None, None, None])
            sums = op.weights.reshape(len(op.weights), -1).astype(np.int64).sum(1)
            bias = ((op.bias >> op.shift) + self.program.tensors[op.inputs[0]].zero * sums) * signs
        source_scale = self.program.tensors[op.inputs[0]].scale
        kind, number = ("FLOAT32", np.float32) if self.is_float else ("INT8", np.int8)
        if spec.kind == "linear":
            weights = weights.reshape(len(weights), -1)
        filters = self.tensor(f"{op.name}/weights", weights.shape, kind, scales, axis=3 if depthwise else 0,
                              data=weights.astype(number))  # fmt: skip
        kind, number = ("FLOAT32", np.float32) if self.is_float else ("INT32", np.int32)
        biases = self.tensor(f"{op.name}/bias", bias.shape, kind, scales * source_scale, data=bias.astype(number))
        source, is_same = self.padded(op)
        t = self.program.tensors[op.output]
        shape = (1, t.channels) if spec.kind == "linear" else (1, t.height, t.width, t.channels)
        if joined and not self.is_float:  # what is added to the residual: of either sign, so twice the output's range
            out = self.tensor(f"{op.name}/sum", shape, "INT8", [2 * t.scale])
        else:
            out = self.activation(f"{op.name}/sum" if joined else op.name, shape, op.output)
        if spec.kind == "linear":
            options = s.FullyConnectedOptionsT()
            self.emit("FULLY_CONNECTED", [source, filters, biases], out, options)
        else:
            options = s.DepthwiseConv2DOptionsT() if depthwise else s.Conv2DOptionsT()
            self._window(options, spec, is_same)
            options.dilationHFactor, options.dilationWFactor = spec.dilation
            options.fusedActivationFunction = s.ActivationFunctionType.NONE if joined else self.fused(op)
            if depthwise:
                options.depthMultiplier = 1
            self.emit("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [source, filters, biases], out, options)
        if joined:
            self.at[op.output] = self._sum(op, out, self.at[op.inputs[1]])
        else:
            self.at[op.output] = out

    def _sum(self, op: Op, first: int, second: int) -> int:
        options, out = self.s.AddOptionsT(), self.activation(op.output)
        options.fusedActivationFunction = self.fused(op)
        self.emit("ADD", [first, second], out, options)
        return out

    def _scales(self, op: Op) -> tuple[np.ndarray, np.ndarray]:
        """(weight scales, signs) per output channel: a negative multiplier negates its weights."""
        assert op.mult is not None
        tensors = self.program.tensors
        real = op.mult.astype(np.float64) * 2.0 ** (op.shift - 32)
        real = np.where(real == 0, 2.0**-32, real) * tensors[op.output].scale / tensors[op.inputs[0]].scale
        return np.abs(real), np.where(real < 0, -1, 1)

    def _window(self, options: Any, spec: Any, is_same: bool) -> None:
        options.padding = self.s.Padding.SAME if is_same else self.s.Padding.VALID
        options.strideH, options.strideW = spec.stride

    def pool(self, op: Op) -> None:
        source, is_same = self.padded(op)
        options, out = self.s.Pool2DOptionsT(), self.activation(op.output)
        self._window(options, op.spec, is_same)
        options.filterHeight, options.filterWidth = op.spec.kernel
        self.emit("AVERAGE_POOL_2D" if op.spec.kind == "avg_pool" else "MAX_POOL_2D", [source], out, options)
        self.at[op.output] = out

    def resample(self, op: Op) -> None:
        """Strided rows and columns, then zero channels: what an option-A shortcut asks for."""
        assert op.gather is not None
        kept = np.flatnonzero(op.gather >= 0)
        t, out = self.program.tensors[op.inputs[0]], self.program.tensors[op.output]
        if not np.array_equal(op.gather[kept], np.arange(t.channels)) or np.ptp(kept) + 1 != len(kept):
            raise LutError(f"{op.name}: LiteRT gets no gather of channels, only zero channels around them")
        source = self.at[op.inputs[0]]
        if op.spec.stride != (1, 1):
            bounds = [(0, 0, 0, 0), (1, t.height, t.width, t.channels), (1, *op.spec.stride, 1)]
            words = [self.tensor(f"{op.name}/{i}", (4,), "INT32", data=np.array(b, "i4")) for i, b in enumerate(bounds)]
            shape = (1, out.height, out.width, t.channels)
            strided = self.activation(f"{op.name}/strided", shape, op.inputs[0])
            self.emit("STRIDED_SLICE", [source, *words], strided, self.s.StridedSliceOptionsT())
            source = strided
        frame = np.array([[0, 0], [0, 0], [0, 0], [kept[0], len(op.gather) - 1 - kept[-1]]], np.int32)
        made = self.activation(op.output)
        self.emit(
            "PAD", [source, self.tensor(f"{op.name}/frame", (4, 2), "INT32", data=frame)], made, self.s.PadOptionsT()
        )
        self.at[op.output] = made

    def operator(self, op: Op) -> None:
        match op.spec.kind:
            case "conv2d" | "conv2d_add" | "linear":
                self.weighted(op)
            case "add":
                self.at[op.output] = self._sum(op, *(self.at[name] for name in op.inputs))
            case "avg_pool" | "max_pool":
                self.pool(op)
            case "resample":
                self.resample(op)
            case kind:
                raise LutError(f"{op.name}: no TFLite form for kind {kind!r}")

    def bytes(self) -> bytes:
        import flatbuffers

        s, made = self.s, {op.output for op in self.program.ops}
        inputs = dict.fromkeys(name for op in self.program.ops for name in op.inputs if name not in made)
        for name in inputs:
            self.at[name] = self.activation(name)
        for op in self.program.ops:
            self.operator(op)
        graph, model = s.SubGraphT(), s.ModelT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, self.program.name.encode()
        graph.inputs, graph.outputs = [self.at[name] for name in inputs], [self.at[self.program.output]]
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = []
        for name in self.codes:
            code, number = s.OperatorCodeT(), getattr(s.BuiltinOperator, name)
            code.builtinCode = code.deprecatedBuiltinCode = number
            code.version = VERSIONS.get(name, 2)
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def same(spec: Any) -> tuple[int, int, int, int]:
    """What TFLite's SAME pads: (top, left, bottom, right)."""
    pads = []
    for size, k, step, d in zip((spec.height, spec.width), spec.kernel, spec.stride, spec.dilation):
        total = max((-(-size // step) - 1) * step + d * (k - 1) + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0][0], pads[1][0], pads[0][1], pads[1][1]


def to_tflite(program: Program) -> bytes:
    """The flatbuffer. Raises LutError for an operator that TFLite or this writer does not have."""
    return _Model(program).bytes()
