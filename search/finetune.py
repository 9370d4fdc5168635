"""Fine-tuning an extracted subnet: weights and LSQ steps together, on the training split, chosen on validation.

Step sizes (parameters named `..step`) take a lower learning rate and no decay: they sit at the scale of one code, where
decay would shrink the range (LSQ, Esser 2020, arXiv:1902.08153, scales their gradient for the same reason). The float
network, when given, teaches through its softened scores (Hinton et al. 2015).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from .config import FinetuneConfig
from .evaluate import Metric, reestimate_batchnorm, top1
from .progress import Metrics
from .teacher import Teacher
from .train import Loss, train
from .user_code import as_data

Net = TypeVar("Net", bound=nn.Module)


def finetune(
    subnet: Net,
    loaders: Any,
    teacher: nn.Module | Teacher | None = None,
    epochs: int | None = None,
    *,
    config: FinetuneConfig | None = None,
    loss: Loss | None = None,
    metric: Metric = top1,
    seed: int = 0,
    augment: bool = True,
    phase: str = "finetune",
    metrics: Metrics | None = None,
    checkpoint: str | Path | None = None,
) -> Net:
    """Train `subnet` in place and return it, in eval mode, as it was after its best epoch on validation.

    loaders: a `search.data.DataSource`, or train, validation and test iterables of (x, y). teacher: a network with the
    same outputs, left as it is, or a `search.teacher.Teacher`, which several fine-tunings may share; `config.distill`
    is its share of the loss. `epochs` overrides the config's. Batch-norm statistics are estimated anew first, since a
    subnet inherits those of a mixture. With `checkpoint`, an interrupted run continues. Raises InputError for unusable
    data, DivergedError when the loss is not finite.
    """
    recipe = config or FinetuneConfig()
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    if recipe.teacher == "none":
        teacher = None
    data = as_data(loaders, classes=loss is None)
    reestimate_batchnorm(subnet, data, batch_size=recipe.batch_size, seed=seed)
    train(
        subnet,
        data,
        recipe,
        loss=loss,
        metric=metric,
        teacher=teacher,
        seed=seed,
        augment=augment,
        phase=phase,
        metrics=metrics,
        checkpoint=checkpoint,
    )
    return subnet
