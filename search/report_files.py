"""What report.py needs of the JSON files that it draws; their layout is in its docstring."""

from __future__ import annotations

from typing import Any

from .stored import anything, each, fields, figure, maybe, number, text, values


def _command(value: Any, at: str) -> None:
    """Text, or its words."""
    (each(text) if isinstance(value, list) else text)(value, at)


NETWORK = fields(
    latency_us=maybe(
        fields(predicted=figure, measured=figure, p10=figure, p90=figure, error=figure, cold=figure),
    ),
    weights_bytes=maybe(fields(predicted=figure)),
    ram_bytes=maybe(fields(predicted=figure, planned=figure)),
    top1=maybe(fields(float=figure, fake_quant=figure, integer=figure)),
    macs=figure,
    ops=maybe(each(fields(("name", "kind"), predicted_us=figure, measured_us=figure))),
)
VALIDATION = fields(
    source=maybe(text),
    metric=text,
    networks=maybe(values(NETWORK)),
    budgets=maybe(each(fields(("metric", "limit"), metric=text, limit=number, predicted=figure, measured=figure))),
    drift=maybe(each(fields(("name",), table_us=figure, now_us=figure, drift=figure))),
    layers=maybe(
        each(
            fields(
                ("name", "channels"),
                name=text,
                channels=number,
                max_channels=number,
                weight_bits=figure,
                act_bits=figure,
            )
        )
    ),
)
POINTS = each(fields(("name", "kind"), name=text, kind=text, top1=figure, latency_us=figure, weights_bytes=figure))
FILES = {
    "validation": VALIDATION,
    "env": fields(command=maybe(_command)),
    "pareto": fields(points=maybe(POINTS)),
    "arch": fields(choices=maybe(values(anything))),
}
"""By name, without .json."""
ROWS = each(
    fields(
        ("epoch",),
        epoch=number,
        metric=figure,
        cpu_seconds=number,
        wall_seconds=number,
        entropy=values(figure),
        costs=values(number),
        limits=values(number),
    )
)
"""Of metrics.jsonl."""
TRIALS = values(fields(("predicted",), predicted=values(figure)))
