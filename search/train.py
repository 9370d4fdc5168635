"""One training loop for plain networks and for supernets with fixed gates, and the pieces that the search shares.

Learning rate: linear ramp over `ramp_epochs`, a quarter of all epochs at most, then lr (1 + cos(pi t)) / 2. Weight
decay acts on matrices and filters alone, not on batch norm, biases or quantizer steps. Distillation (Hinton et al.
2015, arXiv:1503.02531), share a:
    (1 - a) loss(output, target) + a T^2 KL(softmax(teacher / T) || softmax(output / T))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lut.errors import InputError

from .accelerator import device_of, mixed
from .batches import training_batches, training_steps
from .checkpoint import Checkpoint, to_cpu
from .compiled import training_step
from .config import Recipe
from .evaluate import Data, Forward, Metric, evaluate, on_device, one_tensor, require_batches, require_own, top1
from .progress import Metrics, Progress, Stopwatch
from .teacher import Teacher

Loss = Callable[[Any, Any], Tensor]


class DivergedError(InputError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Trained:
    """metric: the best on validation, last reached after epoch `epoch` (from 0); the model holds its weights."""

    metric: float
    epoch: int
    epochs_run: int


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    forward: Forward | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    loss: Loss | None = None,
    metric: Metric = top1,
    teacher: nn.Module | Teacher | None = None,
    seed: int = 0,
    augment: bool = True,
    phase: str = "train",
    metrics: Metrics | None = None,
    checkpoint: str | Path | None = None,
) -> Trained:
    """Train `model` in place and leave it, in eval mode, with the weights that were best on the validation split; of
    epochs that are equally good with the last one's, at the lowest learning rate.

    forward: model's call, e.g. with gates; parameters: those to train (default all). With `checkpoint`, the state is
    written there after every epoch, and a run that finds it continues to the bit. Rows (phase, epoch, loss, metric,
    lr, cpu_seconds, wall_seconds) are appended to `metrics`. Raises DivergedError when the loss is not finite,
    InputError for several outputs without a loss and a metric for them, or with a teacher.
    """
    require_own(model, loss, metric, teacher if recipe.distill else None)
    weights = list(model.parameters() if parameters is None else parameters)
    optimizer = make_optimizer(recipe, parameter_groups(model, weights, recipe.lr, recipe.weight_decay, recipe.step_lr))
    criterion = loss or smoothed_cross_entropy(recipe.label_smoothing)
    metrics = metrics or Metrics()
    generator = torch.Generator().manual_seed(seed)
    settings = {**asdict(recipe), "seed": seed}
    saved = Checkpoint(Path(checkpoint), phase, settings, added=("precision",)) if checkpoint else None
    steps = training_steps(data, recipe.batch_size)
    whole = data.size("train") // recipe.batch_size  # batches of full size, which a compiled step needs
    ramp = min(recipe.ramp_epochs, recipe.epochs / 4)
    step_of = forward or training_step(model, recipe.compile, whole * recipe.epochs, recipe.batch_size)
    step_of = mixed(step_of, device_of(model), recipe.precision)
    epoch, best, best_epoch, improved, best_state = 0, -math.inf, -1, -1, to_cpu(model.state_dict())
    if saved and (state := saved.load()):
        with saved.restoring():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            generator.set_state(state["generator"])
            names = ("epoch", "best", "best_epoch", "improved", "best_state")
            epoch, best, best_epoch, improved, best_state = (state[name] for name in names)

    teach = Teacher(teacher, room=0) if isinstance(teacher, nn.Module) else teacher
    metrics.rewind((phase,), epoch)
    with Progress(phase, steps * (recipe.epochs - epoch)) as progress:
        while epoch < recipe.epochs and epoch - improved <= (recipe.patience or recipe.epochs):
            watch, total, seen = Stopwatch(), 0.0, 0
            model.train()
            for step, (x, y) in enumerate(training_batches(data, "train", recipe.batch_size, augment, generator)):
                set_rate(optimizer, schedule(epoch + step / steps, recipe.epochs, ramp))
                x, y = on_device(model, x, y)
                output = step_of(x)
                value = criterion(output, y)
                if teach is not None and recipe.distill:
                    value = torch.lerp(value, distillation(output, teach(x), recipe.temperature), recipe.distill)
                descend(value, [optimizer], weights, recipe.clip, f"{phase}: epoch {epoch}, step {step}")
                total, seen = total + value.item() * len(x), seen + len(x)
                progress.step(epoch=epoch, loss=total / seen)
            require_batches(seen, "train")
            score = evaluate(model, data, "validation", metric, forward=forward)
            if score > best:
                improved = epoch
            if score >= best:
                best, best_epoch, best_state = score, epoch, to_cpu(model.state_dict())
            rate = optimizer.param_groups[0]["lr"]
            metrics.append(
                {"phase": phase, "epoch": epoch, "loss": total / seen, "metric": score, "lr": rate, **watch.lap()}
            )
            epoch += 1
            if saved:
                saved.save(
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "generator": generator.get_state(),
                        "epoch": epoch,
                        "best": best,
                        "best_epoch": best_epoch,
                        "improved": improved,
                        "best_state": best_state,
                    }
                )
    model.load_state_dict(best_state)
    model.eval()
    if best_epoch < 0:  # no epoch was run, or none had a metric that compares
        best = evaluate(model, data, "validation", metric, forward=forward)
    return Trained(best, best_epoch, epoch)


def descend(
    value: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: Sequence[nn.Parameter],
    clip: float | None,
    where: str,
) -> None:
    """One step of each optimizer down the gradient of `value`, that of `parameters` clipped to the norm `clip`.

    Raises DivergedError when `value` is not finite.
    """
    if not torch.isfinite(value):
        rate = optimizers[0].param_groups[0]["lr"]
        raise DivergedError(
            f"{where}: the loss is {value.item()}; try a smaller lr than {rate:.3g}, a smaller clip, a longer ramp, "
            "and look for NaN or huge values in the data and in a loss of your own"
        )
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    value.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        optimizer.step()


def smoothed_cross_entropy(label_smoothing: float = 0.0) -> Loss:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        scores = one_tensor(output, "cross-entropy")
        return functional.cross_entropy(scores, target, label_smoothing=label_smoothing)

    return loss


def distillation(output: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softened class distributions, mean over the batch. output, and taught, the
    teacher's: scores (batch, classes)."""
    target = functional.log_softmax(taught / temperature, 1)
    student = functional.log_softmax(one_tensor(output, "distillation") / temperature, 1)
    return temperature**2 * functional.kl_div(student, target, reduction="batchmean", log_target=True)


def parameter_groups(
    model: nn.Module, parameters: list[nn.Parameter], lr: float, weight_decay: float, step_lr: float
) -> list[dict[str, Any]]:
    """Weights with decay; biases and norms without; quantizer steps (names that end in `step`) without, at lr step_lr.

    `base_lr` is what the schedule multiplies.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    steps = [p for p in parameters if names.get(id(p), "").endswith("step")]
    known = {id(p) for p in steps}
    matrices = [p for p in parameters if id(p) not in known and p.ndim > 1]
    vectors = [p for p in parameters if id(p) not in known and p.ndim <= 1]
    groups = [
        {"params": matrices, "base_lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "base_lr": lr, "weight_decay": 0.0},
        {"params": steps, "base_lr": lr * step_lr, "weight_decay": 0.0},
    ]
    return [{**group, "lr": group["base_lr"]} for group in groups if group["params"]]


def make_optimizer(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.lr)


def schedule(done: float, epochs: float, ramp: float) -> float:
    """Factor on the learning rate after `done` of `epochs` epochs: done / ramp + .05 up to 1, then half a cosine."""
    if done < ramp:
        return min(1.0, done / ramp + 0.05)
    return 0.5 * (1 + math.cos(math.pi * (done - ramp) / max(epochs - ramp, 1e-9)))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
