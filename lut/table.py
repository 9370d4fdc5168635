"""The latency table: a mapping from operators to what they cost on one device, as CSV under a `#` header.

Look-up goes from the certain to the inferred: the exact row; the row that the header's rules (rules.py) make of the
question, with its site, then without; on a device whose cost does not depend on activation bits (`collapse: act_bits`
in the header) the row of the canonical key; a row interpolated by the rule that the header declares (`interpolation`);
else an error that names the nearest rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from .columns import (
    COLUMNS,
    OPTIONAL_CELLS,
    SPEC_COLUMNS,
    describe,
    latency_cells,
    latency_from,
    nearest,
    parse_cells,
    spec_cells,
    spec_from,
)
from .device import shipped
from .errors import LutError
from .files import atomic_write
from .header import check_header
from .interpolate import RULES, Interpolator
from .machine import MUST_MATCH, differences
from .rules import FREE, Rules
from .spec import Latency, OpSpec

if TYPE_CHECKING:
    import pandas

Conflict = Literal["error", "keep", "replace"]


class LatencyTable(Mapping[OpSpec, Latency]):
    """Immutable rows and their provenance (free `key: value` text). `path` names the table in messages."""

    def __init__(
        self, rows: Mapping[OpSpec, Latency], provenance: Mapping[str, str] | None = None, path: str | Path = "table"
    ) -> None:
        self._rows = dict(rows)
        self.provenance: Mapping[str, str] = MappingProxyType(dict(provenance or {}))
        self.path = Path(path)
        self.rules = Rules.of(self.provenance, str(self.path))
        self._cache: dict[OpSpec, Latency | None] = {}
        self._canonical: dict[OpSpec, Latency] | None = None
        self._interpolator: Interpolator | None = None

    def __getitem__(self, spec: OpSpec) -> Latency:
        return self._rows[spec]

    def __iter__(self) -> Iterator[OpSpec]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"LatencyTable({self.provenance.get('device', '?')}, {len(self)} rows, {self.path})"

    @property
    def source(self) -> str | None:
        """Where its first row is from: what a table holds beside interpolated rows is from one place."""
        return next((row.source for row in self._rows.values()), None)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Kinds that the table has rows of."""
        return frozenset(spec.kind for spec in self._rows)

    def replace(self, rows: Mapping[OpSpec, Latency] | None = None, **provenance: str) -> LatencyTable:
        """The same table with other rows, or with some provenance set."""
        return LatencyTable(self._rows if rows is None else rows, {**self.provenance, **provenance}, self.path)

    # --- look-up

    def key(self, spec: OpSpec) -> OpSpec:
        """The row that would hold this operator's measurement: without site, and canonical where bits collapse."""
        spec = spec.without_site()
        match self.provenance.get("collapse"):
            case "act_bits":
                from .kernels import row_key

                return row_key(spec, self.provenance.get("isa", ""))
            case "packed":
                from .mcu import emit

                return emit.row_key(spec, "packed")
        return spec

    def lookup(self, spec: OpSpec) -> Latency:
        """The operator's cost. Raises LutError when no row and no declared rule gives it."""
        if (found := self._find(spec)) is not None:
            return found
        rows = "; ".join(map(describe, self.nearest(spec))) or "none, the table is empty"
        raise LutError(f"{self.path}: no row for {describe(spec)}, and none to interpolate from; nearest rows: {rows}")

    def variant(self, spec: OpSpec) -> str:
        """The schedule that an operator's row was measured with; "" (the default one) where no row was."""
        row = self.get(self.key(spec))
        return row.variant if row is not None and row.source not in ("interpolated", "imported") else ""

    def nearest(self, spec: OpSpec, n: int = 3) -> list[OpSpec]:
        """The n rows nearest to an operator as the header's rules see it: of its kind, then with the most equal fields,
        then the fewest octaves apart in channels and size."""
        key = self.key(self.rules.canonical(spec))
        fields = [name for name in SPEC_COLUMNS if name not in self.rules.ignores]
        return sorted(self._rows, key=lambda other: distance(key, other, fields))[:n]

    def missing(self, specs: Iterable[OpSpec]) -> list[OpSpec]:
        """The distinct specs that `lookup` would refuse, in order."""
        return [spec for spec in dict.fromkeys(specs) if self._find(spec) is None]

    def _find(self, spec: OpSpec) -> Latency | None:
        if (row := self._rows.get(spec)) is not None:
            return row
        if self.rules.frees(spec):
            return FREE
        spec = self.rules.canonical(spec)
        if (row := self._canonical_rows().get(spec)) is not None:
            return row
        spec = spec.without_site()
        if spec not in self._cache:
            row = self._canonical_rows().get(spec) or self._rows.get(self.key(spec))
            self._cache[spec] = row or self._interpolated(self.key(spec))
        return self._cache[spec]

    def _canonical_rows(self) -> Mapping[OpSpec, Latency]:
        """The rows with their ignored fields neutral. LutError where two of them differ in nothing else."""
        if not self.rules.ignores:
            return self._rows
        if self._canonical is None:
            rows: dict[OpSpec, OpSpec] = {}
            for spec in self._rows:
                other = rows.setdefault(self.rules.canonical(spec), spec)
                if other is not spec and self._rows[other] != self._rows[spec]:
                    raise LutError(
                        f"{self.path}: ignores: {' '.join(sorted(self.rules.ignores))}: but {describe(other)} and "
                        f"{describe(spec)} differ in nothing else and cost {self._rows[other].us} and "
                        f"{self._rows[spec].us} us; keep one of the rows, or ignore less"
                    )
            self._canonical = {key: self._rows[spec] for key, spec in rows.items()}
        return self._canonical

    def _interpolated(self, key: OpSpec) -> Latency | None:
        if self._interpolator is None:
            rule = self.provenance.get("interpolation", "none")
            if rule not in RULES:
                raise LutError(f"{self.path}: interpolation: {rule!r} is no rule; {nearest(rule, RULES)}")
            self._interpolator = RULES[rule](self._canonical_rows(), self.provenance)
        return self._interpolator(key)

    # --- whole tables

    def check(self, machine: Mapping[str, str], force: bool = False) -> None:
        """Refuse rows that another machine, compiler or kernel source made. Raises LutError with the way out.

        `machine` is `this_machine(device)`. Imported tables describe another device by intent and always pass.
        """
        found = differences(self.provenance, machine)
        if force or self.provenance.get("profiler") == "imported" or not found:
            return
        name = self.provenance.get("device", "host-cpu")
        name = name if name in shipped() else f"{name}.yaml"
        command = (
            f"python scripts/build_lut.py --device {name} --specs {self.path} --every-row --out {self.path} --force"
        )
        reasons = "\n  ".join(found)
        raise LutError(f"{self.path}: these rows were not measured here:\n  {reasons}\nrebuild them with: {command}")

    def merge(self, other: LatencyTable, conflict: Conflict = "error") -> LatencyTable:
        """Rows of both. A measured row wins over an interpolated one; of two others that differ, `conflict` decides:
        `error` raises LutError, `keep` takes this table's, `replace` the other's. Both must be of one machine.
        """
        for name in ("device", *MUST_MATCH):
            mine, theirs = self.provenance.get(name, ""), other.provenance.get(name, "")
            if mine != theirs:
                raise LutError(f"{other.path}: {name}: {theirs!r} cannot join {self.path}, which has {mine!r}")
        rows = dict(self._rows)
        for spec, theirs_row in other.items():
            row = rows.get(spec)
            if row is None or row.source == "interpolated" or (row != theirs_row and conflict == "replace"):
                rows[spec] = theirs_row
            elif row != theirs_row and theirs_row.source != "interpolated" and conflict == "error":
                raise LutError(
                    f"{other.path}: {describe(spec)}: {theirs_row.us} us here, {row.us} us in {self.path};"
                    " choose one with conflict='keep' or 'replace'"
                )
        return LatencyTable(rows, {**self.provenance, **other.provenance}, self.path)

    def to_frame(self) -> pandas.DataFrame:
        """The rows as pandas reads them from the file."""
        import pandas

        return pandas.read_csv(io.StringIO(self.to_csv()), comment="#", keep_default_na=True)

    # --- files

    def to_csv(self) -> str:
        text = io.StringIO()
        for name, value in self.provenance.items():
            if any(mark in f"{name}{value}" for mark in "\n\r") or ":" in name:
                raise LutError(f"{self.path}: {name}: a line break or a colon cannot stand in a table's header")
            text.write(f"# {name}: {value}\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*spec_cells(spec), *latency_cells(latency)] for spec, latency in self._rows.items())
        return text.getvalue()

    def write(self, path: str | Path | None = None) -> None:
        """Write atomically, to `path` or to where the table was read from."""
        atomic_write(self.path if path is None else path, self.to_csv())

    @staticmethod
    def read(path: str | Path) -> LatencyTable:
        """Raises LutError `path:line: column: ...` for the first row that is not usable."""
        path = Path(path)
        provenance: dict[str, str] = {}
        rows: dict[OpSpec, Latency] = {}
        seen: dict[OpSpec, int] = {}
        for line, values in read_rows(path, provenance):
            where = f"{path}:{line}"
            spec = spec_from(values)
            if spec in seen:
                raise LutError(f"{where}: {describe(spec)}: duplicate of line {seen[spec]}; keep one of them")
            seen[spec] = line
            rows[spec] = latency_from(values, where)
        check_header(provenance, path)
        return LatencyTable(rows, provenance, path)


def read_rows(
    path: Path, provenance: dict[str, str], values_needed: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by column) of a table, its header put into `provenance`. Raises LutError.

    Without `values_needed` the columns of OpSpec suffice: a list of specs.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise LutError(f"{path}: no such table; build it with scripts/build_lut.py or scripts/import_lut.py") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LutError(f"{path}: not readable as text: {error}") from None
    lines = io.StringIO(text).readlines()
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    for line in lines[:start]:
        name, _, value = line[1:].partition(":")
        provenance[name.strip()] = value.strip()
    reader = csv.reader(lines[start:], strict=True)
    try:
        columns = next(reader, [])
        _check_columns(columns, f"{path}:{start + 1}", values_needed)
        for cells in reader:
            where = f"{path}:{start + reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(columns):
                missing = columns[min(len(cells), len(columns) - 1)]
                raise LutError(f"{where}: {missing}: {len(cells)} cells, but the header names {len(columns)} columns")
            yield start + reader.line_num, parse_cells(dict(zip(columns, cells)), where)
    except csv.Error as error:
        raise LutError(f"{path}:{start + reader.line_num}: not CSV: {error}") from None


def _check_columns(columns: list[str], where: str, values_needed: bool) -> None:
    for i, column in enumerate(columns):
        if column not in COLUMNS:
            unit = column.startswith(("latency", "energy", "time", "lat_"))
            right = "energy_uj" if column.startswith("energy") else "latency_us"
            hint = f"the unit is part of the name: {right}" if unit else nearest(column, COLUMNS)
            if unit:
                hint += " (scripts/import_lut.py --unit converts)"
            raise LutError(f"{where}: {column}: unknown column; {hint}")
        if column in columns[:i]:
            raise LutError(f"{where}: {column}: the column occurs twice")
    needed = [*SPEC_COLUMNS, "latency_us"] if values_needed else SPEC_COLUMNS
    for column in needed:
        if column not in columns and column not in OPTIONAL_CELLS:
            raise LutError(f"{where}: {column}: the column is missing")


def distance(spec: OpSpec, other: OpSpec, fields: Iterable[str] = SPEC_COLUMNS) -> tuple[bool, int, float]:
    """For comparison alone: another kind, fields that differ, octaves between channels and sizes."""
    pairs = ((getattr(spec, name), getattr(other, name)) for name in ("c_in", "c_out", "height", "width"))
    octaves = sum(abs(math.log2(a / b)) for a, b in pairs)
    return spec.kind != other.kind, sum(getattr(spec, name) != getattr(other, name) for name in fields), octaves
