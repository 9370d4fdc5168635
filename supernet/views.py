"""Tensors in other orders and shapes: which axes of (batch, channels, rows, columns) a user's tensor has.

A tensor is an operator's output with its axes in some order, a letter each: n c h w; f for c, h and w in one, s for
h and w, g and k for c as g groups of k. `nhwc` is channels last, `nc` a vector per image, `nhw` one channel. Axes of
one element may be absent. Reshaping keeps the order of elements, so two such words are the same tensor when they spell
the same letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Sizes = dict[str, int]
WORDS = ("nchw", "nhwc", "nc", "nch", "ncs", "nsc", "nf", "ngkhw", "nhw")
SHUFFLED = "nkghw"


@dataclass(frozen=True)
class View:
    """A user's tensor: an operator's output, the letters of its axes, channel groups. expanded: repeated over the
    image, which a product does by itself."""

    op: str
    axes: str = "nchw"
    groups: int = 1
    expanded: bool = False


def sizes(shape: tuple[int, int, int], batch: int, groups: int = 1) -> Sizes:
    """Of every letter; shape: (C, H, W)."""
    c, h, w = shape
    return {"n": batch, "c": c, "h": h, "w": w, "s": h * w, "f": c * h * w, "g": groups, "k": c // max(groups, 1)}


def shape_of(axes: str, size: Sizes) -> tuple[int, ...]:
    return tuple(size[letter] for letter in axes)


def _spelled(axes: str, size: Sizes, grouped: bool) -> str:
    """The letters that elements are ordered by, those of one element left out."""
    single = axes.replace("f", "chw").replace("s", "hw")
    if grouped:
        single = single.replace("c", "gk")
    return "".join(letter for letter in single if size[letter] > 1)


def reshaped(axes: str, size: Sizes, shape: tuple[int, ...]) -> tuple[str, int] | None:
    """(axes, groups) of a tensor of `shape` with the same elements in the same order; None where it has no word.

    A word of channels in groups that were transposed is `SHUFFLED`; when it is reshaped to channels, that is a shuffle:
    the answer is then ("shuffle", groups).
    """
    grouped = "g" in axes
    groups = size["g"]
    if len(shape) == 5 and not grouped:
        groups, grouped = shape[1], True
        if groups < 1 or size["c"] % groups:
            return None
    size = size | {"g": groups, "k": size["c"] // groups}
    mine = _spelled(axes, size, grouped)
    for word in WORDS:
        if shape_of(word, size) == shape and _spelled(word, size, grouped) == mine:
            return word, groups
    channels = [word for word in ("nchw", "nc") if shape_of(word, size) == shape]
    if axes == SHUFFLED and channels and prod(shape) == prod(shape_of("nchw", size)):
        return "shuffle", groups
    return None


def permuted(axes: str, order: list[int]) -> str:
    return "".join(axes[i] for i in order)


def swapped(axes: str, first: int, second: int) -> str:
    letters = list(axes)
    letters[first], letters[second] = letters[second], letters[first]
    return "".join(letters)
