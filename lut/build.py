"""From the specs of a space to a table on disk: plan, profile (or resume), judge the interpolation, write."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .columns import describe, spec_from
from .device import Device
from .errors import LutError
from .interpolate import error_provenance, held_out_errors
from .keys import keys_of
from .lock import alone
from .machine import this_machine
from .plan import plan
from .profilers.base import Failure, disturbed, spread, unconfirmed
from .profilers.chain import measure_beyond
from .profilers.host import HostProfiler
from .profilers.journal import Journal, journal_path
from .profilers.mcu import McuProfiler
from .profilers.rpc import RpcProfiler
from .schedules import ScheduleDatabase, schedules_path
from .spec import OpSpec, how
from .table import LatencyTable, read_rows

log = logging.getLogger(__name__)

SHARE, QUICK_SHARE = 0.35, 0.15
"""Of a large group's rows, how many are measured."""
MOST_DOUBTFUL = 0.01
"""Of all rows, how many may be too slow before somebody is told."""
WARNINGS = 5
"""Failed rows that are named for each reason; the journal has all of them."""


def read_specs(path: str | Path) -> list[OpSpec]:
    """Specs from a CSV with OpSpec's columns; a table is one. Raises LutError `path:line: column: ...`."""
    return [spec_from(values) for _, values in read_rows(Path(path), {}, values_needed=False)]


@dataclass(frozen=True)
class BuildResult:
    """What a build did: the table, the rows measured in this run, and what failed with its reason."""

    table: LatencyTable
    measured: int
    failures: dict[OpSpec, Failure]


def profiler_of(device: Device) -> HostProfiler | McuProfiler:
    """What measures kernels on a device that has them."""
    if device.core is not None:
        return McuProfiler()
    return RpcProfiler() if device.runner == "rpc" else HostProfiler()


def build_table(
    device: Device | str,
    specs: Iterable[OpSpec],
    path: str | Path,
    *,
    quick: bool = False,
    force: bool = False,
    progress: bool = True,
    every_row: bool = False,
    schedules: int = 1,
    tune: int = 0,
    profiler: HostProfiler | McuProfiler | None = None,
) -> LatencyTable:
    """The table at `path`, able to answer for `specs`: only rows that it lacks are measured.

    quick: measure fewer rows and interpolate more. every_row: interpolate nothing. schedules: how many of a kernel's
    are tried; the row's is the fastest. tune: trials of MetaSchedule per row; what is faster is kept in the database of
    schedules beside the table. force: start over, whatever machine made the table that is there. Raises
    LutError when that table belongs to another machine (with the command that rebuilds it), or when no row at all could
    be measured. An interrupted build resumes from its journal; another process's is waited for. The header of a table
    of this computer says what an operator costs in a network beyond its row (lut/profilers/chain.py), measured once
    there are rows for it.
    """
    return run_build(
        device,
        specs,
        path,
        quick=quick,
        force=force,
        progress=progress,
        every_row=every_row,
        schedules=schedules,
        tune=tune,
        profiler=profiler,
    ).table


@dataclass(frozen=True)
class Work:
    """The rows to measure, beside those of the table as it is; what no kernel exists for."""

    old: LatencyTable
    todo: list[OpSpec]
    failures: dict[OpSpec, Failure]

    @property
    def done(self) -> bool:
        return not self.todo and bool(self.old.provenance)


def run_build(
    device: Device | str,
    specs: Iterable[OpSpec],
    path: str | Path,
    *,
    quick: bool = False,
    force: bool = False,
    progress: bool = True,
    every_row: bool = False,
    schedules: int = 1,
    tune: int = 0,
    profiler: HostProfiler | McuProfiler | None = None,
) -> BuildResult:
    """`build_table` with an account of what was measured and what failed."""
    device = Device.load(device) if isinstance(device, str) else device
    if not device.has_kernels:
        raise LutError(f"device {device.name}: runner: {device.runner} is not measured on this computer")
    path, machine, asked = Path(path), this_machine(device), list(specs)
    share = 1.0 if every_row else QUICK_SHARE if quick else SHARE
    work = _work(device, asked, path, machine, force, share)
    if not work.done:
        with alone(path.with_name(f".{path.stem}.lock"), f"{path}: waiting for another process, which measures it"):
            work = _work(device, asked, path, machine, force, share)  # what that one has measured is there now
            if not work.done:
                worker = replace(profiler or profiler_of(device), progress=progress, schedules=schedules, tune=tune)
                return _measure(device, work, path, machine, force, worker, constants=profiler is None)
    if schedules > 1 or tune:
        log.warning("%s: every row is there, none is searched again; --force measures them anew", path)
    return BuildResult(work.old, 0, work.failures)


def _work(device: Device, specs: list[OpSpec], path: Path, machine: dict[str, str], force: bool, share: float) -> Work:
    old = LatencyTable({}, {}, path)
    if path.exists() and not force:
        old = LatencyTable.read(path)
        old.check(machine)
    rules = keys_of(device, machine["isa"])
    keys = list(dict.fromkeys(rules.key(spec.without_site()) for spec in specs))
    failures = {key: Failure("unsupported", reason) for key in keys if (reason := rules.supported(key)) is not None}
    wanted = plan((key for key in keys if key not in failures), rules.lanes, share, word=rules.word).measure
    return Work(old, [key for key in wanted if key not in old], failures)


def _measure(
    device: Device,
    work: Work,
    path: Path,
    machine: dict[str, str],
    force: bool,
    worker: HostProfiler | McuProfiler,
    constants: bool,
) -> BuildResult:
    """The table with the rows to measure, on disk; on this computer with the constants of calibration."""
    rules, rows, failures = keys_of(device, machine["isa"]), dict(work.old), dict(work.failures)
    with Journal.open(journal_path(path), machine, fresh=force) as journal:
        worker = replace(worker, journal=journal)
        if not isinstance(worker, McuProfiler):
            worker = replace(worker, database=ScheduleDatabase(schedules_path(path), device.name))
        for key, failure in failures.items():
            journal.add_failure(key, failure)
        for key, answer in worker.measure(work.todo, device):
            if isinstance(answer, Failure):
                failures[key] = answer
                if sum(other.reason == answer.reason for other in failures.values()) <= WARNINGS:
                    log.warning("%s: not measured: %s", describe(key), answer)
            else:
                rows[key] = answer
        timed = [samples for key in rows if len(samples := journal.samples.get(key, [])) > 1]
        if not rows:
            first = next(iter(failures.items()), None)
            raise LutError(f"{path}: no row was measured" + (f"; {describe(first[0])}: {first[1]}" if first else ""))
        known = {name: text for name, text in work.old.provenance.items() if name.startswith("calibration_")}
        if not known and constants and device.runner == "host" and device.core is None:
            found = measure_beyond(rows, device, worker.progress)
            known = {f"calibration_{name}": f"{us:.5f}" for name, us in found.items()}
        provenance = {
            **known,
            **machine,
            "collapse": "act_bits" if device.act_storage == "byte" else "packed",
            "interpolation": "kriging",
            "lanes": str(rules.lanes),
            **({"word": str(rules.word)} if rules.word else {}),
            **error_provenance(held_out_errors(rows, rules.lanes, rules.word)),
        }
        if timed:
            median, p90 = np.quantile(list(map(spread, timed)), [0.5, 0.9])
            provenance["spread"] = f"median {median:.4f}, p90 {p90:.4f} over processes"
        if timed and not isinstance(worker, McuProfiler):
            share = disturbed(timed)
            provenance["disturbed"] = f"{share:.3f}"
            if (doubtful := sum(unconfirmed(share, len(samples)) for samples in timed)) > MOST_DOUBTFUL * len(timed):
                log.warning(
                    "%s: %.0f%% of the timings were disturbed by other work on this machine, so about %.0f of %d rows "
                    "may be too slow; quieten it and build again with --force",
                    *(path, 100 * share, doubtful, len(timed)),
                )
        table = LatencyTable(rows, provenance, path)
        table.write()
        journal.add_written(path)
    if worker.progress:
        print(account(table), file=sys.stderr)
        if worker.tune and not isinstance(worker, McuProfiler) and worker.database is not None:
            print(worker.database.account(work.todo), file=sys.stderr)
    return BuildResult(table, sum(key in rows for key in work.todo), failures)


def account(table: LatencyTable) -> str:
    """One line about a table: rows, spread and the interpolation's held-out error."""
    line = f"{table.path}: {len(table)} rows {how(table.source)}"
    if "held_out_error" in table.provenance:
        median, p90 = (float(table.provenance[k]) for k in ("held_out_error", "held_out_error_p90"))
        line += (
            f"; interpolation, held out: median {median:.1%}, p90 {p90:.1%} (n = {table.provenance['held_out_rows']})"
        )
    if float(table.provenance.get("disturbed", 0)) > 0.1:
        line += f"; {float(table.provenance['disturbed']):.0%} of the timings disturbed by other work, and repeated"
    return line
