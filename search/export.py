"""The network that a finished run found, as an ONNX file, checked in ONNX Runtime on the run's test images."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.lower import lower
from deploy.onnx_check import compare, integer_share, kernels
from deploy.onnx_export import to_onnx
from deploy.program import Program
from deploy.validate import EXACT_IMAGES
from lut.errors import LutError
from lut.files import atomic_write
from lut.lock import alone
from supernet.saved import load_subnet

from .config import RunConfig
from .measure import first_images
from .redeploy import require_files
from .sources import Sources, load_sources

NEEDED = ("config.yaml", "subnet.safetensors")
MODEL = "model.onnx"


def export_onnx(folder: Path) -> dict[str, Any]:
    """Write deploy/model.onnx and deploy/onnx.json of the run in `folder`; returns the latter's content.

    `check` is None where onnxruntime is not installed. Raises InputError when the run is not finished, a file of it is
    damaged or another process works in it, LutError when onnx is not installed or an operator is more than one code off
    the integer reference.
    """
    require_files(folder, NEEDED)
    with alone(folder):
        return _export(folder)


def _export(folder: Path) -> dict[str, Any]:
    sources = load_sources(RunConfig.read(folder / "config.yaml"))
    program = lower(load_subnet(folder / "subnet.safetensors"), "found")
    model = to_onnx(program)
    path = folder / "deploy" / MODEL
    atomic_write(path, model.SerializeToString())
    about = {"file": str(path), "opset": model.opset_import[0].version, "bytes": path.stat().st_size}
    about["check"] = _check(program, model, sources)
    atomic_write(path.with_name("onnx.json"), json.dumps(about, indent=1))
    if about["check"] and (wrong := [row for row in about["check"]["layers"] if row["largest"] > 1]):
        raise LutError(
            f"{path}: {wrong[0]['name']} is {wrong[0]['largest']} codes off the reference; expected at most 1"
        )
    return about


def _check(program: Program, model: Any, sources: Sources) -> dict[str, Any] | None:
    """What ONNX Runtime gives beside the reference; None without it."""
    try:
        version = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return None
    found = compare(program, model, first_images(sources, EXACT_IMAGES), label="onnxruntime")
    ran = kernels(model)
    return {
        "onnxruntime": version,
        "images": found.images,
        "top1_equal": found.top1 if sources.classes else None,
        "largest": found.largest,
        "share": found.share,
        "integer": list(integer_share(program, ran)),
        "kernels": ran,
        "layers": [asdict(layer) for layer in found.layers],
    }


def describe(about: dict[str, Any]) -> str:
    """onnx.json in words."""
    lines = [f"{about['file']}: opset {about['opset']}, {about['bytes']:,} bytes"]
    if (check := about["check"]) is None:
        return f"{lines[0]}\nnot checked: onnxruntime is not installed: pip install 'lutier[onnx]'"
    lines.append(
        f"onnxruntime {check['onnxruntime']}, {check['images']} test images: an operator's codes are off the integer "
        f"reference's by {check['largest']} at most, {check['share']:.3%} of them where it is most"
    )
    if check["top1_equal"] is not None:
        lines.append(f"best class equal on {check['top1_equal']:.2%}")
    lines.append("{} of {} operators with weights run as integer kernels".format(*check["integer"]))
    return "\n".join(lines)
