"""A small hand-made file of every format that lut.importers reads, and where the published ones lie."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lut.errors import LutError
from lut.importers import IMPORTERS
from lut.table import LatencyTable

CSV = "lat,ic,oc,h,w,k,s,p,note\n0.5,16,32,8,8,3,1x1,1,first\n1.25,32,32,8,8,1,2x2,0,second\n"
COLUMNS = {
    "latency_us": "lat",
    "c_in": "ic",
    "c_out": "oc",
    "height": "h",
    "width": "w",
    "kernel": "k",
    "stride": "s",
    "pad": "p",
}
CONSTANTS = {
    "kind": "conv2d",
    "batch": "1",
    "dilation": "1",
    "groups": "1",
    "w_bits": "8",
    "in_bits": "8",
    "out_bits": "8",
}
PROXYLESSNAS = """\
Conv-input:224x224x3-output:112x112x32:
  count: 982
  mean: 4.0
  var: 0.25
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0:
  count: 159
  mean: 7.5
  var: 0.09
expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:7-stride:1-idskip:1:
  count: 424
  mean: 4.75
  var: 0.16
Conv_1-input:7x7x320-output:7x7x1280:
  count: 982
  mean: 3.0
  var: 0.19
Logits-input:7x7x1280-output:1000:
  count: 982
  mean: 0.25
  var: 1.0
"""
OFA = """\
AvgPool2D-input:7x7x1152-output:1x1x1152:
  count: 495
  mean: 0.0625
  std: 0.001
Conv-input:224x224x3-output:112x112x24:
  count: 500
  mean: 1.0
  std: 0.02
Conv_1-input:7x7x192-output:7x7x1152:
  count: 500
  mean: 0.75
  std: 0.02
Conv_2-input:1x1x1152-output:1x1x1536:
  count: 500
  mean: 0.5
  std: 0.1
Logits-input:1x1x1536-output:1000:
  count: 500
  mean: 0.25
  std: 0.08
expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:0:
  count: 54
  mean: 4.0
  std: 0.09
expanded_conv-input:7x7x192-output:7x7x192-expand:768-kernel:5-stride:1-idskip:1-se:1-hs:1:
  count: 136
  mean: 1.5
  std: 0.03
"""
APQ = """\
{"(96, 456, 14, 1, 1, 0, 1)-W4A6": {"energy": 0.125, "latency": 0.0625},
 "(488, 488, 14, 3, 2, 1, 488)-W8A4": {"energy": 0.25, "latency": 0.5},
 "head": {"energy": 0.5, "latency": 0.25},
 "tail": {"energy": 0.75, "latency": 0.125}}
"""
FBNET_LINES = """\
{'op_name': 'ir_k3_e6', 'op_data_shape': (112, 56, 16, 24, 2), 'op_dtype': 'float', 'op_latency': 4.5}
{'op_name': 'ir_k5_s2', 'op_data_shape': (56, 56, 24, 24, 1), 'op_dtype': 'float', 'op_latency': 2}
{'op_name': 'skip', 'op_data_shape': (56, 56, 24, 24, 1), 'op_dtype': 'float', 'op_latency': 0.001}
{'op_name': 'conv_stem', 'op_data_shape': (224, 224, 3, 16, 2), 'op_dtype': 'int8', 'op_latency': 0.5}
"""
FBNET = "ir_k3_e1 ir_k5_s2 skip\n" + "".join(f"{100 + i}.5 {200 + i}.25 {i + 1}\n" for i in range(22))
HWNASBENCH = json.dumps(
    {
        "ops": ["k3_e1", "k5_e1_g2", "skip"],
        "devices": {
            name: {"base_ms": base, "per_layer_op_minus_skip_ms": [[1 + i / 8, 2.0, 0.0] for i in range(22)]}
            for name, base in (("raspi4", 7.5), ("eyeriss", 2.75))
        },
    }
)
RESNET18 = [36864] * 4 + [n * 4**stage for stage in range(3) for n in (73728, 147456, 8192, 147456, 147456)]
RESNET18_MACS = [115605504] * 4 + [57802752, 115605504, 6422528, 115605504, 115605504] * 3
HAWQ = json.dumps(
    {
        "ResNet18": {
            "Hutchinson_trace": [0.5] * 19,
            "delta_weights_8bit_square": [0.125] * 19,
            "delta_weights_4bit_square": [4.0] * 19,
            "parameters": RESNET18,
            "bops": [n / 1e6 for n in RESNET18_MACS],
            "latency_int4": [0.25 + i / 64 for i in range(19)],
            "latency_int8": [0.5 + i / 64 for i in range(19)],
        }
    }
)


def npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


HAQ = npy(np.arange(1, 53 * 64 + 1, dtype=np.int64).reshape(53, 8, 8))
SAMPLES = {
    "apq": APQ,
    "csv": CSV,
    "fbnet": FBNET,
    "fbnet_hwnasbench": HWNASBENCH,
    "fbnet_lines": FBNET_LINES,
    "haq": HAQ,
    "hawq": HAWQ,
    "ofa": OFA,
    "proxylessnas": PROXYLESSNAS,
}
OPTIONS = {
    "csv": {"columns": COLUMNS, "constants": CONSTANTS, "unit": "ms"},
    "fbnet_hwnasbench": {"source_device": "raspi4"},
    "fbnet_lines": {"unit": "ms"},
}


def sample(name: str) -> bytes:
    content = SAMPLES[name]
    return content if isinstance(content, bytes) else content.encode()


def options(name: str) -> dict:
    return {"device": "pixel-1", **OPTIONS.get(name, {})}


def published(name: str) -> Path:
    """A published table beside LUTIER_DATA, or a visible skip."""
    root = os.environ.get("LUTIER_DATA")
    if not root:
        pytest.skip(f"LUTIER_DATA is not set; {name} lies in luts/ beside it")
    path = Path(root).parent / "luts" / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


def attempt(name: str, path: Path) -> LatencyTable | str:
    """The table, or the message of the LutError that refused it."""
    try:
        return IMPORTERS[name](path, **options(name))
    except LutError as error:
        return str(error)
