"""ONNX Runtime, OpenVINO and LiteRT (XNNPACK) as they are fastest: one inference with bound buffers, nothing copied.

A rival is a function (program, threads) -> {setting: run}, `run()` being one inference. Every setting that could be
best is prepared, and the fastest one counts. Inputs are codes (uint8, int8 for LiteRT) or float32, not images: the
table that turns bytes into codes is ours to pay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from deploy.onnx_export import to_onnx

from deploy.program import Program

from .tflite import to_tflite

Run = Callable[[], Any]


def body(program: Program) -> Program:
    """Without the operator that turns the image into codes: what rivals run."""
    first = program.ops[0]
    if first.spec.kind != "input":
        return program
    return Program(program.ops[1:], program.tensors, first.output, program.output, program.name)


def _array(dtype: Any, shape: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
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
    """The program as ONNX, channels last and channels first."""
    models = {"NHWC": _one_image(to_onnx(body(program)))}
    models["NCHW"] = channel_first(_one_image(to_onnx(body(program))))
    return {name: model.SerializeToString() for name, model in models.items()}


def onnxruntime(program: Program, threads: int) -> dict[str, Run]:
    import onnxruntime as ort

    def prepare(model: bytes) -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for given in session.get_inputs():
            dtype = np.float32 if given.type == "tensor(float)" else np.uint8
            binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(_array(dtype, given.shape)))
        for made in session.get_outputs():
            binding.bind_output(made.name, "cpu")
        session.run_with_iobinding(binding)
        for made, value in zip(session.get_outputs(), binding.get_outputs()):  # into the same memory from now on
            binding.bind_ortvalue_output(made.name, value)
        return lambda: session.run_with_iobinding(binding)

    return {name: prepare(model) for name, model in onnx_models(program).items()}


def openvino(program: Program, threads: int) -> dict[str, Run]:
    import openvino as ov

    core = ov.Core()

    def prepare(model: bytes) -> Run:
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "f32"}  # fmt: skip
        request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
        for i, port in enumerate(request.model_inputs):
            dtype = port.get_element_type().to_dtype()
            request.set_input_tensor(i, ov.Tensor(_array(dtype, tuple(port.shape))))

        def run() -> None:
            request.start_async()
            request.wait()

        return run

    return {name: prepare(model) for name, model in onnx_models(program).items()}


def litert(program: Program, threads: int) -> dict[str, Run]:
    from ai_edge_litert.interpreter import Interpreter

    model = to_tflite(body(program))

    def prepare(latest: bool) -> Run:
        interpreter = Interpreter(model_content=model, num_threads=threads,
                                  experimental_default_delegate_latest_features=latest)  # fmt: skip
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], _array(given["dtype"], given["shape"]))
        return interpreter.invoke

    return {"XNNPACK": prepare(False), "XNNPACK, latest": prepare(True)}


RIVALS: dict[str, Callable[[Program, int], dict[str, Run]]] = {
    "ONNX Runtime": onnxruntime,
    "OpenVINO": openvino,
    "LiteRT": litert,
}
