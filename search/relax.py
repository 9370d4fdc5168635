"""Relaxations: how a discrete choice with logits alpha becomes weights through which a gradient can flow.

With p = softmax(alpha), G standard Gumbel noise, tau a temperature and e_i the i-th unit vector:

    softmax    w = softmax(alpha / tau)                                      DARTS (Liu 2019), eq. 2
    gumbel     w = softmax((alpha + G) / tau)                                Jang 2017, eq. 2; DNAS (Wu 2018), eq. 8
    gumbel_st  w = e_argmax(alpha + G), with gumbel's gradient               Jang 2017, sec. 2.2
    gdas       as gumbel_st, only the sampled option runs                    GDAS (Dong 2019), eqs. 5-7
    two_path   two options a, b run, w = e_a or e_b; dL/dalpha below         ProxylessNAS (Cai 2019), eqs. 3-4, sec. 3.2
    reinforce  w = e_i, i ~ p; grad = (L - baseline) grad log p              Williams 1992; ProxylessNAS, sec. 3.3.2

All choices are sampled at once from one padded matrix: alpha (choices, options), -inf on the padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Generator, Tensor

from supernet.choice import Gates


class Relaxation(Protocol):
    """What the search loop does with any method, in this order: sample, loss, optimizer step, after_step.

    sample: alpha (choices, options) -> Gates whose rows sum to 1 and whose padding is exactly 0.
    loss: from task loss and cost penalty, both () tensors of the sampled network, to the scalar to differentiate.
    after_step: called with the alpha parameter once the optimizer has changed it.
    anneal: progress of the search in [0, 1].
    """

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates: ...
    def loss(self, task: Tensor, cost: Tensor, gates: Gates) -> Tensor: ...
    def after_step(self, alpha: Tensor) -> None: ...
    def anneal(self, progress: float) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def gumbel_noise(alpha: Tensor, generator: Generator | None) -> Tensor:
    """Standard Gumbel noise like alpha: argmax(alpha + noise) is a draw from softmax(alpha). Drawn on the CPU: a seed
    gives the same draws on every device."""
    exponential = torch.empty(alpha.shape, dtype=alpha.dtype).exponential_(generator=generator)
    return -exponential.clamp_min(torch.finfo(alpha.dtype).tiny).log().to(alpha.device)


def one_hot(scores: Tensor) -> Tensor:
    """(choices, options) with 1 at each row's largest score."""
    return torch.zeros_like(scores).scatter(1, scores.argmax(1, keepdim=True), 1)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, to the bit, with the gradient of `soft`."""
    return hard + (soft - soft.detach())


class _Annealed:
    """A temperature from `start` to `end` over the search; the plain loss; nothing to do after a step."""

    def __init__(self, start: float, end: float, shape: Literal["exponential", "linear"] = "exponential"):
        if not (start > 0 and end > 0):
            raise ValueError(f"tau: {start} to {end}: temperatures are positive")
        self.start, self.end, self.shape = start, end, shape
        self.tau = start

    def anneal(self, progress: float) -> None:
        if self.shape == "linear":
            self.tau = self.start + (self.end - self.start) * progress
        else:
            self.tau = self.start * (self.end / self.start) ** progress

    def loss(self, task: Tensor, cost: Tensor, gates: Gates) -> Tensor:
        return task + cost

    def after_step(self, alpha: Tensor) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"tau": self.tau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tau = float(state["tau"])


class Softmax(_Annealed):
    """All options, weighted by their probabilities; no noise."""

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates:
        return Gates(torch.softmax(alpha / self.tau, 1))


class Gumbel(_Annealed):
    """Gumbel-softmax; `hard` gives one-hot values with the soft gradient, for which all options must run."""

    def __init__(self, start: float, end: float, hard: bool):
        super().__init__(start, end)
        self.hard = hard

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates:
        soft = torch.softmax((alpha + gumbel_noise(alpha, generator)) / self.tau, 1)
        return Gates(straight_through(one_hot(soft.detach()), soft) if self.hard else soft)


class Gdas(_Annealed):
    """One option runs, so the task's gradient enters through its gate alone; the cost's, known for all, through all."""

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates:
        soft = torch.softmax((alpha + gumbel_noise(alpha, generator)) / self.tau, 1)
        hard = one_hot(soft.detach())
        return Gates(straight_through(hard, soft), run=hard.bool())


class TwoPath(_Annealed):
    """Binary gates on two options drawn without replacement from softmax(alpha).

    q = softmax(alpha) over the two; the active one is drawn from q; dL/dalpha_i = sum_j dL/dg_j q_j (delta_ij - q_i)
    for i, j among the two (the authors' code; in the paper the sum is over all options). After the step the two alphas
    are shifted so that every other option keeps its probability. Logits that need no gradient (the weight step) run the
    active option only.
    """

    def __init__(self) -> None:
        super().__init__(1.0, 1.0)
        self._pair: Tensor | None = None
        self._before: Tensor | None = None

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates:
        noisy = alpha.detach() + gumbel_noise(alpha, generator)
        top = noisy.topk(min(2, alpha.shape[1]), dim=1).indices
        pair = torch.zeros_like(noisy, dtype=torch.bool).scatter(1, top, True) & torch.isfinite(noisy)
        shown = alpha.masked_fill(~pair, -torch.inf)
        active = one_hot(shown.detach() + gumbel_noise(alpha, generator))
        if not alpha.requires_grad:
            return Gates(active, run=active.bool())
        self._pair, self._before = pair, alpha.detach().clone()
        return Gates(straight_through(active, torch.softmax(shown, 1)), run=pair)

    @torch.no_grad()
    def after_step(self, alpha: Tensor) -> None:
        if self._pair is None or self._before is None:
            return
        pair, before = self._pair, self._before
        mass = [a.masked_fill(~pair, -torch.inf).logsumexp(1, keepdim=True) for a in (before, alpha)]
        others = torch.where(torch.isfinite(before), before, alpha)  # an optimizer with momentum moves them too
        alpha.copy_(torch.where(pair, alpha + (mass[0] - mass[1]), others))
        self._pair = self._before = None


class Reinforce(_Annealed):
    """Score function: the sampled option runs; the loss, less a moving average, weighs the sample's log-probability."""

    def __init__(self, momentum: float):
        super().__init__(1.0, 1.0)
        self.momentum = momentum
        self.baseline: float | None = None

    def sample(self, alpha: Tensor, generator: Generator | None = None) -> Gates:
        hard = one_hot(alpha.detach() + gumbel_noise(alpha, generator))
        log_prob = torch.log_softmax(alpha, 1).masked_fill(hard == 0, 0).sum()
        return Gates(hard, run=hard.bool(), log_prob=log_prob)

    def loss(self, task: Tensor, cost: Tensor, gates: Gates) -> Tensor:
        assert gates.log_prob is not None, "gates of another relaxation"
        total = task + cost
        value = float(total.detach())
        advantage = value - (value if self.baseline is None else self.baseline)
        self.baseline = value - self.momentum * advantage
        return total + advantage * (gates.log_prob - gates.log_prob.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"baseline": self.baseline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.baseline = state["baseline"]


def softmax(tau: float = 1.0, tau_end: float | None = None) -> Relaxation:
    """DARTS's continuous relaxation; a constant temperature unless `tau_end` is given."""
    return Softmax(tau, tau if tau_end is None else tau_end)


def gumbel(tau: float = 5.0, tau_end: float = 0.2, hard: bool = False) -> Relaxation:
    """Gumbel-softmax with temperature tau (tau_end / tau)^progress, as DNAS and FBNet anneal it."""
    return Gumbel(tau, tau_end, hard)


def gumbel_st(tau: float = 5.0, tau_end: float = 0.2) -> Relaxation:
    """Straight-through Gumbel-softmax: one-hot forward, soft backward."""
    return Gumbel(tau, tau_end, hard=True)


def gdas(tau: float = 10.0, tau_end: float = 0.1) -> Relaxation:
    """GDAS; its temperature falls linearly."""
    return Gdas(tau, tau_end, "linear")


def two_path() -> Relaxation:
    """ProxylessNAS's binary gates, two paths in an architecture step."""
    return TwoPath()


def reinforce(momentum: float = 0.9) -> Relaxation:
    """Score-function gradient with a moving-average baseline."""
    return Reinforce(momentum)


RELAXATIONS: dict[str, Callable[..., Relaxation]] = {
    "softmax": softmax,
    "gumbel": gumbel,
    "gumbel_st": gumbel_st,
    "gdas": gdas,
    "two_path": two_path,
    "reinforce": reinforce,
}
