"""Post-training assignment: each option's harm is measured alone, and the solver spends the budgets where it is least.

    Omega_c(o) = L(base, but c <- o) - L(base),    c a choice, o one of its options
    minimise  sum_c Omega_c(o_c)   subject to every cost <= its limit

The base is the network of the highest bits, full widths and default operators, the first of each; for a choice inside
another operator, the same with that one.

The program is HAWQ-V3's (Yao et al. 2021, arXiv:2011.10680), whose Omega is the second-order estimate
Tr(H_c) / n_c |Q_o(w) - w|^2 of this increase; measuring one layer at a time is ZeroQ's (Cai et al. 2020,
arXiv:2001.00281), with the divergence of the outputs in place of the loss. Widths are measured in the same way, on
channels in their order of importance, and stay full where bits alone meet the budgets. L is the loss on a part of the
validation split, after the batch-norm statistics were estimated anew, as they are for every extracted network.
No weight is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lut.table import LatencyTable
from supernet.choice import Choice, one_hot_gates
from supernet.schedule import Schedule
from supernet.supernet import Supernet

from .budget import Budget
from .choose import Candidate, choose
from .costs import Costs, network_costs, resolve
from .evaluate import Metric, on_device, reestimate_batchnorm, require_batches, require_own, top1
from .progress import Metrics, Progress, Stopwatch
from .solve import solve
from .train import Loss, smoothed_cross_entropy
from .user_code import as_data

IMAGES = 512
"""Of the validation split, on which losses are compared; half as many of the training split set batch norm."""
BATCH = 256


def quick(
    net: Supernet,
    loaders: Any,
    table: LatencyTable | None = None,
    budgets: Sequence[Budget] = (),
    *,
    loss: Loss | None = None,
    metric: Metric = top1,
    images: int = IMAGES,
    seed: int = 0,
) -> list[Candidate]:
    """Architectures inside `budgets`, best on validation first; `net` comes from a trained model and is not trained.

    loaders: a data source, or train, validation and test iterables of (x, y). table: needed for a latency budget.
    Raises BudgetError naming the smallest reachable cost when nothing fits.
    """
    require_own(net, loss, metric)
    data = as_data(loaders, classes=loss is None)
    costs = network_costs(net, [budget.metric for budget in budgets], table)
    limits = resolve(net, costs, budgets)
    solve(net.choices(), net.schedule(), np.zeros(net.alpha.shape), costs, limits, n=1)  # refuse before measuring
    scores = quick_scores(net, data, costs, limits, loss=loss, images=images, seed=seed)
    return choose(net, scores, costs, limits, data, metric=metric, seed=seed)


def quick_scores(
    net: Supernet,
    data: Any,
    costs: Costs,
    limits: Sequence[Budget],
    *,
    loss: Loss | None = None,
    images: int = IMAGES,
    seed: int = 0,
    metrics: Metrics | None = None,
) -> np.ndarray:
    """(choices, options): -Omega, with widths closed where bits suffice; what `solve` maximises. They become net's
    alphas, so that its argmax is the base's option of every harmed choice. Raises BudgetError when nothing fits."""
    choices, schedule = net.choices(), net.schedule()
    watch, metrics = Stopwatch(), metrics or Metrics()
    omega = sensitivity(net, data, loss=loss, images=images, seed=seed)
    scores = full_width_first(choices, schedule, -omega, costs, limits)
    with torch.no_grad():
        net.alpha.copy_(torch.from_numpy(scores))
    metrics.rewind(("sensitivity",), 0)
    metrics.append({"phase": "sensitivity", "epoch": 0, **watch.lap()})
    return scores


def sensitivity(
    net: Supernet, data: Any, *, loss: Loss | None = None, images: int = IMAGES, seed: int = 0
) -> np.ndarray:
    """Omega, (choices, options) float64: increase of the loss, 0 at the option that the base has and on the padding.

    A loss that is not finite counts as the largest increase of all. `net` is left as it was.
    """
    loss = loss or smoothed_cross_entropy(0.0)
    net = copy.deepcopy(net).eval()  # its batch norms are estimated anew for every option
    batches = subset(data, "validation", images, seed)
    base = {choice.name: choice.options[0 if choice.kind == "op" else -1] for choice in net.choices()}

    @cache
    def loss_of(**changed: int) -> float:
        values = base | changed
        gates = one_hot_gates(net.choices(), values)
        gates.weights = gates.weights.to(net.alpha.device)

        def forward(x: Tensor) -> Tensor:
            return net(x, gates)

        reestimate_batchnorm(net, data, max(1, images // (2 * BATCH)), forward=forward, batch_size=BATCH, seed=seed)
        total = 0.0
        with torch.no_grad():
            for x, y in batches:
                x, y = on_device(net, x, y)
                total += float(loss(forward(x), y)) * len(x)
        return total / sum(len(x) for x, _ in batches)

    omega = np.zeros(net.alpha.shape)
    others = [(c, value) for c in net.choices() for value in c.options if value != base[c.name]]
    with Progress("sensitivity", len(others)) as progress:
        for choice, value in others:
            held = around(net, choice, base)
            increase = loss_of(**held, **{choice.name: value}) - loss_of(**held)
            omega[choice.index, choice.position(value)] = increase
            progress.step(increase=increase)
    finite = omega[np.isfinite(omega)]
    return np.where(np.isfinite(omega), omega, finite.max())


def around(net: Supernet, choice: Choice, base: Mapping[str, int]) -> dict[str, int]:
    """The operators, other than those of `base`, without which a choice decides nothing."""
    decided = []
    for node in net.nodes:
        widths = [net.width[group.name] for group in net.layout[node.name]]
        if choice in (net.weight.get(node.name), net.act.get(node.name), net.op.get(node.name), *widths):
            under = {net.op[mix].name: at for mix, at in node.when}
            decided.append({name: at for name, at in under.items() if at != base[name]})
    return min(decided, key=len)


def full_width_first(
    choices: Sequence[Choice], schedule: Schedule, scores: np.ndarray, costs: Costs, limits: Sequence[Budget]
) -> np.ndarray:
    """`scores` with every cut of a width priced above all bits together, when an architecture of full widths fits;
    else `scores` as they are."""
    widths = [choice for choice in choices if choice.kind == "width"]
    closed = scores.copy()
    price = 1.0 + float(np.ptp(scores, axis=1).sum())
    for choice in widths:
        closed[choice.index, : len(choice.options) - 1] -= price
    (best,) = solve(choices, schedule, closed, costs, limits, n=1)
    full = all(best.choices[choice.name] == choice.options[-1] for choice in widths)
    return closed if full else scores


def subset(data: Any, split: str, images: int, seed: int) -> list[tuple[Tensor, Any]]:
    """Batches of a split until `images` are seen, shuffled where the data can be, the same for every call."""
    batches, seen = [], 0
    for x, y in data.batches(split, min(BATCH, images), True, False, torch.Generator().manual_seed(seed)):
        batches.append((x, y))
        seen += len(x)
        if seen >= images:
            break
    require_batches(seen, split)
    return batches
