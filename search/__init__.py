"""Budgeted search: relaxations, objectives, the solver, training, and the whole chain."""

from .budget import Budget
from .choose import search
from .finetune import finetune

__all__ = ["Budget", "finetune", "search"]
