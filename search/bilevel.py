"""The search loop: weights descend the training loss, alphas the objective, each with an optimizer of its own.

    alternate   w <- w - lr grad_w L_train(w, alpha)                after every `arch_every` weight steps:
                alpha <- Adam(grad_alpha objective(L_validation(w, alpha), E[costs]))      DARTS (Liu 2019), first order
    joint       both from one training batch's objective            FBNet and DNAS without the split

Warm-up epochs train the weights under gates sampled from the initial alphas. Architecture steps leave batch norm's
running statistics alone. A checkpoint after every epoch holds all that the next one depends on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lut.errors import InputError
from supernet.arch import Arch
from supernet.choice import Choice, Gates, one_hot_gates

from .accelerator import device_of, mixed
from .batches import training_batches, training_steps
from .budget import Budget
from .checkpoint import Checkpoint
from .compiled import Compiled, training_step
from .config import SearchConfig
from .evaluate import Data, Metric, evaluate, on_device, require_batches, require_own, top1
from .objective import OBJECTIVES, Objective, due
from .progress import Metrics, Progress, Stopwatch
from .relax import RELAXATIONS, Relaxation
from .train import Loss, descend, parameter_groups, schedule, set_rate, smoothed_cross_entropy

Cost = Callable[[Gates], Tensor]
TEMPERED = ("softmax", "gumbel", "gumbel_st", "gdas")


class SearchNet(Protocol):
    """The part of supernet.Supernet that the loop uses; it is an nn.Module too."""

    def __call__(self, x: Tensor, gates: Gates | None = None) -> Tensor: ...
    def choices(self) -> tuple[Choice, ...]: ...
    def sample(self, relaxation: Relaxation, generator: torch.Generator | None = None) -> Gates: ...
    def logits(self) -> Tensor: ...
    def weight_parameters(self) -> list[nn.Parameter]: ...
    def arch_parameters(self) -> list[nn.Parameter]: ...
    def arch(self) -> Arch: ...
    def kept_statistics(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class SearchResult:
    """arch: the most probable option of every choice, with its costs. scores: log-probabilities (choices, options),
    what `solve` takes. probabilities: by choice name. history: one row per epoch, as in metrics.jsonl."""

    arch: Arch
    scores: Tensor
    probabilities: Mapping[str, tuple[float, ...]]
    history: tuple[Mapping[str, Any], ...]


def run_search(
    net: Any,
    data: Data,
    costs: Mapping[str, Cost],
    budgets: Sequence[Budget],
    config: SearchConfig | None = None,
    *,
    objective: Objective | None = None,
    relaxation: Relaxation | None = None,
    loss: Loss | None = None,
    metric: Metric = top1,
    augment: bool = True,
    folder: str | Path | None = None,
) -> SearchResult:
    """Warm up, then search; `net` (a SearchNet) is left with the last weights and alphas, in eval mode.

    costs: expected cost () in base units by metric, all logged, those of `budgets` (resolved) held by the objective.
    objective, relaxation: instead of those that `config` names. With `folder`, rows go to metrics.jsonl and the state
    to last.pt after every epoch; a run that finds last.pt continues to the bit. Raises DivergedError, and InputError
    for a last.pt of other settings, another space or another network, and for a search without architecture steps.
    """
    config = config or SearchConfig()
    require_own(net, loss, metric)
    require_arch_steps(config, data)
    limits = {b.metric: b.limit for b in budgets}
    loop = SearchLoop(
        net,
        data,
        costs,
        limits,
        config,
        objective or make_objective(config, budgets),
        relaxation or make_relaxation(config),
        loss or smoothed_cross_entropy(config.label_smoothing),
        metric,
        augment,
    )
    metrics = Metrics(Path(folder) / "metrics.jsonl" if folder else None)
    settings = {name: value for name, value in asdict(config).items() if name != "trial_epochs"}  # they come after it
    settings |= {"limits": limits, "space": net.arch().space}
    saved = Checkpoint(Path(folder) / "last.pt", "search", settings, added=("space", "precision")) if folder else None
    if saved and (state := saved.load()):
        with saved.restoring():
            loop.load_state_dict(state)
    metrics.rewind(("warmup", "search"), loop.epoch)
    with Progress("search", loop.steps * (loop.epochs - loop.epoch)) as progress:
        while loop.epoch < loop.epochs:
            metrics.append(loop.run_epoch(progress))
            if saved:
                saved.save(loop.state_dict())
    net.eval()
    return loop.result()


def make_relaxation(config: SearchConfig) -> Relaxation:
    """The relaxation that the settings name; temperatures left out are the method's own."""
    given = {"tau": config.tau, "tau_end": config.tau_end} if config.relaxation in TEMPERED else {}
    return RELAXATIONS[config.relaxation](**{name: value for name, value in given.items() if value is not None})


def make_objective(config: SearchConfig, budgets: Sequence[Budget]) -> Objective:
    """The objective that the settings name; a penalty left out is the method's own."""
    return OBJECTIVES[config.objective](budgets, *([] if config.penalty is None else [config.penalty]))


def require_arch_steps(config: SearchConfig, data: Data) -> None:
    """InputError when a search ends before its first architecture step."""
    steps = training_steps(data, config.batch_size) * config.epochs
    if config.update == "alternate" and 0 < steps < config.arch_every:
        raise InputError(
            f"search.arch_every: {config.arch_every}: the search has {steps} weight steps ({config.epochs} epochs), so "
            f"no architecture step; give at most {steps}, or more epochs"
        )


class SearchLoop:
    """The state of a search and its steps; `run_search` drives it epoch by epoch."""

    def __init__(
        self,
        net: Any,
        data: Data,
        costs: Mapping[str, Cost],
        limits: Mapping[str, float],
        config: SearchConfig,
        objective: Objective,
        relaxation: Relaxation,
        loss: Loss,
        metric: Metric,
        augment: bool,
    ) -> None:
        self.net, self.data, self.costs, self.limits, self.config = net, data, costs, limits, config
        self.objective, self.relaxation, self.loss, self.metric = objective, relaxation, loss, metric
        self.augment = augment
        if missing := sorted(set(limits) - set(costs)):
            raise ValueError(f"costs: no cost model for the budget's metric '{missing[0]}'")
        self.weights, self.alphas = net.weight_parameters(), net.arch_parameters()
        groups = parameter_groups(net, self.weights, config.lr, config.weight_decay, config.step_lr)
        self.weight_optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas, lr=config.alpha_lr, betas=(0.5, 0.999), weight_decay=config.alpha_decay
        )
        self.steps = training_steps(data, config.batch_size)
        self.epochs, self.epoch = config.warmup_epochs + config.epochs, 0
        whole = data.size("train") // config.batch_size * self.epochs
        partial = net.sample(copy.deepcopy(relaxation), torch.Generator()).run is not None  # which is never compiled
        step = training_step(net, "never" if partial else config.compile, whole, config.batch_size)
        self.compiled = isinstance(step, Compiled)
        self.forward = mixed(step, device_of(net), config.precision)
        self.order = torch.Generator().manual_seed(config.seed)  # of batches, and their augmentation
        self.noise = torch.Generator().manual_seed(config.seed)  # of sampled gates
        self.taken = 0  # steps of the search, without warm-up's
        self.history: list[dict[str, Any]] = []

    def run_epoch(self, progress: Progress) -> dict[str, Any]:
        """One pass over the training split; returns the epoch's row."""
        watch, config = Stopwatch(), self.config
        searching = self.epoch >= config.warmup_epochs
        phase = "search" if searching else "warmup"
        total, seen, seen_costs, since = 0.0, 0, list[dict[str, float]](), 0
        validation = self.batches_without_end("validation") if searching and config.update == "alternate" else None
        every = 1 if config.update == "joint" else config.arch_every
        ahead = (self.taken + self.steps) // every - self.taken // every
        self.net.train()
        for step, (x, y) in enumerate(self.batches("train")):
            done = self.epoch + step / self.steps
            set_rate(self.weight_optimizer, schedule(done, self.epochs, min(1.0, self.epochs / 2)))
            self.relaxation.anneal(min(max(0.0, (done - config.warmup_epochs) / max(config.epochs, 1)), 1.0))
            where = f"{phase}: epoch {self.epoch}, step {step}"
            if searching and config.update == "joint":
                task, costs = self.joint_step(x, y, where)
                seen_costs.append(costs)
            else:
                task = self.weight_step(x, y, where)
                if validation is not None and (self.taken + 1) % every == 0:
                    seen_costs.append(self.arch_step(*next(validation), where))
            self.taken += searching
            if due(len(seen_costs), ahead) > due(since, ahead):
                self.objective.update(mean(seen_costs[since:]))
                since = len(seen_costs)
            total, seen = total + task * len(x), seen + len(x)
            progress.step(epoch=self.epoch, loss=total / seen)
        require_batches(seen, "train")
        expected = mean(seen_costs)
        if expected:
            self.objective.end_epoch(expected)
        score = evaluate(self.net, self.data, "validation", self.metric)
        row = {"phase": phase, "epoch": self.epoch, "loss": total / seen, "metric": score}
        if searching:
            row |= self.describe(expected)
        row |= watch.lap()
        self.epoch += 1
        self.history.append(row)
        return row

    def weight_step(self, x: Tensor, y: Any, where: str) -> float:
        """Weights alone, on a training batch; the task loss."""
        with self.untouched(self.alphas):
            task = self.loss(self.forward(x, self.net.sample(self.relaxation, self.noise)), y)
            descend(task, [self.weight_optimizer], self.weights, self.config.clip, where)
        return task.item()

    def arch_step(self, x: Tensor, y: Any, where: str) -> dict[str, float]:
        """Alphas alone, on a validation batch, running statistics untouched; the expected costs."""
        with self.net.kept_statistics(), self.untouched(self.weights):
            value, _, expected = self.penalised(x, y)
            descend(value, [self.alpha_optimizer], self.alphas, None, f"{where}, architecture")
        self.relaxation.after_step(self.alphas[0])
        return expected

    def joint_step(self, x: Tensor, y: Any, where: str) -> tuple[float, dict[str, float]]:
        """Weights and alphas from one training batch; the task loss and the expected costs."""
        value, task, expected = self.penalised(x, y)
        descend(value, [self.weight_optimizer, self.alpha_optimizer], self.weights, self.config.clip, where)
        self.relaxation.after_step(self.alphas[0])
        return task, expected

    def penalised(self, x: Tensor, y: Any) -> tuple[Tensor, float, dict[str, float]]:
        """The scalar whose gradient the alphas follow, the task loss in it, and the expected costs."""
        gates = self.net.sample(self.relaxation, self.noise)
        task = self.loss(self.forward(x, gates), y)
        priced = Gates(gates.weights.cpu())  # hundreds of small products, of which a GPU would be slower
        expected = {metric: cost(priced).to(task.device) for metric, cost in self.costs.items()}
        value = self.relaxation.loss(task, self.objective(task, expected) - task, gates)
        return value, task.item(), {metric: cost.item() for metric, cost in expected.items()}

    def untouched(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """No gradients for these inside, where that saves time: a compiled step would need another graph, and every
        optimizer clears its own before it uses them."""
        return nullcontext() if self.compiled else frozen(parameters)

    def batches(self, split: str) -> Iterator[tuple[Tensor, Any]]:
        for x, y in training_batches(self.data, split, self.config.batch_size, self.augment, self.order):
            yield on_device(self.net, x, y)

    def batches_without_end(self, split: str) -> Iterator[tuple[Tensor, Any]]:
        while True:
            yield from self.batches(split)

    @torch.no_grad()
    def describe(self, expected: Mapping[str, float]) -> dict[str, Any]:
        """What the log says of the architecture: entropies, costs in expectation and of the argmax, multipliers."""
        arch = self.net.arch()
        gates = one_hot_gates(self.net.choices(), dict(arch.choices))
        return {
            "entropy": entropy(self.net.choices(), self.probabilities()),
            "costs": dict(expected),
            "arch_costs": {metric: cost(gates).item() for metric, cost in self.costs.items()},
            "limits": dict(self.limits),
            "multipliers": dict(self.objective.state_dict().get("multipliers", {})),
            "arch": dict(arch.choices),
        }

    def probabilities(self) -> Tensor:
        return torch.softmax(self.net.logits().detach(), 1)

    @torch.no_grad()
    def result(self) -> SearchResult:
        arch, table = self.net.arch(), self.probabilities()
        gates = one_hot_gates(self.net.choices(), dict(arch.choices))
        predicted = {metric: cost(gates).item() for metric, cost in self.costs.items()}
        return SearchResult(
            Arch(arch.choices, arch.space, predicted, self.config.seed),
            torch.log_softmax(self.net.logits().detach(), 1).cpu(),
            {c.name: tuple(table[c.index, : len(c.options)].tolist()) for c in self.net.choices()},
            tuple(self.history),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "relaxation": self.relaxation.state_dict(),
            "order": self.order.get_state(),
            "noise": self.noise.get_state(),
            "epoch": self.epoch,
            "taken": self.taken,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for part in ("net", "weight_optimizer", "alpha_optimizer", "objective", "relaxation"):
            getattr(self, part).load_state_dict(state[part])
        self.order.set_state(state["order"])
        self.noise.set_state(state["noise"])
        self.epoch, self.history = state["epoch"], list(state["history"])
        self.taken = state.get("taken", max(0, self.epoch - self.config.warmup_epochs) * self.steps)


def mean(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By metric; empty for none."""
    return {metric: sum(each[metric] for each in costs) / len(costs) for metric in costs[0]} if costs else {}


def entropy(choices: Iterable[Choice], probabilities: Tensor) -> dict[str, float]:
    """Mean entropy of the open choices by kind, as a share of log(options): 1 undecided, 0 decided."""
    shares: dict[str, list[float]] = {}
    for choice in choices:
        if not choice.pinned:
            p = probabilities[choice.index, : len(choice.options)]
            nats = torch.special.entr(p).sum().item()
            shares.setdefault(choice.kind, []).append(nats / torch.tensor(float(len(choice.options))).log().item())
    return {kind: sum(values) / len(values) for kind, values in shares.items()}


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters inside."""
    former = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, value in zip(parameters, former):
            parameter.requires_grad_(value)
