"""What a table declares of rows that it does not hold one by one: five keys of its header.

    free: input add          kinds that its source left out: they count as nothing, because the header says so
    free_sites: conv1        single layers that it left out, by the name of the layer
    alias: conv2d_add=conv2d looked up as that kind, with the bits of the first input alone
    promote: bits            weights and inputs of unequal bits run as the larger of the two
    ignores: out_bits batch  fields of OpSpec that its rows do not depend on

They are for imported tables, whose authors measured convolutions and left out what they took to be cheap or fused.
Nothing is free, equal or ignored that the header does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .columns import SPEC_COLUMNS, nearest
from .errors import LutError
from .spec import Latency, OpSpec

FREE = Latency(0.0, 0.0, 0.0, n=0, source="imported", cycles=0.0, energy_uj=0.0, variant="free")
"""The cost of an operator whose kind a table declares free."""
NEUTRAL: dict[str, Any] = {
    **dict.fromkeys(("batch", "c_in", "c_out", "height", "width", "groups"), 1),
    **dict.fromkeys(("kernel", "stride", "dilation"), (1, 1)),
    "pad": (0, 0, 0, 0),
    "w_bits": 8,
    "in_bits": (8,),
    "out_bits": 8,
    "attrs": "",
    "site": "",
}
"""What stands in an ignored field, in rows and in questions alike."""


@dataclass(frozen=True)
class Rules:
    free: frozenset[str] = frozenset()
    free_sites: frozenset[str] = frozenset()
    alias: Mapping[str, str] = field(default_factory=dict)
    ignores: frozenset[str] = frozenset()
    promote: bool = False

    @staticmethod
    def of(provenance: Mapping[str, str], where: str = "table") -> Rules:
        """Raises LutError `where: key: ...` for a field that OpSpec does not have and for an alias without '='."""
        alias = {}
        for item in provenance.get("alias", "").split():
            kind, equals, other = item.partition("=")
            if not (kind and equals and other):
                raise LutError(f"{where}: alias: {item!r} is not kind=other, such as conv2d_add=conv2d")
            alias[kind] = other
        ignores = provenance.get("ignores", "").split()
        for name in ignores:
            if name not in SPEC_COLUMNS or name in ("kind", "site"):
                raise LutError(f"{where}: ignores: {name!r} is no field that rows may ignore; "
                               f"{nearest(name, [c for c in SPEC_COLUMNS if c not in ('kind', 'site')])}")  # fmt: skip
        free, free_sites = (frozenset(provenance.get(name, "").split()) for name in ("free", "free_sites"))
        promote = provenance.get("promote", "")
        if promote not in ("", "bits"):
            raise LutError(f"{where}: promote: {promote!r} is not bits")
        return Rules(free, free_sites, alias, frozenset(ignores), bool(promote))

    def frees(self, spec: OpSpec) -> bool:
        """Whether the operator counts as nothing."""
        return spec.kind in self.free or (bool(spec.site) and spec.site in self.free_sites)

    def canonical(self, spec: OpSpec) -> OpSpec:
        """The operator as the table's rows would have it, ignored fields neutral."""
        if spec.kind in self.alias:
            spec = replace(spec, kind=self.alias[spec.kind], in_bits=spec.in_bits[:1])
        if self.promote and max(spec.w_bits, *spec.in_bits) <= 8:
            most = max(spec.w_bits, *spec.in_bits)
            spec = replace(spec, w_bits=most, in_bits=(most,) * len(spec.in_bits))
        return replace(spec, **{name: NEUTRAL[name] for name in self.ignores}) if self.ignores else spec
