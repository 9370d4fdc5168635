"""Layers that are used several times: which primitives have the same parameters.

Every use is an operator of its own, with the padding, the activation and the quantizer of its place; weights, bias,
step sizes, weight bits and channels are one for all (a detector's head on every scale: Lin et al. 2017,
arXiv:1708.02002). A batch norm may be shared like the layer or belong to one use. A deployed network has the constants
of every operator, so costs count them per use.
"""

from __future__ import annotations

import torch
from torch import nn

from .nodes import Node
from .primitives import RawOp

SETTINGS = ("groups", "eps", "momentum")
"""What all uses of a layer or norm have in common, beside its tensors."""


def share(ops: list[RawOp]) -> None:
    """Set `shares` of every use but the first. Raises InputError for layers that have parameters in common and are not
    the same."""
    owners: dict[int, RawOp] = {}
    for raw in ops:
        first = next((owners[id(root)] for root in raw.roots if id(root) in owners), raw)
        if first is not raw:
            _check(first, raw)
            raw.shares = first.name
        owners.update((id(root), first) for root in raw.roots)


def _check(first: RawOp, raw: RawOp) -> None:
    if {first.op, raw.op} == {"conv", "linear"}:
        raise raw.refusal(f"'{first.name}' is the same layer, one on vectors and one on images; give each its own copy")
    same = set(map(id, first.roots)) == set(map(id, raw.roots)) and first.op == raw.op
    one, other = ([getattr(op.module, word, None) for word in SETTINGS] for op in (first, raw))
    if not same or one != other or not _equal(first.module, raw.module):
        raise raw.refusal(
            f"it holds the weights of '{first.name}' and is not the same layer; give each use its own copy"
        )


def _equal(a: nn.Module | None, b: nn.Module | None) -> bool:
    """Whether two layers hold the same values."""
    assert a is not None and b is not None
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def owned(nodes: list[Node]) -> None:
    """Let the first of the nodes that share a layer, or a norm, be the one that the others name."""
    for word in ("layer_of", "norm_of"):
        first: dict[str, str] = {}
        for node in nodes:
            owner = first.setdefault(getattr(node, word) or node.name, node.name)
            setattr(node, word, "" if owner == node.name else owner)
