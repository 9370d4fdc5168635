"""What a finished run prints: layers, accuracy, size, latency, and what the training cost."""

from __future__ import annotations

import resource
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lut.spec import MEASURED, SIMULATED, how, how_long

from .budget import Budget, quantity
from .progress import phase_of, read_metrics

TOP1 = "top-1"
"""The one metric that is a share, and printed in per cent; others have the name of what a person gave."""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in rows
    )


def score(value: float | None, metric: str = TOP1) -> str:
    """Per cent of top-1, a plain figure of any other metric."""
    return "-" if value is None else f"{100 * value:.2f}" if metric == TOP1 else f"{value:.4g}"


def figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def networks(validation: Mapping[str, Any]) -> str:
    """The headline: float, uniform 8-bit, found."""
    seen = f"{how_long(validation['source'])} us"
    metric = validation.get("metric", TOP1)
    unit = " %" if metric == TOP1 else ""
    heads = [f"{kind}{unit}" for kind in ("float", "fake-quant", "integer")]
    rows = [("network", *heads, "KiB packed", "predicted us", seen, "error %")]
    for name, label in (("float", "float32"), ("uniform8", "uniform 8-bit"), ("found", "found")):
        if name not in validation["networks"]:
            continue
        network = validation["networks"][name]
        top1, latency = network["top1"], network["latency_us"]
        rows.append(
            (
                label,
                score(top1.get("float"), metric),
                score(top1.get("fake_quant"), metric),
                score(top1.get("integer") if name != "float" else None, metric),
                f"{network['weights_bytes']['predicted'] / 1024:.1f}",
                figure(latency.get("predicted"), ".1f"),
                figure(latency.get("measured"), ".1f"),
                figure(latency.get("error"), "+.1%").rstrip("%"),
            )
        )
    return table(rows) + ("" if metric == TOP1 else f"\nscored by {metric}")


def layers(validation: Mapping[str, Any]) -> str:
    rows = [("layer", "channels", "weight bits", "act bits")]
    for layer in validation["layers"]:
        act = "-" if layer["act_bits"] is None else str(layer["act_bits"])
        rows.append((layer["name"], f"{layer['channels']}/{layer['max_channels']}", str(layer["weight_bits"]), act))
    return table(rows)


def cpu_seconds(folder: Path) -> dict[str, tuple[float, int]]:
    """CPU seconds and epochs by phase, from metrics.jsonl."""
    seconds: dict[str, float] = defaultdict(float)
    epochs: dict[str, int] = defaultdict(int)
    for row in read_metrics(folder / "metrics.jsonl"):
        seconds[phase_of(row)] += row.get("cpu_seconds", 0.0)
        epochs[phase_of(row)] += 1
    return {phase: (seconds[phase], epochs[phase]) for phase in seconds}


def effort(folder: Path) -> str:
    """CPU time per phase beside plain float training."""
    spent = cpu_seconds(folder)
    plain = spent.get("train")
    rows = [("phase", "epochs", "CPU s", "s / epoch", "x plain epoch")]
    for phase, (seconds, epochs) in spent.items():
        ratio = f"{seconds / epochs / (plain[0] / plain[1]):.2f}" if plain and epochs else "-"
        rows.append((phase, str(epochs), f"{seconds:.1f}", f"{seconds / epochs:.2f}", ratio))
    return table(rows)


TIMED = ("latency", "energy")
"""Metrics that follow from a time; the others are counted."""


def budgets(validation: Mapping[str, Any]) -> str:
    lines = []
    for row in validation["budgets"]:
        limit = Budget(row["metric"], row["limit"], row["unit"]).describe()
        seen, value = (how_long if row["metric"] in TIMED else how)(validation["source"]), row["measured"]
        measured = "" if value is None else f", {seen} {quantity(row['metric'], value)}"
        note = f" ({row['note']})" if row.get("note") else ""
        verdict = "met" if row["met"] else "NOT MET"
        lines.append(f"{limit}: predicted {quantity(row['metric'], row['predicted'])}{measured}{note}: {verdict}")
    return "\n".join(lines)


def memory() -> str:
    """Largest resident memory of this process and of its workers so far."""
    mib = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return f"peak memory: {mib[0]:.0f} MiB, a worker's {mib[1]:.0f} MiB"


def summary(folder: Path, validation: Mapping[str, Any]) -> str:
    """The whole text."""
    parts = [layers(validation), networks(validation), budgets(validation), provenance(validation), effort(folder)]
    parts.append(memory())
    return "\n\n".join([*parts, f"report: {folder / 'report.html'}"])


def provenance(validation: Mapping[str, Any]) -> str:
    """Where the latencies come from, and how far the device has moved from its table."""
    drift = sorted(row["drift"] for row in validation["drift"])
    if not drift and validation["source"] == "instructions":
        return "latency: one cycle per instruction, uncalibrated: no cycle model of this core was checked"
    if not drift and validation["source"] in SIMULATED:
        return f"latency: simulated, not measured on hardware (source: {validation['source']})"
    if not drift and validation["source"] in MEASURED:
        return f"latency: measured (source: {validation['source']})"
    if not drift:
        return f"latency: by the table, not measured (source: {validation['source']})"
    median = drift[len(drift) // 2]
    return f"sentinel rows: {median:+.1%} against the table" + (" (above 3 %)" if abs(median) > 0.03 else "")
