"""A softmax at the end of a model: the network makes the scores that it reads, and what it returns is their softmax.

So a device ends in integers, whose largest class is the same one, and needs no kernel for it.
"""

from __future__ import annotations

from dataclasses import replace

from .primitives import Traced, needed


def split_off(traced: Traced) -> Traced:
    """The primitives without the softmax operators that make outputs; those that others read too stay for them."""
    raws = {raw.name: raw for raw in traced.ops}
    ends = [raws[traced.outputs[position]] for position, _ in traced.form.leaves]
    softmax = tuple(leaf for leaf, raw in enumerate(ends) if raw.op == "softmax")
    made = [raw.inputs[0] if raw.op == "softmax" else raw.name for raw in ends]
    outputs = tuple(dict.fromkeys(made))
    leaves = tuple((outputs.index(name), axes) for name, (_, axes) in zip(made, traced.form.leaves))
    form = replace(traced.form, leaves=leaves, softmax=softmax)
    return traced._replace(ops=needed(traced.ops, outputs), outputs=outputs, form=form)
