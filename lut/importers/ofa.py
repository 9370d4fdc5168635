"""Once-for-All's latency tables of a Galaxy Note10 (Cai 2020, arXiv:1908.09791): YAML in milliseconds.

One file per image size, `160_lookup_table.yaml` and so on, with keys as ProxylessNAS's (see keyed_yaml) but for blocks

    expanded_conv-input:HxWxC-output:HxWxC-expand:M-kernel:K-stride:S-idskip:B-se:B-hs:B

where M is the number of middle channels (not a ratio), se a squeeze-and-excite, hs h-swish instead of ReLU; `std` in
place of `var`; and a pool (AvgPool2D), a 1x1 convolution on the pooled image (Conv_2) and Logits in rows of their own.
The tables hold one supernet, width 1.2 (24 channels after the stem); nets of width 1.0 have no rows in them.

A folder of such files becomes one table. An operator that occurs in several files (after the pool; at 6x6 and 7x7,
which two image sizes share) was measured more than once: its row has the mean over all samples, their standard
deviation and their number. The files differ by at most 2 % there, so this moves no network by more than .2 %.

Header: `free: input add unary` (the shortcut's addition is in its block's row, a layer's activation in the layer's),
`ignores: pad` (not in the key).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..errors import LutError
from ..spec import OpSpec
from ..table import LatencyTable
from .common import Rows, header, show
from .keyed_yaml import Measured, measured, operator, read_entries
from .ofa_nets import net_cost, net_specs
from .sniff import OFA_FILES, expect

__all__ = ["net_cost", "net_specs", "read_ofa"]
_LAYERS = ("Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits")


def read_ofa(path: str | Path, *, device: str) -> LatencyTable:
    """Rows of float32 operators on one image, from one file or from a folder of them. Raises LutError."""
    expect(path, "ofa")
    path = Path(path)
    samples: dict[OpSpec, list[Measured]] = {}
    for file in _files(path) if path.is_dir() else [path]:
        for spec, (value, _) in _read(file).items():
            samples.setdefault(spec, []).append(value)
    rows = Rows(path)
    for spec, values in samples.items():
        rows.add(spec, pooled(values).row(), str(path))
    return rows.table(header(path, device, "ms", free="input add unary", ignores="pad"))


def pooled(values: list[Measured]) -> Measured:
    """Mean, standard deviation and number of all samples, from those of each part. Milliseconds."""
    if len(values) == 1:
        return values[0]
    count = sum(v.count for v in values)
    mean = sum(v.count * v.mean for v in values) / count
    variance = sum(v.count * (v.sigma**2 + (v.mean - mean) ** 2) for v in values) / count
    return Measured(mean, math.sqrt(variance), count)


def _read(file: Path) -> dict[OpSpec, tuple[Measured, str]]:
    found: dict[OpSpec, tuple[Measured, str]] = {}
    for key, entry in read_entries(file).items():
        where = f"{file}:{entry.line}: {show(key)}"
        spec = operator(key, _LAYERS, True, where)
        if spec in found:
            raise LutError(f"{where}: the same operator as {found[spec][1]}; keep one of the two")
        found[spec] = measured(entry, "std", where), where
    return found


def _files(folder: Path) -> list[Path]:
    """The folder's tables by image size. Raises LutError for a YAML file of another name, and where there is none."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise LutError(f"{folder}: no {OFA_FILES} in this folder")
    for file in files:
        if not re.fullmatch(r"[0-9]+_lookup_table\.yaml", file.name):
            raise LutError(f"{file}: expected only files such as 224_lookup_table.yaml in this folder")
        expect(file, "ofa")
    return files
