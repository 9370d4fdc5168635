"""Small random schedules with tied widths, for tests that compare with brute force."""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lut.spec import Latency, OpSpec
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchOp, SearchTensor, Values


def random_schedule(
    seed: int, layers: int = 3, max_options: int = 3, skip: bool = False
) -> tuple[tuple[Choice, ...], Schedule]:
    """A chain of convs on 4x4 with random widths and bits; every third conv adds the input of the one before it.

    The residual ties the two widths; image and scores are pinned. `skip` lets the last conv be absent (weight bits 0).
    """
    generator = np.random.default_rng(seed)
    choices: list[Choice] = []

    def choice(name: str, kind: str, pool: tuple[int, ...]) -> Choice:
        count = generator.integers(1, max_options + 1)
        options = tuple(sorted(int(v) for v in generator.choice(pool, size=min(count, len(pool)), replace=False)))
        choices.append(Choice(name, kind, options, len(choices)))
        return choices[-1]

    tensors: dict[str, SearchTensor] = {}

    def tensor(name: str, width: Choice) -> str:
        bits = choice(f"{name}.act_bits", "act_bits", (8,) if name in ("t0", f"t{layers}") else (2, 4, 8))

        def make(values: Values) -> tuple[int, int, int, int]:
            return values[width.name], 4, 4, values[bits.name]

        tensors[name] = SearchTensor(name, (width, bits), make)
        return name

    ops: list[SearchOp] = []
    last = tensor("t0", choice("width0", "width", (3,)))
    before = last
    for i in range(layers):
        residual = before if i % 3 == 2 else None
        width = tensors[residual].choices[0] if residual else choice(f"width{i + 1}", "width", (2, 3, 8, 11))
        target = tensor(f"t{i + 1}", width)
        pool = (0, 8) if skip and i == layers - 1 else (2, 4, 8)
        bits = choice(f"conv{i}.weight_bits", "weight_bits", pool)
        ops.append(_conv(f"conv{i}", tensors, last, target, bits, residual))
        before, last = last, target
    return tuple(choices), Schedule(tuple(ops), tensors, "t0", (last,))


def _conv(
    name: str, tensors: dict[str, SearchTensor], source: str, target: str, bits: Choice, residual: str | None
) -> SearchOp:
    inputs = (source,) if residual is None else (source, residual)
    roles: dict[Choice, set[str]] = {}
    for tensor, width_field, bits_field in ((source, "c_in", "in_bits"), (target, "c_out", "out_bits")):
        width, act = tensors[tensor].choices
        roles.setdefault(width, set()).add(width_field)
        roles.setdefault(act, set()).add(bits_field)
    if residual is not None:
        roles.setdefault(tensors[residual].choices[1], set()).add("in_bits")
    roles.setdefault(bits, set()).add("w_bits")

    def make(values: Values) -> OpSpec | None:
        if values[bits.name] == 0:
            return None
        c_in, height, width, _ = tensors[source].make(values)
        c_out, _, _, out_bits = tensors[target].make(values)
        in_bits = tuple(tensors[t].make(values)[3] for t in inputs)
        kind = "conv2d" if residual is None else "conv2d_add"
        return OpSpec(kind, 1, c_in, c_out, height, width, (3, 3), pad=(1, 1, 1, 1),
                      w_bits=values[bits.name], in_bits=in_bits, out_bits=out_bits)  # fmt: skip

    fields = tuple(frozenset(f) for f in roles.values())
    return SearchOp(name, tuple(roles), fields, make, inputs, target, None if residual is None else 1)


def assignments(choices: tuple[Choice, ...]) -> Iterator[dict[str, int]]:
    """Every architecture of a space."""
    for combination in itertools.product(*(c.options for c in choices)):
        yield dict(zip((c.name for c in choices), combination))


@dataclass
class HashTable:
    """A latency table with an arbitrary, reproducible value for every spec; counts its look-ups."""

    provenance: dict[str, str]
    calls: int = 0

    def lookup(self, spec: OpSpec) -> Latency:
        self.calls += 1
        bits = (0, 0) if self.provenance.get("collapse") == "act_bits" else (sum(spec.in_bits), spec.out_bits)
        key = (spec.c_in, spec.c_out, spec.w_bits, *bits, spec.kind == "conv2d")
        value = 1.0 + zlib.crc32(repr(key).encode()) % 1000 / 10
        scratch = 8 * (key[0] + bits[0])
        return Latency(value, value / 2, 2 * value, workspace_bytes=scratch, cycles=3 * value, energy_uj=value / 7)
