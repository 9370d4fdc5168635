"""ONNX Runtime, OpenVINO and LiteRT (XNNPACK) as they are fastest: one inference with bound buffers, nothing copied.

A rival is a function (program, threads, largest) -> {setting: Session}. Every setting that could be best is prepared,
and the fastest one counts. Inputs are codes (uint8, int8 for LiteRT) or float32, not images: the
table that turns bytes into codes is ours to pay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from deploy.lower import fixed_point
from deploy.onnx_export import to_onnx
from deploy.program import Op, Program, Tensor
from lut.spec import OpSpec

from .tflite import to_tflite


@dataclass(frozen=True)
class Session:
    """run() is one inference; output() its result."""

    run: Callable[[], Any]
    output: Callable[[], np.ndarray]


def body(program: Program) -> Program:
    """Without the operator that turns the image into codes: what rivals run."""
    first = program.ops[0]
    if first.spec.kind != "input":
        return program
    return Program(program.ops[1:], program.tensors, first.output, program.outputs, program.name)


def unfused(program: Program) -> Program:
    """Every conv2d_add as a convolution and an add, with a rounding to 8 bits in between: what most exporters write,
    and the only form of it that ONNX Runtime has integer kernels for."""
    ops, tensors = [], dict(program.tensors)
    for op in program.ops:
        if op.spec.kind != "conv2d_add" or op.spec.is_float:
            ops.append(op)
            continue
        assert op.mult is not None
        name, target = f"{op.name}/sum", program.tensors[op.output]
        tensors[name] = replace(target, name=name, bits=8, zero=128, scale=2 * target.scale)
        conv = replace(op.spec, kind="conv2d", in_bits=op.spec.in_bits[:1], out_bits=8)
        halved = (op.mult // 4 * 2).astype(np.int32)  # of twice the scale, and even
        ops.append(replace(op, name=name, spec=conv, inputs=op.inputs[:1], output=name, mult=halved, low=0, high=255,
                           in_place=None))  # fmt: skip
        rows, cols = op.spec.out_size()
        add = OpSpec("add", 1, op.spec.c_out, op.spec.c_out, rows, cols, in_bits=(8, *op.spec.in_bits[1:]))
        mult, shift = fixed_point(np.array([2.0]))
        ops.append(replace(op, spec=add, inputs=(name, op.inputs[1]), weights=None, bias=None, mult=mult, shift=shift))
    return Program(tuple(ops), tensors, program.input, program.outputs, program.name)


def _array(dtype: Any, shape: Any, largest: bool) -> np.ndarray:
    """An input: random, or of the largest codes."""
    rng = np.random.default_rng(0)
    if largest:
        return np.full(shape, np.iinfo(dtype).max, dtype)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 127, shape).astype(dtype)


def channel_first(model: Any) -> Any:
    """The same ONNX model with (n, c, h, w) inputs and outputs: the transposes at its ends are cut off."""
    graph = model.graph
    ends = {end.name: end.type.tensor_type.shape.dim for end in (*graph.input, *graph.output)}
    for node in [node for node in graph.node if node.op_type == "Transpose"]:
        for outer, inner in ((node.input[0], node.output[0]), (node.output[0], node.input[0])):
            if outer not in ends:
                continue
            graph.node.remove(node)
            for other in graph.node:
                for names in (other.input, other.output):
                    for i, name in enumerate(names):
                        names[i] = outer if name == inner else name
            height, width, channels = (dim.dim_value for dim in ends[outer][1:])
            for dim, size in zip(ends[outer][1:], (channels, height, width)):
                dim.dim_value = size
            break
    return model


def _one_image(model: Any) -> Any:
    """The model for batches of one."""
    for end in (*model.graph.input, *model.graph.output):
        dim = end.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_value = 1
    return model


def onnx_models(program: Program) -> dict[str, bytes]:
    """The program as ONNX, channels last and channels first, and with the terms of a sum rounded."""
    models = {"NHWC": _one_image(to_onnx(body(program)))}
    models["NCHW"] = channel_first(_one_image(to_onnx(body(program))))
    if (plain := unfused(program)).ops != program.ops:
        models["NHWC, sums rounded"] = _one_image(to_onnx(body(plain)))
    return {name: model.SerializeToString() for name, model in models.items()}


def onnxruntime(program: Program, threads: int, largest: bool = False, exact: bool = True) -> dict[str, Session]:
    """exact: without the sums of 16 bits that its default saturates on x86 without VNNI."""
    import onnxruntime as ort

    def prepare(model: bytes) -> Session:
        options = ort.SessionOptions()
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for given in session.get_inputs():
            dtype = np.float32 if given.type == "tensor(float)" else np.uint8
            binding.bind_ortvalue_input(
                given.name, ort.OrtValue.ortvalue_from_numpy(_array(dtype, given.shape, largest))
            )
        for made in session.get_outputs():
            binding.bind_output(made.name, "cpu")
        session.run_with_iobinding(binding)
        for made, value in zip(session.get_outputs(), binding.get_outputs()):  # into the same memory from now on
            binding.bind_ortvalue_output(made.name, value)
        return Session(lambda: session.run_with_iobinding(binding), lambda: binding.copy_outputs_to_cpu()[0])

    return {name: prepare(model) for name, model in onnx_models(program).items()}


def openvino(program: Program, threads: int, largest: bool = False) -> dict[str, Session]:
    import openvino as ov

    core = ov.Core()

    def prepare(model: bytes) -> Session:
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "f32"}  # fmt: skip
        request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
        for i, port in enumerate(request.model_inputs):
            dtype = port.get_element_type().to_dtype()
            request.set_input_tensor(i, ov.Tensor(_array(dtype, tuple(port.shape), largest)))

        def run() -> None:
            request.start_async()
            request.wait()

        return Session(run, lambda: request.get_output_tensor(0).data.copy())

    return {name: prepare(model) for name, model in onnx_models(program).items()}


def litert(program: Program, threads: int, largest: bool = False) -> dict[str, Session]:
    from ai_edge_litert.interpreter import Interpreter

    model = to_tflite(body(program))

    def prepare(latest: bool) -> Session:
        interpreter = Interpreter(model_content=model, num_threads=threads,
                                  experimental_default_delegate_latest_features=latest)  # fmt: skip
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], _array(given["dtype"], given["shape"], largest))
        place = interpreter.get_output_details()[0]["index"]
        return Session(interpreter.invoke, lambda: interpreter.get_tensor(place))

    return {"XNNPACK": prepare(False), "XNNPACK, latest": prepare(True)}


DEFAULT = "ONNX Runtime, default"
RIVALS: dict[str, Callable[..., dict[str, Session]]] = {
    "ONNX Runtime": onnxruntime,
    DEFAULT: partial(onnxruntime, exact=False),
    "OpenVINO": openvino,
    "LiteRT": litert,
}


def extreme() -> Program:
    """One 3x3 convolution of 16 channels whose weights are all 127: inputs of 255 give the code 200 inside, unless a
    product's sum saturates on its way."""
    acc = 255 * 127 * 9 * 16
    mult, shift = fixed_point(np.full(16, 200 / acc))
    spec = OpSpec("conv2d", 1, 16, 16, 5, 5, (3, 3), pad=(1, 1, 1, 1))
    op = Op("conv", spec, ("codes",), "out", weights=np.full((16, 16, 3, 3), 127, np.int8), bias=np.zeros(16, np.int32),
            mult=mult, shift=shift)  # fmt: skip
    tensors = {name: Tensor(name, 5, 5, 16, 8) for name in ("codes", "out")}
    return Program((op,), tensors, "codes", ("out",), "extreme")


def saturating(runtime: str) -> list[str]:
    """The settings of a runtime, "runtime: setting", whose 8-bit convolution is off by more than a code where sums are
    largest."""
    found = []
    for setting, session in RIVALS[runtime](extreme(), 1, largest=True).items():
        session.run()
        output = session.output()
        code = int(output.astype(int).max()) + (128 if output.dtype == np.int8 else 0)
        if abs(code - 200) > 1:
            found.append(f"{runtime}: {setting}")
    return found
