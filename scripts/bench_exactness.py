"""Exactness of extraction and of the expected cost: every reference network under every relaxation, in float64.

    python -m scripts.bench_exactness [--networks resnet8 lenet5] [--archs 3] [--json]

The logits of a random architecture are set far apart, so that each relaxation's own sample, with the branches that it
lets run, is that architecture. Printed is the largest over the architectures of
    network   max |supernet(x, gates) - subnet(x)| / max |subnet(x)|        in eval mode; the design asks for 1e-9
    cost      max over the metrics |E[cost](gates) / cost of the subnet's own schedule - 1|
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from cost_models.base import CostModel, discrete_cost
from cost_models.counts import COUNTS
from cost_models.expected import expected
from cost_models.memory import PeakRam
from scripts.bench_solve import Staircase
from search.relax import RELAXATIONS
from supernet import SearchSpace, Subnet, Supernet, extract
from supernet.networks import NETWORKS

APART = 1e4
"""Between the logit of the chosen option and the others: no noise or temperature turns the choice."""
SPACE = SearchSpace((2, 4, 8), (2, 4, 8), (0.25, 0.5, 0.75, 1.0))
INPUTS = {"lenet5": (1, 28, 28), "ds_cnn": (1, 49, 10)}
LIMIT = 1e-9


@dataclass(frozen=True)
class Exactness:
    """Largest relative differences of one network under one relaxation."""

    network: str
    relaxation: str
    output: float
    cost: float


def randomise(model: nn.Module) -> nn.Module:
    """Batch norms away from their defaults, some gammas negative, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.7, 0.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return model.eval()


def supernet(name: str) -> tuple[Supernet, Tensor]:
    """A float64 supernet and a batch of two inputs."""
    torch.manual_seed(0)
    channels, height, width = INPUTS.get(name, (3, 32, 32))
    x = torch.randn(2, channels, height, width)
    model = NETWORKS[name](num_classes=10, in_channels=channels, image_size=(height, width))
    return Supernet.from_model(randomise(model), x, SPACE).double().eval(), x.double()


def choose_at_random(net: Supernet, draw: random.Random) -> dict[str, int]:
    """A random architecture, to which the logits are set."""
    values = {choice.name: draw.choice(choice.options) for choice in net.choices()}
    with torch.no_grad():
        net.alpha.zero_()
        for choice in net.choices():
            net.alpha[choice.index, choice.position(values[choice.name])] = APART
    return values


@torch.no_grad()
def random_subnet(net: Supernet, x: Tensor, draw: random.Random) -> tuple[Subnet, Tensor]:
    """An extracted architecture and its scores; one whose scores ignore the input would be no check: drawn again."""
    while True:
        subnet = extract(net, choose_at_random(net, draw))
        scores = subnet(x)
        if (scores[0] - scores[1]).abs().max() > 1e-3 * scores.abs().max():
            return subnet, scores


def exactness(name: str, archs: int) -> Iterator[Exactness]:
    """One row per relaxation."""
    net, x = supernet(name)
    costs: dict[str, CostModel | PeakRam] = {**COUNTS, "latency": Staircase(), "ram": PeakRam(net.schedule(), "packed")}
    expectations = {metric: expected(cost, net.schedule(), net.choices()) for metric, cost in costs.items()}
    for relaxation, make in RELAXATIONS.items():
        draw, generator = random.Random(relaxation), torch.Generator().manual_seed(0)
        outputs, errors = [], []
        for _ in range(archs):
            subnet, scores = random_subnet(net, x, draw)
            gates = net.sample(make(), generator)
            with torch.no_grad():
                outputs.append(((net(x, gates) - scores).abs().max() / scores.abs().max()).item())
                schedule = subnet.schedule()
                for metric, cost in costs.items():
                    if isinstance(cost, PeakRam):
                        exact = PeakRam(schedule, cost.storage).bound({})
                    else:
                        exact = discrete_cost(schedule.ops, cost, {})
                    errors.append(abs(expectations[metric](gates).item() / exact - 1))
        yield Exactness(name, relaxation, max(outputs), max(errors))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--archs", type=int, default=3, help="random architectures per relaxation (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(arguments)
    rows = []
    if not args.json:
        print(f"{'network':<14}{'relaxation':<12}{'network diff':>14}{'cost diff':>12}")
    for name in args.networks:
        for row in exactness(name, args.archs):
            rows.append(row)
            if not args.json:
                print(f"{row.network:<14}{row.relaxation:<12}{row.output:>14.1e}{row.cost:>12.1e}", flush=True)
    exact = sum(max(row.output, row.cost) <= LIMIT for row in rows)
    if args.json:
        print(json.dumps({"limit": LIMIT, "exact": exact, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(f"{exact} of {len(rows)} within {LIMIT:.0e}, {args.archs} architectures each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
