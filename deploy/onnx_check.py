"""An exported network in ONNX Runtime beside the integer reference: layer by layer, and whole.

Layer by layer: each operator, exported alone by the same code, gets the reference's own tensors, so that what differs
is its own doing and not what came before. Expected is at most one code: ONNX rounds a half to even where the contract
rounds it up, and integer kernels multiply by float32.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lut.progress import Progress
from supernet.outputs import Form

from .integer import CHUNK, run_tensors
from .onnx_export import labels, to_onnx
from .onnx_graph import require
from .program import Op, Program

if TYPE_CHECKING:
    import onnx

FLOAT_CODE = 1e-4
"""What counts as a code of a float32 tensor: this share of its largest value."""


@dataclass(frozen=True)
class LayerDifference:
    """One operator, given equal inputs. largest: of |codes - reference's|; share: of the codes that differ."""

    name: str
    kind: str
    largest: int
    share: float


@dataclass(frozen=True)
class Comparison:
    """layers in execution order; top1: share of the images whose best class is one of the
    reference's best: its scores are integers, so two may be equal. None of several outputs."""

    layers: tuple[LayerDifference, ...]
    top1: float | None
    images: int

    @property
    def largest(self) -> int:
        return max(layer.largest for layer in self.layers)

    @property
    def share(self) -> float:
        """Of the operator where it is largest."""
        return max(layer.share for layer in self.layers)


def compare(
    program: Program, model: onnx.ModelProto, images: np.ndarray, optimise: bool = True, label: str = ""
) -> Comparison:
    """`model`, the exported program, against the reference on uint8 images (n, H, W, C), on one thread.

    optimise: ONNX Runtime rewrites the graph to its fused kernels, as it does for users. label: of the progress; none
    is shown without. Raises InputError for images of another shape, LutError when onnxruntime is not installed.
    """
    parts = [images[i : i + CHUNK] for i in range(0, max(len(images), 1), CHUNK)]
    run_tensors(program, parts[0][:1])  # refuses wrong images before anything is built
    sessions = {op.name: session(to_onnx(alone(program, op)), optimise) for op in program.ops}
    whole, names = session(model, optimise), labels(program)
    largest, differing, total = Counter[str](), Counter[str](), Counter[str]()
    same = 0
    with Progress(len(parts), label, "part", bool(label)) as bar:
        for part in parts:
            tensors = run_tensors(program, part)
            for op in program.ops:
                steps = _steps(program, op, tensors, sessions[op.name])
                largest[op.name] = max(largest[op.name], int(steps.max(initial=0)))
                differing[op.name] += int((steps > 0).sum())
                total[op.name] += steps.size
            results = whole.run(names, {program.input: part})
            if len(names) == 1:
                reference = tensors[program.output].reshape(len(part), -1)
                best = np.take_along_axis(reference, results[0].argmax(1)[:, None], 1)[:, 0]
                same += int((best == reference.max(1)).sum())
            bar.update()
    layers = [
        LayerDifference(op.name, op.spec.kind, largest[op.name], differing[op.name] / max(total[op.name], 1))
        for op in program.ops
    ]
    return Comparison(tuple(layers), same / max(len(images), 1) if len(names) == 1 else None, len(images))


def alone(program: Program, op: Op) -> Program:
    """The part of a program that is one of its operators."""
    return replace(program, ops=(op,), input=op.inputs[0], outputs=(op.output,), name=op.name, form=Form())


def _steps(program: Program, op: Op, tensors: dict[str, np.ndarray], runner: Any) -> np.ndarray:
    """|difference| in codes (n, ...) of one operator's output, given the reference's inputs."""
    reference, tensor = tensors[op.output], program.tensors[op.output]
    got = runner.run(None, {name: tensors[name] for name in op.inputs})[0].reshape(reference.shape)
    if tensor.bits == 16:
        got = np.rint(got / tensor.scale).clip(op.low, op.high)
    difference = np.abs(got.astype(np.float64) - reference)
    if op.spec.kind == "concat":  # a part of it
        difference = difference[..., op.offset : op.offset + op.spec.c_in]
    return difference if tensor.bits != 32 else difference // (FLOAT_CODE * max(float(np.abs(reference).max()), 1e-30))


def session(model: onnx.ModelProto, optimise: bool = True, optimised: Path | None = None) -> Any:
    """An onnxruntime session on one thread of the CPU. optimised: where the graph that it runs is written.

    x86 without VNNI adds pairs of 8-bit products in 16 bits, and saturates; `session.x64quantprecision` keeps it exact.
    """
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def kernels(model: onnx.ModelProto) -> dict[str, int]:
    """How often ONNX Runtime runs which operator: what of the model became integer kernels (QLinear..., QGemm)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        session(model, optimised=path)
        return dict(sorted(Counter(node.op_type for node in require("onnx").load(path).graph.node).items()))


def integer_share(program: Program, ran: dict[str, int]) -> tuple[int, int]:
    """(operators with weights that run as integer kernels, operators with weights), of what `kernels` counted."""
    weighted = sum(op.spec.kind in ("conv2d", "conv2d_add", "linear") for op in program.ops)
    return sum(count for name, count in ran.items() if name in ("QLinearConv", "QGemm")), weighted
