"""Hard budgets: searches under random budgets, and whether what comes out is inside every one of them.

    python -m scripts.bench_budgets [--runs 24] [--epochs 0] [--model resnet8] [--table tables/host-cpu.csv] [--json]
    python -m scripts.bench_budgets --runs 20 --config scripts/configs/apq-bitfusion.yaml --metrics latency,energy

Each run has a seed, one or two metrics, and limits drawn from 10 % of the reachable range below its smallest end to
60 % above it; with --config, from the smallest end on. Without epochs the logits are random, which asks more of the
solver than a search that knows the budgets. The costs that are held against the limits are counted anew from the
operators of the extracted network. A refusal (exit 3) counts when the smallest reachable cost that it names is above
the limit.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cost_models.counts import COUNTS
from cost_models.memory import PeakRam
from cost_models.table import TABLED, TIMES
from lut.calibrate import Calibration
from lut.table import LatencyTable
from search import search
from search.budget import UNITS, Budget, BudgetError, quantity
from search.config import RunConfig, SearchConfig
from search.costs import network_costs
from search.coverage import require_rows, space_specs
from search.data import load
from search.dataset import DataSource
from search.run import Run
from search.solve import reachable
from supernet import SearchSpace, Subnet, Supernet, extract
from supernet.networks import NETWORKS, build

COUNTED = ("weights", "macs", "bitops", "params")
SPREAD = 1.0  # standard deviation of random logits


@dataclass(frozen=True)
class Outcome:
    """One run. limits, costs (of the extracted network, or the smallest reachable when refused) in base units."""

    seed: int
    limits: Mapping[str, float]
    costs: Mapping[str, float]
    verdict: str  # inside | refused | broken | refused wrongly


def own_costs(subnet: Subnet, metrics: Sequence[str], table: LatencyTable | None) -> dict[str, float]:
    """Costs of an extracted network, from its own operators."""
    schedule = subnet.schedule()
    specs = [op.spec({}) for op in schedule.ops]
    found: dict[str, float] = {}
    for metric in metrics:
        if metric in COUNTED:
            found[metric] = sum(COUNTS[metric](spec) for spec in specs if spec)
        elif metric == "ram":
            found[metric] = PeakRam(subnet.schedule()).planned({})
        elif table is not None:
            calibration = Calibration.of(table) if metric in TIMES else Calibration()
            rows = [table.lookup(spec) for op in schedule.priced(table.kinds) if (spec := op.spec({}))]
            total = sum(getattr(row, TABLED[metric]) for row in rows)
            found[metric] = calibration.predict(total, len(rows))
    return found


def draw_budgets(
    ends: Mapping[str, tuple[float, float]], metrics: Sequence[str], draw: np.random.Generator, least: float = -0.1
) -> list[Budget]:
    """Limits from `least` of the range above its smallest end to 60 % above."""
    budgets = []
    for metric in metrics:
        low, high = ends[metric]
        share = draw.uniform(least, 0.6)
        budgets.append(Budget(metric, max(low + share * (high - low), 0.5 * low), next(iter(UNITS[metric]))))
    return budgets


def run(
    net: Supernet, data: DataSource, budgets: Sequence[Budget], table: LatencyTable | None, config: SearchConfig
) -> Outcome:
    """One search on a copy of the network."""
    net, metrics = copy.deepcopy(net), [budget.metric for budget in budgets]
    limits = {budget.metric: budget.limit for budget in budgets}
    torch.manual_seed(config.seed)
    if not config.epochs:
        torch.nn.init.normal_(net.alpha, 0, SPREAD)
    try:
        found = search(net, data, table, budgets, config)
    except BudgetError as error:
        right = any(error.smallest.get(metric, 0) > limits[metric] for metric in metrics)
        return Outcome(config.seed, limits, error.smallest, "refused" if right else "refused wrongly")
    costs = own_costs(extract(net, found.arch), metrics, table)
    inside = all(budget.fits(costs[budget.metric]) for budget in budgets)
    return Outcome(config.seed, limits, costs, "inside" if inside else "broken")


def latency_table(path: str, net: Supernet) -> LatencyTable | None:
    """The table at `path` when there is one that can answer for the space."""
    if not Path(path).exists():
        print(f"{path}: no such table; latency is left out", file=sys.stderr)
        return None
    table = LatencyTable.read(path)
    if missing := table.missing(space_specs(net)):
        print(f"{path}: {len(missing)} rows of this space are missing; latency is left out", file=sys.stderr)
        return None
    return table


Setting = tuple[Supernet, DataSource, LatencyTable | None, list[tuple[str, ...]]]
"""A supernet, data to score candidates on, the table, and the metrics of the budgets that take turns."""


def registered(args: argparse.Namespace) -> Setting:
    """A network of the registry on the host's table: every metric and every pair of them."""
    data = load(args.dataset)
    torch.manual_seed(0)
    model = build(args.model, data.num_classes, data.channels, data.image_size)
    example, _ = next(iter(data.batches("train", 64)))
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    net = Supernet.from_model(model, example, SearchSpace(act_bits=(2, 4, 8)), mean, std)
    table = latency_table(args.table, net)
    metrics = (*(("latency", "latency.p90") if table else ()), "weights", "ram", "macs", "bitops")
    return net, data, table, [*((metric,) for metric in metrics), *itertools.combinations(metrics, 2)]


def configured(args: argparse.Namespace) -> Setting:
    """The network of a run's settings, by its imported table."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Run(RunConfig.read(args.config), Path(folder))
        model = settings.sources.model
        net = settings.supernet(model, settings.space())
        table = LatencyTable.read(settings.table_path())
    require_rows(net, table)
    return net, settings.sources.data, table, [tuple((args.metrics or "latency").split(","))]


def line(outcome: Outcome) -> str:
    pairs = [
        f"{metric} {quantity(metric, outcome.costs[metric])} of {quantity(metric, limit)}"
        for metric, limit in outcome.limits.items()
    ]
    return f"{outcome.seed:>4}  {outcome.verdict:<16}" + ", ".join(pairs)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=0, help="of the search; 0: random logits")
    parser.add_argument("--model", choices=sorted(NETWORKS), default="resnet8")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--table", default="tables/host-cpu.csv", help="latency budgets need it (%(default)s)")
    parser.add_argument("--config", help="network, space, table and data of a run's settings instead")
    parser.add_argument("--metrics", help="with --config: the metrics of every run's budgets, joined by commas")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(arguments)
    net, data, table, kinds = configured(args) if args.config else registered(args)
    metrics = list(dict.fromkeys(metric for kind in kinds for metric in kind))
    ends = reachable(net.choices(), net.schedule(), network_costs(net, metrics, table))
    least = 0.0 if args.config else -0.1
    outcomes = []
    for seed in range(args.runs):
        budgets = draw_budgets(ends, kinds[seed % len(kinds)], np.random.default_rng(seed), least)
        config = SearchConfig(epochs=args.epochs, warmup_epochs=min(args.epochs, 1), seed=seed)
        outcomes.append(run(net, data, budgets, table, config))
        print(line(outcomes[-1]), file=sys.stderr if args.json else sys.stdout, flush=True)
    count = {verdict: sum(o.verdict == verdict for o in outcomes) for verdict in ("inside", "refused")}
    good = sum(count.values())
    if args.json:
        print(json.dumps({**count, "runs": [asdict(o) for o in outcomes]}, indent=1))
    else:
        print(f"{good} of {len(outcomes)}: {count['inside']} inside every budget, {count['refused']} refused with the "
              "smallest reachable cost")  # fmt: skip
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
