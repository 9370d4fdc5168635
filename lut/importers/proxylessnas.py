"""ProxylessNAS's latency table of a Pixel 1 (Cai 2019, arXiv:1812.00332), a YAML file of 72 rows in milliseconds.

    Conv-input:224x224x3-output:112x112x32                                       the 3x3 stem of stride 2
    expanded_conv-input:HxWxC-output:HxWxC-expand:E-kernel:K-stride:S-idskip:B   a block; E is the expansion ratio
    Conv_1-input:7x7x320-output:7x7x1280                                         the 1x1 convolution at the end
    Logits-input:7x7x1280-output:1000                                            all after it: pool and linear

Each holds mean, var and count. A network costs Conv + blocks + Conv_1 + Logits; a block left out (a skip) costs
nothing. The space is a first block of expansion 1 and kernel 3, then 21 blocks of which those with idskip may be left
out: 29.6 to 191.0 ms (with kernel 7 in the first block, 198.0).

`var` is read as its name says, as the variance in ms^2: a spread of 8 % of the mean. The source says no more. Were it
a standard deviation, the spread would be 2.7 %, near the 2.2 % that the same authors' later tables call `std`. So the
quantiles here are rather too wide than too narrow. They do not enter any cost.

Header: `free: input add avg_pool` since the shortcut's addition is in its block's row and the pool in Logits;
`ignores: pad` since TensorFlow chose the padding (`SAME`, not symmetric) and the key does not hold it.
"""

from __future__ import annotations

from pathlib import Path

from ..table import LatencyTable
from .common import Rows, header, show
from .keyed_yaml import measured, operator, read_entries
from .sniff import expect


def read_proxylessnas(path: str | Path, *, device: str) -> LatencyTable:
    """Rows of float32 operators on one image. Raises LutError `path:line: key: ...` for any row that is not usable."""
    expect(path, "proxylessnas")
    rows = Rows(path)
    for key, entry in read_entries(path).items():
        where = f"{path}:{entry.line}: {show(key)}"
        spec = operator(key, ("Conv", "Conv_1", "Logits"), False, where)
        rows.add(spec, measured(entry, "var", where).row(), where)
    return rows.table(header(path, device, "ms", free="input add avg_pool", ignores="pad"))
