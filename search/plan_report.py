"""What a run would do, known before anything is trained: the space, what the device cuts from it, the rows to measure,
and how small and how large every cost can get.

    reach(metric) = min and max over the whole space of the exact cost, each solved alone (search.solve.reachable)

Latency is part of it once a table answers for the space.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cost_models.table import TABLED
from lut.build import SHARE
from lut.columns import describe
from lut.errors import LutError
from lut.keys import keys_of
from lut.machine import this_machine
from lut.plan import Plan, plan
from lut.table import LatencyTable
from supernet.supernet import Supernet

from .budget import UNITS, Budget, BudgetError, at_least, quantity
from .costs import REPORTED, Costs, network_costs, resolve
from .coverage import lacking, priced_specs, require_rows, space_specs, too_large, within
from .pareto import parse_point
from .run import Run
from .solve import reachable, solve

NEED_TABLE = frozenset({*TABLED, "flash"})
"""Metrics that nothing is known of before there is a table: a microcontroller's flash holds the kernels' code too."""


def make_plan(run: Run) -> dict[str, Any]:
    """The plan as plain values: {layers, architectures, cuts, rows, reach, budgets, problem, notes}.

    rows: {space, measure, minutes, table, problem}; reach: {metric: {smallest, largest, unit, note}} in base units;
    budgets: of all points where the run is a sweep; problem: why those of the run, or of a point, can't be met, or
    None. Neither trains nor measures nor writes.
    """
    net = run.supernet(run.sources.model.eval(), run.space())
    rows, table = _rows(run, net)
    notes = []
    points = [parse_point(text) for text in run.config.sweep] or [run.budgets()]
    if table is None:
        waits = [b.metric for budgets in points for b in budgets if b.metric in NEED_TABLE]
        notes.append(f"{', '.join(dict.fromkeys(['latency', *waits]))}: left out, {rows['problem']}")
        points = [[b for b in budgets if b.metric not in NEED_TABLE] for budgets in points]
    metrics = [b.metric for budgets in points for b in budgets]
    metrics += [*REPORTED, *(["latency"] if table is not None else [])]
    costs = network_costs(net, metrics, table, run.device)
    reach, late = _reach(net, costs)
    limits = [resolve(net, costs, budgets) for budgets in points]
    every = dict.fromkeys(budget for budgets in limits for budget in budgets)
    problems = dict.fromkeys(problem for budgets in limits if (problem := _problem(net, costs, budgets)))
    return {
        "model": run.config.model.name,
        "device": run.device.name,
        "layers": net.summary(run.device, table),
        "architectures": f"1e{sum(math.log10(len(c.options)) for c in net.choices()):.0f}",
        "cuts": cuts(run, net),
        "rows": rows,
        "reach": reach,
        "budgets": [{"metric": b.metric, "limit": b.limit, "unit": b.unit} for b in every],
        "problem": "; ".join(problems) or None,
        "notes": notes + late,
    }


def cuts(run: Run, net: Supernet) -> list[str]:
    """What the device takes away from the settings' space and what it lacks, one line each."""
    lines = list(within(run.asked_space(), run.device)[1])
    lines += [f"{node.name}: {node.kind} is not among the device's kinds" for node in lacking(net, run.device)]
    largest = run.device.supports.max_kernel
    lines += [f"{n.name}: its kernel of {n.kernel} exceeds the device's {largest}" for n in too_large(net, run.device)]
    return lines


def text(plan_: dict[str, Any]) -> str:
    """A plan for a person."""
    rows = plan_["rows"]
    measure = "" if rows["measure"] is None else f", {rows['measure']} to measure: about {rows['minutes']:.1f} minutes"
    lines = [
        plan_["layers"],
        "",
        f"{plan_['model']} on {plan_['device']}: {plan_['architectures']} architectures",
        *(f"cut: {line}" for line in plan_["cuts"] or ["nothing, the device supports the whole space"]),
        f"table {rows['table']}: {rows['space']} distinct operators{measure}",
    ]
    for metric, ends in plan_["reach"].items():
        note = f" ({ends['note']})" if ends["note"] else ""
        lines.append(f"{metric}{note}: {at_least(metric, ends['smallest'])} to {quantity(metric, ends['largest'])}")
    for row in plan_["budgets"]:
        lines.append(f"budget: {Budget(**row).describe()}")
    return "\n".join(lines + plan_["notes"])


def _rows(run: Run, net: Supernet) -> tuple[dict[str, Any], LatencyTable | None]:
    """What is to be measured, and the table when it answers for the whole space already."""
    path = run.table_path()
    specs = space_specs(net)
    rows: dict[str, Any] = {"table": str(path), "space": len(specs), "measure": None, "minutes": None, "problem": None}
    table, problem = _table(run)
    if run.device.has_kernels:
        baseline = [spec for op in run.float_subnet(run.sources.model).schedule().ops if (spec := op.spec({}))]
        isa = this_machine(run.device)["isa"]
        rules = keys_of(run.device, isa)
        distinct = dict.fromkeys(rules.key(spec) for spec in [*specs, *baseline])
        keys = [key for key in distinct if rules.supported(key) is None]
        todo = tuple(
            key for key in plan(keys, rules.lanes, SHARE, word=rules.word).measure if table is None or key not in table
        )
        rows |= {"space": len(keys), "measure": len(todo), "minutes": Plan(todo, ()).minutes()}
    if table is not None and run.device.runner == "imported":
        rows["space"] = len(set(priced_specs(net, table)))
        try:
            require_rows(net, table)
        except LutError as error:
            problem = str(error)
    elif table is not None and (missing := table.missing(specs)):
        problem = f"{path} has no row for {len(missing)} operators, such as {describe(missing[0])}"
    rows["problem"] = problem
    return rows, None if problem else table


def _table(run: Run) -> tuple[LatencyTable | None, str | None]:
    """The table on disk if its rows hold here, else why not. A damaged one raises LutError."""
    path = run.table_path()
    if not path.exists():
        return None, f"{path} does not exist yet"
    table = LatencyTable.read(path)
    if run.device.has_kernels:
        try:
            table.check(this_machine(run.device))
        except LutError as error:
            return None, str(error)
    return table, None


def _reach(net: Supernet, costs: Costs) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Both ends by metric; a metric that took the solver too long is named instead."""
    reach: dict[str, dict[str, Any]] = {}
    late = []
    for metric, cost in costs.items():
        try:
            ((smallest, largest),) = reachable(net.choices(), net.schedule(), {metric: cost}).values()
        except TimeoutError as error:
            late.append(f"{metric}: {error}")
        else:
            unit, note = next(iter(UNITS[metric])), getattr(cost, "note", "")
            reach[metric] = {"smallest": smallest, "largest": largest, "unit": unit, "note": note}
    return reach, late


def _problem(net: Supernet, costs: Costs, limits: list[Budget]) -> str | None:
    try:
        solve(net.choices(), net.schedule(), np.zeros(net.alpha.shape), costs, limits, n=1)
    except BudgetError as error:
        return str(error)
    return None
