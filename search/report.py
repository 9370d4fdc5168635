"""report.html: one run on one page, drawn from the run folder's files alone; opens without a network and without
JavaScript, and prints.

Files read; each may be absent, and then its section says so:
    config.yaml      the settings
    metrics.jsonl    one row per epoch: {phase: train|warmup|search|finetune|.., epoch, loss, metric, cpu_seconds,
                     wall_seconds}; rows of phase `search` also {entropy: {kind: share of the maximum},
                     costs: {metric: expected}, limits: {metric: limit}}
    arch.json        supernet.Arch
    trials.json      {key: {name, metric, predicted: {metric: cost}}}, the finalists (search/trial.py)
    env.json         {command, seed, commit, date, versions: {name: version}, machine: {name: value}}, any of them
    pareto.json      {points: [{name, kind: float|uniform|width|found|quick|.., top1, latency_us, weights_bytes}]}
    validation.json  {source: host|board|.., metric, networks: {float, uniform8, found, ..: network}, budgets, drift,
                     layers}
        network  {latency_us: {predicted, measured, p10, p90, error, cold}, weights_bytes: {predicted, stored},
                  ram_bytes: {predicted, planned}, top1: {float, fake_quant, integer}, macs,
                  ops: [{name, kind, predicted_us, measured_us}]}; top1 is a share in [0, 1], or what another `metric`
                  gives; error a share of measured
        budgets  [{metric, limit, predicted, measured, met, note}]; note: `derived ..` for energy that no row has
        drift    [{name, table_us, now_us, drift}]; drift is a share
        layers   [{name, kind, channels, max_channels, weight_bits, act_bits}] of the found network
Costs are in base units (us, bytes, counts). Any single figure may be absent or null and shows as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from lut.errors import InputError
from lut.files import atomic_write
from lut.spec import how, how_long
from lut.table import LatencyTable

from . import plots, stored, table_plots
from .budget import UNITS, quantity
from .config import RunConfig
from .outcome import TOP1
from .progress import phase_of, read_metrics
from .report_files import FILES, ROWS, TRIALS
from .trial import RESULTS, read_trials

NAMES = {"float": "Float32", "uniform8": "Uniform 8-bit", "found": "Found"}
KINDS = {"float": "float", "uniform8": "uniform", "found": "found"}
DASH = "–"
CURE = "delete it or run its step again"
"""What ends an error about a file of the run."""


def write_report(run_folder: str | Path) -> Path:
    """Write <run_folder>/report.html and return its path. InputError when the folder or a file in it is unusable."""
    folder = Path(run_folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"percent": percent, "score": score, "kib": kib, "time": microseconds}
    environment.filters.update(filters, share=share, seconds=seconds, cost=cost)
    page = environment.get_template("report.html").render(**context(folder))
    path = folder / "report.html"
    atomic_write(path, page)
    return path


def context(folder: Path) -> dict[str, Any]:
    """What the template shows, all of it plain values and SVG strings."""
    validation, env, pareto, arch = (_json(folder / f"{name}.json", check) for name, check in FILES.items())
    journal, tried, config = folder / "metrics.jsonl", folder / RESULTS, folder / "config.yaml"
    rows, trials = read_metrics(journal), read_trials(tried)
    stored.require(rows, ROWS, journal, "delete that row")
    stored.require(trials, TRIALS, tried, CURE)
    networks = validation.get("networks") or {}
    budgets = validation.get("budgets") or []
    limits = {b["metric"]: b["limit"] for b in budgets}
    metric = validation.get("metric", TOP1)
    return {
        "title": folder.resolve().name,
        "config": stored.read_text(config, "save it as such") if config.exists() else None,
        "source": validation.get("source"),
        "how": how(validation.get("source")),
        "how_long": how_long(validation.get("source")),
        "metric": metric,
        "scored": f"{metric}, %" if metric == TOP1 else metric,
        "predicted_only": validation.get("source") in ("imported", "predicted"),
        "priced": _priced(config),
        "networks": [headline(key, network, networks) for key, network in networks.items()],
        "budgets": budgets,
        "drift": validation.get("drift") or [],
        "layers": validation.get("layers") or [],
        "layers_plot": _plot(plots.layers, _layers(validation)),
        "choices": arch.get("choices") or {},
        "pareto_plot": _plot(plots.pareto, _points(networks, pareto), limits, metric),
        "swept": bool(pareto),
        "history_plot": _history(rows),
        "agreement_plot": _agreement(networks, how_long(validation.get("source"))),
        "ops": _ops(networks),
        "phases": phases(rows),
        "trials": sorted(trials.values(), key=lambda trial: -trial["metric"]),
        "table_plot": _table(config),
        "env": env,
    }


def headline(key: str, network: Mapping[str, Any], networks: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the first table; bytes and latency also as a share of the uniform 8-bit network's."""
    base = networks.get("uniform8") or {}
    packed = _at(network, "weights_bytes", "predicted")
    which = "predicted" if _at(network, "latency_us", "measured") is None else "measured"
    latency = _at(network, "latency_us", which)
    return {
        "key": key,
        "name": NAMES.get(key, key),
        "top1": {kind: _at(network, "top1", kind) for kind in ("float", "fake_quant", "integer")},
        "packed": packed,
        "packed_share": _ratio(packed, _at(base, "weights_bytes", "predicted")),
        "ram": _first(_at(network, "ram_bytes", "planned"), _at(network, "ram_bytes", "predicted")),
        "macs": network.get("macs"),
        "latency": {k: _at(network, "latency_us", k) for k in ("predicted", "measured", "p10", "p90", "error", "cold")},
        "latency_share": _ratio(latency, _at(base, "latency_us", which)),
    }


def phases(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """CPU and wall-clock seconds of every phase, and CPU seconds beside those of plain training (phase `train`)."""
    names = list(dict.fromkeys(map(phase_of, rows)))
    sums = []
    for name in names:
        mine = [row for row in rows if phase_of(row) == name]
        cpu, wall = (sum(row.get(f"{clock}_seconds", 0.0) for row in mine) for clock in ("cpu", "wall"))
        sums.append({"name": name, "epochs": len(mine), "cpu": cpu, "wall": wall, "metric": mine[-1].get("metric")})
    plain = next((s["cpu"] for s in sums if s["name"] == "train"), None)
    return [{**s, "ratio": _ratio(s["cpu"], plain)} for s in sums]


def percent(value: float | None, digits: int = 2) -> str:
    """A share as per cent."""
    return DASH if value is None else f"{100 * value:.{digits}f}"


def score(value: float | None, metric: str) -> str:
    """Per cent of top-1, a plain figure of any other metric."""
    return percent(value) if metric == TOP1 or value is None else f"{value:.4g}".replace("-", "−")


def share(value: float | None) -> str:
    """A signed share, as in an error or a drift."""
    return DASH if value is None else f"{100 * value:+.1f} %".replace("-", "−")


def kib(value: float | None) -> str:
    return DASH if value is None else f"{value / 1024:.1f}"


def cost(value: float | None, metric: str) -> str:
    """A cost in base units, with the largest unit that fits."""
    if value is None:
        return DASH
    return quantity(metric, value).replace("us", "µs") if metric in UNITS else f"{value:.4g}"


def microseconds(value: float | None) -> str:
    """Three significant digits, in µs or ms."""
    if value is None:
        return DASH
    if value >= 1e4:
        return f"{value / 1000:.1f}\N{NO-BREAK SPACE}ms"
    return f"{value:.{0 if value >= 100 else 1}f}\N{NO-BREAK SPACE}µs"


def seconds(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def _json(path: Path, check: stored.Check) -> dict[str, Any]:
    """An object from a file; {} when there is none."""
    return stored.read_stored(path, check, CURE) if path.exists() else {}


def _at(tree: Mapping[str, Any], *keys: str) -> Any:
    """tree[a][b].., None where something is absent."""
    value: Any = tree
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _first(*values: Any) -> Any:
    return next((v for v in values if v is not None), None)


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _plot(draw: Any, items: Sequence[Any], *rest: Any) -> str | None:
    return draw(items, *rest) if items else None


def _layers(validation: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = validation.get("layers") or []
    return [{**row, "max_channels": row.get("max_channels", row["channels"])} for row in rows]


def _points(networks: Mapping[str, Any], pareto: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sweep's points and the validated networks, a validated one once."""
    points = []
    for key, network in networks.items():
        top1 = _first(*(_at(network, "top1", kind) for kind in ("integer", "fake_quant", "float")))
        latency = _first(_at(network, "latency_us", "measured"), _at(network, "latency_us", "predicted"))
        size = _at(network, "weights_bytes", "predicted")
        kind = KINDS.get(key, "other")
        points.append(
            {"name": NAMES.get(key, key), "kind": kind, "top1": top1, "latency_us": latency, "weights_bytes": size}
        )
    points += pareto.get("points") or []
    costs = ("latency_us", "weights_bytes")
    return [p for p in points if p.get("top1") is not None and any(p.get(cost) is not None for cost in costs)]


def _history(rows: Sequence[Mapping[str, Any]]) -> str | None:
    searched = [row for row in rows if row.get("phase") == "search"]
    return plots.history(searched) if searched else None


def _ops(networks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Operators of all networks, with the share by which the prediction is off."""
    rows = []
    for key, network in networks.items():
        for op in network.get("ops") or []:
            predicted, measured = op.get("predicted_us"), op.get("measured_us")
            error = (predicted - measured) / measured if predicted is not None and measured else None
            rows.append({**op, "network": NAMES.get(key, key), "error": error})
    return rows


def _priced(config: Path) -> str | None:
    """The input for which costs count, where it is not the data's."""
    try:
        price = RunConfig.read(config).price
    except InputError:
        return None
    sizes = {"pixels": price.image_size, "channels": price.channels, "classes": price.classes}
    return ", ".join(f"{size} {word}" for word, size in sizes.items() if size is not None) or None


def _table(config: Path) -> str | None:
    """Latency by channels of the run's table, where that is still to be found."""
    try:
        settings = RunConfig.read(config)
        rows = LatencyTable.read(settings.table or f"tables/{Path(settings.device).stem}.csv")
    except InputError:
        return None
    return table_plots.channels(dict(rows), rows.provenance.get("device", "")) if rows else None


def _agreement(networks: Mapping[str, Any], how: str) -> str | None:
    ops = [
        {"network": r["network"], "predicted": r.get("predicted_us"), "measured": r.get("measured_us")}
        for r in _ops(networks)
    ]
    whole = [
        {"network": NAMES.get(key, key), **{k: _at(n, "latency_us", k) for k in ("predicted", "measured")}}
        for key, n in networks.items()
    ]
    ops, whole = ([r for r in rows if r["predicted"] and r["measured"]] for rows in (ops, whole))
    return plots.agreement(ops, whole, how) if ops or whole else None
